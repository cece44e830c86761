-- One call about many documents: what was asked, and how far its job is.
CREATE TABLE bulk_operations (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    -- It orders by time, as those of documents do: a document that comes later is none of its business.
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
    -- The document that was looked at last, in the order of their ids.
    after_id uuid,
    error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    PRIMARY KEY (workspace_id, id)
);

ALTER TABLE jobs DROP CONSTRAINT jobs_subject_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_subject_kind_check
    CHECK (subject_kind IN ('document', 'collection', 'workspace', 'delivery', 'bulk'));
