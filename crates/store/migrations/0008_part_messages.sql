-- Which messages sent the parts of uploads, whole or not: they are handled once the upload is given up, and forgotten with one that is
-- dropped otherwise. Apart from upload_parts, which go when the upload is whole, and since several may send one part. What a service of
-- the version before wrote has no message; rows of an upload that it dropped stay, and its number does not come again.
CREATE TABLE part_messages (
    upload BIGINT NOT NULL,
    start BIGINT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (upload, start, message)
) {CLUSTERED};
