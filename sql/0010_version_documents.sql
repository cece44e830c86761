-- The next version of a document: the file being ingested and its attributes, while the previous version remains
-- searchable. Both are null unless a replacement is pending.
ALTER TABLE documents
    ADD COLUMN pending_file_id uuid,
    ADD COLUMN pending_attributes jsonb,
    ADD FOREIGN KEY (workspace_id, pending_file_id) REFERENCES files (workspace_id, id);
CREATE INDEX documents_pending_file ON documents (workspace_id, pending_file_id) WHERE pending_file_id IS NOT NULL;

-- Every build has a text, written before its chunks, so the leftover chunks of abandoned builds and superseded versions
-- can be found through the texts. A superseded text is kept until `keep_until`, or longer while a chat message cites
-- it.
ALTER TABLE canonical_text
    ADD COLUMN keep_until timestamptz,
    ADD COLUMN chunks_removed_at timestamptz;
CREATE INDEX canonical_text_with_leftovers ON canonical_text (workspace_id, document_id)
    WHERE version IS NULL OR (keep_until IS NOT NULL AND chunks_removed_at IS NULL);
CREATE INDEX canonical_text_superseded ON canonical_text (keep_until) WHERE keep_until IS NOT NULL;

-- Files whose object must still be removed.
CREATE INDEX files_released ON files (workspace_id, id) WHERE deletion_id IS NOT NULL;

-- Deleting a document also deletes its upload session.
CREATE INDEX upload_sessions_document ON upload_sessions (workspace_id, document_id) WHERE document_id IS NOT NULL;
