-- Deliveries no longer take turns with deletions: a lane of their own finds them by webhook. The new index of due jobs
-- leaves them out, so that a backlog of deliveries costs the sweeper nothing.
CREATE INDEX jobs_deliveries ON jobs ((payload ->> 'webhook_id'), run_at, id)
    WHERE status = 'queued' AND kind = 'deliver';
CREATE INDEX jobs_due_in_order ON jobs (queue, run_at, id) WHERE status = 'queued' AND kind <> 'deliver';
DROP INDEX jobs_deliveries_due;
