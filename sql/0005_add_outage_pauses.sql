-- A pause caused by an outage ends by itself: `code` names the unavailable provider, `probe_at` is the time of the next
-- probe. A manual pause has neither.
ALTER TABLE queue_state
    ADD COLUMN code text,
    ADD COLUMN probe_at timestamptz,
    ADD COLUMN probes integer NOT NULL DEFAULT 0,
    ADD CHECK ((code IS NULL) = (probe_at IS NULL)),
    ADD CHECK (paused OR probe_at IS NULL);

-- When the current attempt started, by Postgres's clock; used to compute the age of a failure.
ALTER TABLE jobs ADD COLUMN claimed_at timestamptz;

-- For counting the jobs that a queue finished recently.
CREATE INDEX jobs_done ON jobs (queue, finished_at) WHERE status = 'done';
