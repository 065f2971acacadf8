-- What a customer may use, and which blobs are whose.

-- Limits that were never set are the grid's, whatever those are in the version that reads; the budget has no end then.
ALTER TABLE customers ADD COLUMN message_bytes BIGINT;
ALTER TABLE customers ADD COLUMN requests_per_second BIGINT;
ALTER TABLE customers ADD COLUMN jobs BIGINT;
ALTER TABLE customers ADD COLUMN units BIGINT;
ALTER TABLE customers ADD COLUMN stored_bytes BIGINT;
ALTER TABLE customers ADD COLUMN fuel_per_month BIGINT;
-- Nothing for those that a service wrote which did not know it: their first job tells.
ALTER TABLE customers ADD COLUMN created_at BIGINT;

-- What customers upload. A row counts in the customer's stored bytes from its first part on.
CREATE TABLE uploads (
    number {SEQUENCE},
    customer TEXT NOT NULL,
    digest {BYTES} NOT NULL,
    size BIGINT NOT NULL,
    -- bytes that this customer has itself sent
    received BIGINT NOT NULL DEFAULT 0,
    -- 1 once these are all, of this digest, and in blob_parts
    whole BIGINT NOT NULL DEFAULT 0,
    begun_at BIGINT NOT NULL,
    UNIQUE (customer, digest)
);
CREATE INDEX uploads_of_blob ON uploads (digest, size);
CREATE INDEX uploads_of_customer ON uploads (customer, size);
CREATE INDEX uploads_begun ON uploads (begun_at) WHERE whole = 0;

-- Parts of uploads that are not whole. Each customer's are its own, so that nobody can spoil what another sends.
CREATE TABLE upload_parts (
    upload BIGINT NOT NULL,
    start BIGINT NOT NULL,
    -- nothing where the same bytes are in blob_parts
    data {BYTES},
    PRIMARY KEY (upload, start)
);

-- 1 for what the grid itself wrote (artefacts, briefs) and for what is older than uploads: it is never dropped.
ALTER TABLE blobs ADD COLUMN kept BIGINT NOT NULL DEFAULT 1;
CREATE INDEX apps_artefact ON apps (artefact);

-- Blobs that jobs need which have not ended.
CREATE TABLE job_blobs (
    digest {BYTES} NOT NULL,
    customer TEXT NOT NULL,
    job {BYTES} NOT NULL,
    PRIMARY KEY (digest, customer, job)
) {CLUSTERED};
CREATE INDEX job_blobs_of_job ON job_blobs (job);
-- 0 in jobs that were admitted by a service which does not write job_blobs.
ALTER TABLE jobs ADD COLUMN blobs_noted BIGINT NOT NULL DEFAULT 0;
CREATE INDEX jobs_not_noted ON jobs (id) WHERE state = 'running' AND blobs_noted = 0;

-- Among the jobs of its customer, higher first; 0 in jobs that are older than this column.
ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
CREATE INDEX jobs_in_turn ON jobs (customer, priority DESC, id) WHERE state = 'running';

-- Holds the fuel, so that the fuel of a month is summed without reading the rows.
CREATE INDEX ledger_by_customer_and_time ON ledger (customer, recorded_at, fuel);
