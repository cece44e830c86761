-- What a client declares of a file that it sends in parts, and what becomes of it.
ALTER TABLE upload_sessions
    -- Null for a file that comes in one request: its collection is known at the end.
    ADD COLUMN collection_id uuid,
    ADD COLUMN attributes jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN chunking jsonb,
    ADD COLUMN part_size_bytes bigint CHECK (part_size_bytes > 0),
    ADD COLUMN sha256 bytea CHECK (length(sha256) = 32),
    -- Who completes it holds it until then.
    ADD COLUMN completing_until timestamptz,
    ADD COLUMN document_id uuid,
    ADD COLUMN error jsonb,
    ADD CHECK ((status = 'completing') = (completing_until IS NOT NULL));
CREATE INDEX upload_sessions_completing ON upload_sessions (completing_until) WHERE status = 'completing';

-- Of a file that came in parts, a worker is the first to read the whole: it fills in what the client did not declare.
ALTER TABLE files ALTER COLUMN sha256 DROP NOT NULL;
