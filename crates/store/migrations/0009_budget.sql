-- The most fuel that the job may be metered, and the most that one item may take; nothing in a job without such a bound, of which open
-- items are never summed up.
ALTER TABLE jobs ADD COLUMN budget BIGINT;
ALTER TABLE jobs ADD COLUMN budget_item BIGINT;
