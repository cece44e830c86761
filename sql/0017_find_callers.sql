-- At authentication the workspace is not known yet, so these two functions look up a hash in all workspaces, bypassing
-- row-level security. SQL-standard bodies bind names at creation, so a search_path cannot redirect them. The plan does
-- not depend on the hash, so it is made once per connection.
CREATE FUNCTION find_key_owner(wanted bytea) RETURNS TABLE (
    workspace_id uuid, id uuid, name text, key_prefix text, scopes text[], expires_at timestamptz,
    revoked_at timestamptz, replaced_by uuid, last_used_at timestamptz, created_at timestamptz, key_hash bytea,
    workspace_name text, bucket text, object_prefix text, quota_bytes bigint, workspace_created_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET plan_cache_mode = force_generic_plan
BEGIN ATOMIC
    SELECT k.workspace_id, k.id, k.name, k.key_prefix, k.scopes, k.expires_at, k.revoked_at, k.replaced_by,
        k.last_used_at, k.created_at, k.key_hash, w.name, w.bucket, w.key_prefix, w.quota_bytes, w.created_at
    FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id
    WHERE k.key_hash = wanted AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
      AND w.deletion_id IS NULL;
END;

CREATE FUNCTION find_token_owner(wanted bytea) RETURNS TABLE (
    workspace_id uuid, id uuid, key_id uuid, collection_id uuid, max_bytes bigint, expires_at timestamptz,
    name text, bucket text, key_prefix text, quota_bytes bigint, created_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET plan_cache_mode = force_generic_plan
BEGIN ATOMIC
    SELECT t.workspace_id, t.id, t.key_id, t.collection_id, t.max_bytes, t.expires_at,
        w.name, w.bucket, w.key_prefix, w.quota_bytes, w.created_at
    FROM upload_tokens t
    JOIN api_keys k ON k.workspace_id = t.workspace_id AND k.id = t.key_id
    JOIN workspaces w ON w.id = t.workspace_id
    WHERE t.token_hash = wanted AND t.expires_at > now() AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now()) AND w.deletion_id IS NULL;
END;
