-- tus uploads: bytes are appended in order, by one request at a time.
ALTER TABLE upload_sessions
    -- The client's Upload-Metadata, verbatim, since HEAD returns it. Null for a session that was not opened over tus.
    ADD COLUMN tus_metadata text,
    -- The request that is appending, and the end of its lease, which it renews.
    ADD COLUMN writer uuid,
    ADD COLUMN writing_until timestamptz,
    -- Whether another request is waiting for the writer to yield, perhaps because the client has reconnected.
    ADD COLUMN writer_is_asked boolean NOT NULL DEFAULT false,
    ADD CHECK ((writer IS NULL) = (writing_until IS NULL));
