-- Multipart uploads: the properties that the client declared, and the outcome.
ALTER TABLE upload_sessions
    -- Null for a file sent in one request: its collection is known only at the end.
    ADD COLUMN collection_id uuid,
    ADD COLUMN attributes jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN chunking jsonb,
    ADD COLUMN part_size_bytes bigint CHECK (part_size_bytes > 0),
    ADD COLUMN sha256 bytea CHECK (length(sha256) = 32),
    -- End of the lease of the request that completes the session.
    ADD COLUMN completing_until timestamptz,
    ADD COLUMN document_id uuid,
    ADD COLUMN error jsonb,
    ADD CHECK ((status = 'completing') = (completing_until IS NOT NULL));
CREATE INDEX upload_sessions_completing ON upload_sessions (completing_until) WHERE status = 'completing';

-- The first process to read a whole multipart file is a worker; it stores the hash if the client declared none.
ALTER TABLE files ALTER COLUMN sha256 DROP NOT NULL;
