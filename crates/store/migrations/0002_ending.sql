-- How a job that is cut short will end, set when its open units are cancelled and kept until all of it is assembled.
ALTER TABLE jobs ADD COLUMN ending TEXT;
-- Bytes of a replica's items that succeeded: billed, so replicas must agree on them.
ALTER TABLE replicas ADD COLUMN input_bytes BIGINT;
