-- A key can be revoked while a stream or an upload of it is open, so it is checked again under the rights of the request,
-- which do not include the table of keys. Like the functions in 0017, this one bypasses row-level security.
CREATE FUNCTION is_key_valid(workspace uuid, key uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET plan_cache_mode = force_generic_plan
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id
        WHERE k.workspace_id = workspace AND k.id = key AND k.revoked_at IS NULL
          AND (k.expires_at IS NULL OR k.expires_at > now()) AND w.deletion_id IS NULL
    );
END;
