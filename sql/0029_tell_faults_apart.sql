-- Whether a dead letter is the fault of an owner (a damaged document, a webhook that does not respond), which an operator
-- cannot fix. Older dead letters are told apart by their codes.
ALTER TABLE jobs ADD COLUMN is_owner_fault boolean NOT NULL DEFAULT false;
UPDATE jobs SET is_owner_fault = true
WHERE status = 'dead' AND error ->> 'code' IN (
    'empty_file', 'unsupported_type', 'encrypted', 'corrupt', 'limit_exceeded', 'no_text', 'encoding',
    'checksum_mismatch', 'webhook_gone', 'webhook_failed', 'webhook_unreachable', 'webhook_refused');
