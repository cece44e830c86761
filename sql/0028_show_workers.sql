-- One row for each worker process, which it renews while it polls its queue, so that operators see workers without jobs.
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    queue text NOT NULL CHECK (queue IN ('ingestion', 'deletion')),
    -- Host and process id, as in jobs.lease_owner.
    name text NOT NULL,
    version text NOT NULL,
    concurrency integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    -- When it last looked for jobs; older than last_seen_at if its loop polls no more or Redis cannot be reached.
    last_look_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX workers_seen ON workers (last_seen_at);
