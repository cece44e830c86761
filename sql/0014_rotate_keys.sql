-- A rotated key remains valid alongside its successor until it expires.
ALTER TABLE api_keys
    ADD COLUMN replaced_by uuid,
    -- Updated at most once a minute.
    ADD COLUMN last_used_at timestamptz;
