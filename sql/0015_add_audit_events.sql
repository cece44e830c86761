-- Who did what, when and from where: actions of operators, and deletions by keys. Written in the action's transaction.
CREATE TABLE audit_events (
    id uuid PRIMARY KEY,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    action text NOT NULL,
    actor_kind text NOT NULL CHECK (actor_kind IN ('admin', 'key', 'cli', 'system')),
    -- The key's id; null for other kinds of actor.
    actor_id uuid,
    actor_name text NOT NULL,
    -- Not a foreign key: the event outlives the workspace.
    workspace_id uuid,
    subject_kind text,
    subject_id text,
    details jsonb NOT NULL DEFAULT '{}',
    request_id text,
    ip text,
    -- The X-Forwarded-For header as received; clients can forge it.
    forwarded_for text,
    user_agent text
);
CREATE INDEX audit_events_workspace ON audit_events (workspace_id, id);
CREATE INDEX audit_events_action ON audit_events (action, id);
CREATE INDEX audit_events_actor ON audit_events (actor_id, id) WHERE actor_id IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% only grows', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
