-- Requests that affect many documents: the request and the progress of its job.
CREATE TABLE bulk_operations (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    -- Time-ordered, like document ids: documents with a later id are not affected.
    id uuid NOT NULL,
    action text NOT NULL CHECK (action IN ('delete', 'reingest')),
    collection_id uuid,
    document_status text,
    filters jsonb,
    purge_file boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'completed', 'failed')),
    matched integer NOT NULL,
    accepted integer NOT NULL DEFAULT 0,
    skipped integer NOT NULL DEFAULT 0,
    -- The last document that was processed, in id order.
    after_id uuid,
    error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    PRIMARY KEY (workspace_id, id)
);

ALTER TABLE jobs DROP CONSTRAINT jobs_subject_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_subject_kind_check
    CHECK (subject_kind IN ('document', 'collection', 'workspace', 'delivery', 'bulk'));
