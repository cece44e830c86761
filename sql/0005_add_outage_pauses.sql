-- A pause by outage ends by itself: `code` says which provider is away, `probe_at` when it is asked next.
-- A pause by hand has neither.
ALTER TABLE queue_state
    ADD COLUMN code text,
    ADD COLUMN probe_at timestamptz,
    ADD COLUMN probes integer NOT NULL DEFAULT 0,
    ADD CHECK ((code IS NULL) = (probe_at IS NULL)),
    ADD CHECK (paused OR probe_at IS NULL);

-- When the running attempt began; the age of a failure is told by it, in Postgres's time.
ALTER TABLE jobs ADD COLUMN claimed_at timestamptz;

-- How many jobs a queue finished lately.
CREATE INDEX jobs_done ON jobs (queue, finished_at) WHERE status = 'done';
