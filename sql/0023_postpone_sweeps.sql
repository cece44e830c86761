-- An item whose sweep failed is left alone until this time, so that a batch of failing items (for example those of one
-- workspace's broken bucket) does not crowd out all others.
ALTER TABLE upload_sessions ADD COLUMN sweep_after timestamptz;
ALTER TABLE files ADD COLUMN sweep_after timestamptz;
ALTER TABLE canonical_text ADD COLUMN sweep_after timestamptz;
