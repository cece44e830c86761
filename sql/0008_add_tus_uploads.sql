-- Uploads over tus: bytes in order, appended by one request at a time.
ALTER TABLE upload_sessions
    -- What the client told of the file, as it wrote it: tus repeats it. Null for a session that was not opened by tus.
    ADD COLUMN tus_metadata text,
    -- The request that appends holds the session until then, and renews it while it lives.
    ADD COLUMN writer uuid,
    ADD COLUMN writing_until timestamptz,
    -- Another request waits for it: its client may have come back over another connection.
    ADD COLUMN writer_is_asked boolean NOT NULL DEFAULT false,
    ADD CHECK ((writer IS NULL) = (writing_until IS NULL));
