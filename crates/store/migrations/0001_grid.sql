-- The grid's tables. One text for both databases; three words in it are replaced for each:
--   {BYTES}      BYTEA | BLOB
--   {SEQUENCE}   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY | INTEGER PRIMARY KEY AUTOINCREMENT
--   {CLUSTERED}  nothing | WITHOUT ROWID: small rows are kept in the order of their key
-- Times are microseconds since 1970 UTC, digests 32 bytes, job ids the 16 bytes of a UUIDv7, truth 0 or 1.

CREATE TABLE customers (
    name TEXT PRIMARY KEY,
    weight BIGINT NOT NULL DEFAULT 1 CHECK (weight > 0)
);

CREATE TABLE apps (
    app {BYTES} NOT NULL,
    generation TEXT NOT NULL,
    artefact {BYTES},
    entry TEXT,
    meter TEXT,
    reduces BIGINT,
    manifest TEXT,
    rejected TEXT,
    PRIMARY KEY (app, generation)
);

CREATE TABLE blobs (
    digest {BYTES} NOT NULL,
    size BIGINT NOT NULL,
    parts BIGINT NOT NULL DEFAULT 0,
    whole BIGINT NOT NULL DEFAULT 0,
    attempt BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (digest, size)
);

CREATE TABLE blob_parts (
    digest {BYTES} NOT NULL,
    size BIGINT NOT NULL,
    start BIGINT NOT NULL,
    data {BYTES} NOT NULL,
    PRIMARY KEY (digest, size, start)
);

CREATE TABLE jobs (
    id {BYTES} PRIMARY KEY,
    customer TEXT NOT NULL,
    submission TEXT NOT NULL,
    submission_digest {BYTES} NOT NULL,
    correlation_id TEXT,
    content_type TEXT NOT NULL,
    traceparent TEXT,
    items BIGINT NOT NULL,
    brief {BYTES} NOT NULL,
    meter TEXT NOT NULL,
    admitted_at BIGINT NOT NULL,
    deadline_at BIGINT,
    state TEXT NOT NULL DEFAULT 'running',
    cancel_requested BIGINT NOT NULL DEFAULT 0,
    -- 1 when something happened that assembling has not yet seen
    to_assemble BIGINT NOT NULL DEFAULT 0,
    stage BIGINT NOT NULL DEFAULT 0,
    stage_items BIGINT NOT NULL,
    last_stage BIGINT NOT NULL,
    cursor_item BIGINT NOT NULL DEFAULT 0,
    cursor_byte BIGINT NOT NULL DEFAULT 0,
    next_unit BIGINT NOT NULL DEFAULT 0,
    -- sums over the current stage
    stage_valid_items BIGINT NOT NULL DEFAULT 0,
    stage_valid_units BIGINT NOT NULL DEFAULT 0,
    stage_fuel BIGINT NOT NULL DEFAULT 0,
    stage_compute_us BIGINT NOT NULL DEFAULT 0,
    stage_output_bytes BIGINT NOT NULL DEFAULT 0,
    -- sums over the job, kept as units settle
    items_succeeded BIGINT NOT NULL DEFAULT 0,
    items_failed BIGINT NOT NULL DEFAULT 0,
    valid_units BIGINT NOT NULL DEFAULT 0,
    failed_units BIGINT NOT NULL DEFAULT 0,
    replicas BIGINT NOT NULL DEFAULT 0,
    fuel BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    compute_us BIGINT NOT NULL DEFAULT 0,
    wasted_us BIGINT NOT NULL DEFAULT 0,
    last_reason TEXT,
    -- how far the current stage is assembled
    assembled BIGINT NOT NULL DEFAULT 0,
    chain {BYTES} NOT NULL,
    items_chain {BYTES},
    assembled_succeeded BIGINT NOT NULL DEFAULT 0,
    assembled_failed BIGINT NOT NULL DEFAULT 0,
    assembled_cancelled BIGINT NOT NULL DEFAULT 0,
    parts BIGINT NOT NULL DEFAULT 0,
    progress_at BIGINT,
    ended_at BIGINT,
    certificate {BYTES},
    UNIQUE (customer, submission)
);
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';
CREATE INDEX jobs_to_assemble ON jobs (id) WHERE state = 'running' AND to_assemble = 1;
CREATE INDEX jobs_deadline ON jobs (deadline_at) WHERE state = 'running';
CREATE INDEX jobs_of_customer ON jobs (customer, id);

-- Apart from jobs, whose rows change often while a specification may hold megabytes of items.
CREATE TABLE job_specs (
    job {BYTES} PRIMARY KEY,
    spec {BYTES} NOT NULL
);

-- Apart from jobs, so that claiming never waits for settling.
CREATE TABLE leases (
    job {BYTES} PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);
CREATE INDEX leases_of_owner ON leases (owner);

CREATE TABLE units (
    job {BYTES} NOT NULL,
    unit BIGINT NOT NULL,
    stage BIGINT NOT NULL,
    first_item BIGINT NOT NULL,
    end_item BIGINT NOT NULL,
    byte_from BIGINT NOT NULL,
    byte_to BIGINT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open',
    -- items without an output; all of them in a failed unit, which says why
    failed_items BIGINT NOT NULL DEFAULT 0,
    output_bytes BIGINT NOT NULL DEFAULT 0,
    reason TEXT,
    PRIMARY KEY (job, unit)
) {CLUSTERED};
CREATE UNIQUE INDEX units_by_item ON units (job, stage, first_item);
CREATE INDEX units_with_failures ON units (job, stage, first_item) WHERE failed_items > 0;

CREATE TABLE replicas (
    job {BYTES} NOT NULL,
    unit BIGINT NOT NULL,
    replica BIGINT NOT NULL,
    state TEXT NOT NULL DEFAULT 'due',
    not_before BIGINT NOT NULL DEFAULT 0,
    lane BIGINT,
    deadline BIGINT,
    host TEXT,
    meter TEXT,
    fuel BIGINT,
    output {BYTES},
    reason TEXT,
    compute_us BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (job, unit, replica)
) {CLUSTERED};
CREATE INDEX replicas_due ON replicas (job, not_before, unit, replica) WHERE state = 'due';
CREATE INDEX replicas_sent ON replicas (job, deadline) WHERE state = 'sent';

CREATE TABLE outputs (
    job {BYTES} NOT NULL,
    unit BIGINT NOT NULL,
    frame {BYTES} NOT NULL,
    PRIMARY KEY (job, unit)
);

-- Append-only: rows are never changed or removed.
CREATE TABLE ledger (
    number {SEQUENCE},
    job {BYTES} NOT NULL,
    unit BIGINT NOT NULL,
    customer TEXT NOT NULL,
    pool TEXT NOT NULL,
    meter TEXT NOT NULL,
    fuel BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    output {BYTES} NOT NULL,
    recorded_at BIGINT NOT NULL,
    UNIQUE (job, unit)
);
CREATE INDEX ledger_of_customer ON ledger (customer, number);
CREATE INDEX ledger_by_time ON ledger (recorded_at);

CREATE TABLE outbox (
    number {SEQUENCE},
    id TEXT NOT NULL UNIQUE,
    customer TEXT NOT NULL,
    -- not to be claimed before this time: claimed by someone until then, or refused by the broker
    held_until BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL,
    kind TEXT NOT NULL,
    content_type TEXT NOT NULL,
    correlation_id TEXT,
    traceparent TEXT,
    body {BYTES} NOT NULL
);
CREATE INDEX outbox_in_order ON outbox (number, customer, bytes);
CREATE INDEX outbox_held ON outbox (customer, number) WHERE held_until > 0;
