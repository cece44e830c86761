-- Responses to POST requests with an Idempotency-Key, stored for a day. While there is no response, `token` and
-- `lease_until` show whether the request is still being processed.
CREATE TABLE idempotency_keys (
    -- The nil UUID for the operator, who has no workspace.
    workspace_id uuid NOT NULL,
    key text NOT NULL,
    -- SHA-256 of method and path, and of the body (or the form's fields); the latter is null until the body has been
    -- read.
    call_hash bytea NOT NULL,
    body_hash bytea,
    -- The id of the resource that the request creates: a retry after a crash finds an existing resource by it.
    resource_id uuid NOT NULL,
    -- A secret in the response is derived from this and the caller's own key.
    seed bytea NOT NULL,
    token uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    -- Null while there is no response. A response without a body is rebuilt from the resource `resource_id`.
    status integer,
    headers jsonb NOT NULL DEFAULT '{}',
    body bytea,
    -- The documents that appear in the body, which is blanked when one of them is deleted.
    document_ids uuid[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (workspace_id, created_at);
CREATE INDEX idempotency_keys_documents ON idempotency_keys USING gin (document_ids) WHERE body IS NOT NULL;
