-- What customers' messages did that is done once: one that is delivered again does nothing. Forgotten after a week.
CREATE TABLE handled (
    customer TEXT NOT NULL,
    message_id TEXT NOT NULL,
    -- what it did, and to what: a message_id that was used for something else as well is in nobody's way
    act TEXT NOT NULL,
    handled_at BIGINT NOT NULL,
    -- bytes of the blob that it gave up: told again
    freed BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (customer, message_id, act)
) {CLUSTERED};
CREATE INDEX handled_by_time ON handled (handled_at);
