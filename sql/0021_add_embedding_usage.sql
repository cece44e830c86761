-- Tokens embedded for a workspace, by day (UTC) and model: chunks that were not cached, and queries. A call counts as
-- estimated if the provider reported no usage and the tokens were counted locally.
--
-- A separate table instead of a new key column in model_usage: the previous version continues to run on this schema
-- during an upgrade and upserts into model_usage by the old key.
CREATE TABLE embedding_usage (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    day date NOT NULL,
    model text NOT NULL,
    calls bigint NOT NULL,
    estimated_calls bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    PRIMARY KEY (workspace_id, day, model)
);
