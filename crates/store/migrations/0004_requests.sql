-- What customers ask about their jobs, and do to them.

-- 1 while the customer lets the job rest: nothing of it is claimed.
ALTER TABLE jobs ADD COLUMN paused BIGINT NOT NULL DEFAULT 0;
-- The app's digest, so that a customer's jobs of one app are found; nothing in jobs that are older than this column.
ALTER TABLE jobs ADD COLUMN app {BYTES};
-- Parts before the first that was withheld; nothing while all were sent, which is what a service that knows no
-- withheld parts leaves.
ALTER TABLE jobs ADD COLUMN parts_sent BIGINT;
-- Up to which item of the last stage units have their part's number. A service that numbers none leaves it behind
-- `assembled`, and who asks for parts makes up for it.
ALTER TABLE jobs ADD COLUMN numbered BIGINT NOT NULL DEFAULT 0;
-- Since when its outputs are no longer to be read.
ALTER TABLE jobs ADD COLUMN results_gone_at BIGINT;
-- 1 while rows of outputs that are no longer to be read are still to be deleted.
ALTER TABLE jobs ADD COLUMN dropping BIGINT NOT NULL DEFAULT 0;
-- The number of the unit's first part, once it is assembled in the last stage.
ALTER TABLE units ADD COLUMN part BIGINT;

CREATE INDEX jobs_with_results ON jobs (ended_at, id) WHERE ended_at IS NOT NULL AND results_gone_at IS NULL;
CREATE INDEX jobs_dropping ON jobs (id) WHERE dropping = 1;
CREATE INDEX jobs_ended ON jobs (customer, state, id) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_of_app ON jobs (customer, app, id) WHERE ended_at IS NOT NULL;
CREATE INDEX units_by_part ON units (job, part) WHERE part IS NOT NULL;
CREATE INDEX replicas_with_reason ON replicas (job) WHERE reason IS NOT NULL;
-- Customers are found one by one, each with its first messages, however many of others stand before them.
CREATE INDEX outbox_of_customer ON outbox (customer, number, bytes);
