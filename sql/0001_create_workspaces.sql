-- Tenants, their keys, files, collections and documents.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE workspaces (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    bucket text NOT NULL UNIQUE,
    quota_bytes bigint,
    deletion_id uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL,
    key_hash bytea NOT NULL CHECK (length(key_hash) = 32),
    key_prefix text NOT NULL,
    scopes text[] NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id)
);
-- Not unique: a unique index without workspace_id would prevent distributing the table by workspace.
CREATE INDEX api_keys_key_hash ON api_keys (key_hash);

CREATE TABLE collections (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL,
    is_default boolean NOT NULL DEFAULT false,
    chunk_max_tokens integer,
    chunk_overlap_tokens integer,
    metadata jsonb NOT NULL DEFAULT '{}',
    deletion_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX collections_name ON collections (workspace_id, name) WHERE deletion_id IS NULL;

CREATE TABLE upload_sessions (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'completing', 'completed', 'failed', 'aborted', 'expired')),
    object_key text NOT NULL,
    s3_upload_id text,
    filename text NOT NULL,
    mime_type text NOT NULL,
    declared_size_bytes bigint,
    expires_at timestamptz NOT NULL,
    -- When all data of a session that ended without a file was gone from the object store.
    cleaned_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id)
);
CREATE INDEX upload_sessions_open ON upload_sessions (expires_at) WHERE status IN ('pending', 'completing');
CREATE INDEX upload_sessions_unclean ON upload_sessions (updated_at)
    WHERE status IN ('failed', 'aborted', 'expired') AND cleaned_at IS NULL;

CREATE TABLE files (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    upload_id uuid NOT NULL,
    object_key text NOT NULL,
    filename text NOT NULL,
    mime_type text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    etag text NOT NULL,
    -- Set when the file's object is about to be purged; from then on, the file cannot be attached to a document.
    deletion_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id),
    UNIQUE (workspace_id, upload_id)
);

CREATE TABLE documents (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    collection_id uuid NOT NULL,
    file_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'processing', 'ready', 'failed', 'deleting')),
    stage text,
    progress real NOT NULL DEFAULT 0,
    version integer NOT NULL DEFAULT 0,
    active_build uuid,
    attributes jsonb NOT NULL DEFAULT '{}',
    error jsonb,
    chunk_count integer NOT NULL DEFAULT 0,
    token_count bigint NOT NULL DEFAULT 0,
    deletion_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id),
    UNIQUE (workspace_id, collection_id, file_id),
    FOREIGN KEY (workspace_id, collection_id) REFERENCES collections (workspace_id, id),
    FOREIGN KEY (workspace_id, file_id) REFERENCES files (workspace_id, id)
);
CREATE INDEX documents_file ON documents (workspace_id, file_id);
CREATE INDEX documents_collection ON documents (workspace_id, collection_id, id DESC);
