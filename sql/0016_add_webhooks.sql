-- URLs that receive events about a workspace's documents. The secret is stored in plain text because signing needs it.
CREATE TABLE webhooks (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id)
);

-- Each delivery is a job with itself as the subject, so a failing delivery does not block any other.
ALTER TABLE jobs DROP CONSTRAINT jobs_subject_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_subject_kind_check
    CHECK (subject_kind IN ('document', 'collection', 'workspace', 'delivery'));
CREATE INDEX jobs_deliveries_due ON jobs (run_at) WHERE status = 'queued' AND kind = 'deliver';
