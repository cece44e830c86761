-- Jobs (the source of truth of the queue) and deletion receipts. Both outlive their workspace, so they have no foreign
-- keys.
CREATE TABLE jobs (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    queue text NOT NULL CHECK (queue IN ('ingestion', 'deletion')),
    kind text NOT NULL,
    subject_kind text NOT NULL CHECK (subject_kind IN ('document', 'collection', 'workspace')),
    subject_id uuid NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'done', 'dead', 'discarded', 'superseded', 'cancelled')),
    stage text,
    progress real NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL,
    rescues integer NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT now(),
    generation integer NOT NULL DEFAULT 1,
    lease_owner text,
    lease_token uuid,
    lease_until timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    error jsonb,
    first_failed_at timestamptz,
    last_failed_at timestamptz,
    replay_count integer NOT NULL DEFAULT 0,
    trace_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (workspace_id, id),
    CHECK ((status = 'running') = (lease_token IS NOT NULL AND lease_until IS NOT NULL))
);
CREATE INDEX jobs_id ON jobs (id);
CREATE UNIQUE INDEX jobs_active ON jobs (workspace_id, queue, subject_kind, subject_id)
    WHERE status IN ('queued', 'running');
CREATE INDEX jobs_due ON jobs (queue, run_at) WHERE status = 'queued';
CREATE INDEX jobs_leased ON jobs (queue, lease_until) WHERE status = 'running';
CREATE INDEX jobs_dead ON jobs (queue, last_failed_at DESC) WHERE status = 'dead';
CREATE INDEX jobs_subject ON jobs (workspace_id, subject_id);

CREATE TABLE queue_state (
    queue text PRIMARY KEY CHECK (queue IN ('ingestion', 'deletion')),
    paused boolean NOT NULL DEFAULT false,
    reason text,
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO queue_state (queue) VALUES ('ingestion'), ('deletion');

CREATE TABLE deletion_receipts (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    subject_kind text NOT NULL CHECK (subject_kind IN ('document', 'collection', 'workspace')),
    subject_id uuid NOT NULL,
    purge_file boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'completed', 'failed')),
    -- {store: count}, updated with every batch so that a resumed deletion continues the count.
    removed jsonb NOT NULL DEFAULT '{}',
    stores jsonb NOT NULL DEFAULT '[]',
    error jsonb,
    requested_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    verified_at timestamptz,
    PRIMARY KEY (workspace_id, id)
);
CREATE INDEX deletion_receipts_subject ON deletion_receipts (workspace_id, subject_id);
