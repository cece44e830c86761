-- Conversations: sessions, their messages, and one run per answer.
CREATE TABLE chat_sessions (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    title text,
    instructions text,
    model text,
    collection_ids uuid[],
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id)
);

CREATE TABLE chat_messages (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    session_id uuid NOT NULL,
    run_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    status text NOT NULL CHECK (status IN ('streaming', 'completed', 'failed', 'cancelled', 'interrupted')),
    content text NOT NULL DEFAULT '',
    sources jsonb NOT NULL DEFAULT '[]',
    citations jsonb NOT NULL DEFAULT '[]',
    model text,
    usage jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id),
    FOREIGN KEY (workspace_id, session_id) REFERENCES chat_sessions (workspace_id, id) ON DELETE CASCADE
);
CREATE INDEX chat_messages_session ON chat_messages (workspace_id, session_id, id);
-- Deletion looks up all messages that cite a document.
CREATE INDEX chat_messages_sources ON chat_messages USING gin (sources jsonb_path_ops);

CREATE TABLE chat_runs (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    session_id uuid NOT NULL,
    user_message_id uuid NOT NULL,
    message_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'running'
        CHECK (status IN ('running', 'completed', 'failed', 'cancelled', 'interrupted')),
    request jsonb NOT NULL DEFAULT '{}',
    last_event_id integer NOT NULL DEFAULT 1,
    -- One entry per event between the sources and the end: the length of a delta in code points, 0 for a citation.
    marks integer[] NOT NULL DEFAULT '{}',
    finish_reason text,
    error jsonb,
    cancel_requested boolean NOT NULL DEFAULT false,
    lease_owner text,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (workspace_id, id),
    FOREIGN KEY (workspace_id, session_id) REFERENCES chat_sessions (workspace_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX chat_runs_active ON chat_runs (workspace_id, session_id) WHERE status = 'running';
CREATE INDEX chat_runs_leased ON chat_runs (lease_until) WHERE status = 'running';
CREATE INDEX chat_runs_owner ON chat_runs (lease_owner) WHERE status = 'running';
CREATE INDEX chat_runs_session ON chat_runs (workspace_id, session_id, id);
