-- Chat messages are ordered by Postgres's clock: ids are made by API processes, whose clocks can differ.
CREATE INDEX chat_messages_session_time ON chat_messages (workspace_id, session_id, created_at, id);
DROP INDEX chat_messages_session;

-- A file that is replaced stays the file of its document until it is removed, so that a deletion of the document
-- removes it too.
ALTER TABLE files ADD COLUMN document_id uuid;
CREATE INDEX files_replaced ON files (workspace_id, document_id) WHERE document_id IS NOT NULL;

-- Deliveries of events about a document are removed with it.
CREATE INDEX jobs_deliveries_about ON jobs (workspace_id, (payload -> 'data' ->> 'document_id')) WHERE kind = 'deliver';
