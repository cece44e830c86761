-- A key that is rotated works on beside its successor, until it expires.
ALTER TABLE api_keys
    ADD COLUMN replaced_by uuid,
    -- Written at most once a minute.
    ADD COLUMN last_used_at timestamptz;
