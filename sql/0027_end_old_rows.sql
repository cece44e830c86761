-- Rows that have ended are removed after some time (ragsvc/retention.py), and these indexes find them. The statements that
-- run all the time (claim, sweep, depths) read only partial indexes of what is active, however much has ended.
CREATE INDEX jobs_ended ON jobs (finished_at) WHERE status IN ('done', 'discarded', 'superseded', 'cancelled');
CREATE INDEX upload_sessions_ended ON upload_sessions (updated_at)
    WHERE status IN ('failed', 'aborted', 'expired') AND cleaned_at IS NOT NULL;
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
CREATE INDEX upload_tokens_expired ON upload_tokens (expires_at);
CREATE INDEX api_keys_ended ON api_keys (least(revoked_at, expires_at)) WHERE least(revoked_at, expires_at) IS NOT NULL;
CREATE INDEX bulk_operations_ended ON bulk_operations (coalesce(completed_at, created_at))
    WHERE status IN ('completed', 'failed');
-- Replaced by jobs_due_in_order: every further index makes adding a job slower.
DROP INDEX jobs_due;
-- Jobs are looked up by exact id. Unlike a tree, a hash index does not get deeper as jobs accumulate.
CREATE INDEX jobs_by_id ON jobs USING hash (id);
DROP INDEX jobs_id;
