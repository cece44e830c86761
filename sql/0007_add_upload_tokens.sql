-- Short-lived tokens that permit uploads only. Stored as SHA-256 hashes, like keys, and deleted with their key.
CREATE TABLE upload_tokens (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    key_id uuid NOT NULL,
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    collection_id uuid NOT NULL,
    max_bytes bigint NOT NULL CHECK (max_bytes > 0),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id),
    FOREIGN KEY (workspace_id, key_id) REFERENCES api_keys (workspace_id, id) ON DELETE CASCADE
);
-- Not unique, for the same reason as api_keys_key_hash.
CREATE INDEX upload_tokens_token_hash ON upload_tokens (token_hash);

-- For a session opened with a token: the token's key and the maximum file size. The sizes of the file and its parts are
-- unknown until completion unless the client declares them.
ALTER TABLE upload_sessions
    ADD COLUMN token_key_id uuid,
    ADD COLUMN max_bytes bigint CHECK (max_bytes > 0),
    ADD CHECK ((token_key_id IS NULL) = (max_bytes IS NULL));

-- When the next scan of the workspace's bucket for orphaned objects is due, and the key after which it continues.
ALTER TABLE workspaces
    ADD COLUMN audit_due_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    ADD COLUMN audit_after text NOT NULL DEFAULT '';
CREATE INDEX workspaces_audit_due ON workspaces (audit_due_at) WHERE deletion_id IS NULL;
