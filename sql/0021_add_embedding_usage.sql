-- What the embedding model cost a workspace, by day (UTC) and model: chunks that were in no cache, and queries. Of
-- estimated calls the model's server did not tell the tokens, and we counted.
--
-- A table of its own, and no further column in the key of model_usage: the version before, which goes on working on this
-- schema, adds to model_usage by the key that it knows.
CREATE TABLE embedding_usage (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    day date NOT NULL,
    model text NOT NULL,
    calls bigint NOT NULL,
    estimated_calls bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    PRIMARY KEY (workspace_id, day, model)
);
