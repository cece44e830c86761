-- Short-lived tokens that can only upload; like a key, a token is stored as its sha256, and it goes with its key.
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
-- Not unique, as with api_keys.
CREATE INDEX upload_tokens_token_hash ON upload_tokens (token_hash);

-- Of a session that a token opened: the token's key, and how large the file may be. Its size and its parts' are unknown
-- until it is completed, where the client does not say them.
ALTER TABLE upload_sessions
    ADD COLUMN token_key_id uuid,
    ADD COLUMN max_bytes bigint CHECK (max_bytes > 0),
    ADD CHECK ((token_key_id IS NULL) = (max_bytes IS NULL));

-- When the workspace's bucket is next looked through for what no row knows, and the key after which that goes on.
ALTER TABLE workspaces
    ADD COLUMN audit_due_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    ADD COLUMN audit_after text NOT NULL DEFAULT '';
CREATE INDEX workspaces_audit_due ON workspaces (audit_due_at) WHERE deletion_id IS NULL;
