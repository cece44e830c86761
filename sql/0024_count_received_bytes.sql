-- A session that a page opens without declaring the file's size reserves what it has sent so far. Before, it reserved
-- nothing, so any number of such sessions could exceed the workspace's quota.
ALTER TABLE upload_sessions ADD COLUMN received_bytes bigint NOT NULL DEFAULT 0;
