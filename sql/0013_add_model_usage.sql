-- Tokens used by a workspace's answers, by day (UTC) and model. A run counts as estimated if the provider reported no
-- usage and the tokens were counted locally.
CREATE TABLE model_usage (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    day date NOT NULL,
    model text NOT NULL,
    runs bigint NOT NULL,
    estimated_runs bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    PRIMARY KEY (workspace_id, day, model)
);
