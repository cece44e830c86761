-- Workspaces can share a bucket. Each stores its objects under a prefix, which is empty if it has its own bucket.
ALTER TABLE workspaces
    ADD COLUMN key_prefix text NOT NULL DEFAULT '',
    DROP CONSTRAINT workspaces_bucket_key,
    ADD UNIQUE (bucket, key_prefix);
