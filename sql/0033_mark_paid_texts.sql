-- The embedding cache tells workspaces nothing about each other. A row of a workspace without a vector marks that the
-- workspace has paid for this text; a vector that only another workspace has paid for counts as a call. So that the
-- usage of both is equal, the tokens that the provider counted are stored with the vector: -1 if it did not report them,
-- null for vectors of earlier versions, which are requested from the model again.
ALTER TABLE embedding_cache ALTER COLUMN embedding DROP NOT NULL, ADD COLUMN prompt_tokens integer;

-- A mark is removed with the workspace's last chunk of its text.
CREATE INDEX chunk_text_input ON chunk_text USING hash (embedding_input_hash);
