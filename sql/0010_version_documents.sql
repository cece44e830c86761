-- The next version of a document: the file that its ingestion reads, and the attributes that come with it, while the
-- version before answers. Both are null unless a new file waits to take the place of the old one.
ALTER TABLE documents
    ADD COLUMN pending_file_id uuid,
    ADD COLUMN pending_attributes jsonb,
    ADD FOREIGN KEY (workspace_id, pending_file_id) REFERENCES files (workspace_id, id);
CREATE INDEX documents_pending_file ON documents (workspace_id, pending_file_id) WHERE pending_file_id IS NOT NULL;

-- Every build has a text, written before its chunks, so the texts tell which chunks are left over: those of a build
-- that nobody works at any more, and those of a version that was superseded. Its text stays until `keep_until`, and
-- after that as long as a chat message cites it.
ALTER TABLE canonical_text
    ADD COLUMN keep_until timestamptz,
    ADD COLUMN chunks_removed_at timestamptz;
CREATE INDEX canonical_text_with_leftovers ON canonical_text (workspace_id, document_id)
    WHERE version IS NULL OR (keep_until IS NOT NULL AND chunks_removed_at IS NULL);
CREATE INDEX canonical_text_superseded ON canonical_text (keep_until) WHERE keep_until IS NOT NULL;

-- Files whose object is to be removed, by whoever comes next.
CREATE INDEX files_released ON files (workspace_id, id) WHERE deletion_id IS NOT NULL;

-- A deletion takes the upload of its document along.
CREATE INDEX upload_sessions_document ON upload_sessions (workspace_id, document_id) WHERE document_id IS NOT NULL;
