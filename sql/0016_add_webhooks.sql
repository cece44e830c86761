-- Where a workspace wants to be told what became of its documents. Signing needs the secret as it is.
CREATE TABLE webhooks (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id)
);

-- A delivery is a job of its own, the subject of itself: one that fails holds up no other.
ALTER TABLE jobs DROP CONSTRAINT jobs_subject_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_subject_kind_check
    CHECK (subject_kind IN ('document', 'collection', 'workspace', 'delivery'));
CREATE INDEX jobs_deliveries_due ON jobs (run_at) WHERE status = 'queued' AND kind = 'deliver';
