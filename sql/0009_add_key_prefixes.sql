-- Workspaces can share a bucket: each stores its objects under a prefix, which is empty if the bucket is its own.
ALTER TABLE workspaces
    ADD COLUMN key_prefix text NOT NULL DEFAULT '',
    DROP CONSTRAINT workspaces_bucket_key,
    ADD UNIQUE (bucket, key_prefix);
