-- What POST requests with an Idempotency-Key were answered, for a day. Of a request that never got an answer, `token`
-- and `lease_until` tell whether somebody is still at it.
CREATE TABLE idempotency_keys (
    -- The nil uuid for the operator, who has no workspace.
    workspace_id uuid NOT NULL,
    key text NOT NULL,
    -- sha256 of method and path; of the body, or of what a form holds, once that has been read.
    call_hash bytea NOT NULL,
    body_hash bytea,
    -- The id of what the request makes: a repeat after a crash finds by it what was made already.
    resource_id uuid NOT NULL,
    -- What a secret that the answer shows is derived from, together with the caller's own key.
    seed bytea NOT NULL,
    token uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    -- Null while there is no answer. An answer without a body is made again of what `resource_id` names.
    status integer,
    headers jsonb NOT NULL DEFAULT '{}',
    body bytea,
    -- The documents that the body speaks of: it is blanked when one of them is deleted.
    document_ids uuid[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (workspace_id, created_at);
CREATE INDEX idempotency_keys_documents ON idempotency_keys USING gin (document_ids) WHERE body IS NOT NULL;
