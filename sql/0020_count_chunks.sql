-- The numbers of searchable chunks and tokens of a collection, so that a search need not count its documents.
--
-- Every change to a collection's searchable documents adds a row with the difference; the sum of the rows is the size.
-- With a single row per collection, writers would wait for each other, and transactions that change documents of two
-- collections in different orders would deadlock.
CREATE TABLE collection_sizes (
    workspace_id uuid NOT NULL,
    collection_id uuid NOT NULL,
    chunks bigint NOT NULL,
    tokens bigint NOT NULL,
    FOREIGN KEY (workspace_id, collection_id) REFERENCES collections (workspace_id, id) ON DELETE CASCADE
);
CREATE INDEX collection_sizes_collection ON collection_sizes (workspace_id, collection_id);

-- The trigger runs with the owner's rights and a fixed search_path, so a role that can change documents needs no write
-- access to collection_sizes.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Merges a collection's rows into one when there are more than 64. Rows locked by other transactions are skipped.
CREATE FUNCTION fold_collection_sizes(workspace uuid, collection uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) > 64 FROM collection_sizes WHERE workspace_id = workspace AND collection_id = collection) THEN
        WITH folded AS (
            DELETE FROM collection_sizes WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM collection_sizes WHERE workspace_id = workspace AND collection_id = collection
                FOR UPDATE SKIP LOCKED))
            RETURNING chunks, tokens
        )
        INSERT INTO collection_sizes SELECT workspace, collection, sum(chunks), sum(tokens) FROM folded
        HAVING count(*) > 0;
    END IF;
END $$;

-- A document is searchable from its first build until its deletion starts. A new row has no build, and a row is removed
-- only after its deletion has started, so only updates are counted. (Search itself excludes collections that are being
-- deleted.)
CREATE FUNCTION note_collection_sizes() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT d.workspace_id, d.collection_id, sum(sign * d.chunk_count) AS chunks, sum(sign * d.token_count) AS tokens
        FROM (SELECT -1 AS sign, * FROM old_documents UNION ALL SELECT 1, * FROM new_documents) d
        WHERE d.active_build IS NOT NULL AND d.status <> 'deleting'
        GROUP BY d.workspace_id, d.collection_id
        HAVING sum(sign * d.chunk_count) <> 0 OR sum(sign * d.token_count) <> 0
    LOOP
        INSERT INTO collection_sizes
        VALUES (changed.workspace_id, changed.collection_id, changed.chunks, changed.tokens);
        PERFORM fold_collection_sizes(changed.workspace_id, changed.collection_id);
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER note_collection_sizes AFTER UPDATE ON documents
    REFERENCING OLD TABLE AS old_documents NEW TABLE AS new_documents
    FOR EACH STATEMENT EXECUTE FUNCTION note_collection_sizes();

-- Creating the trigger locked the table, so no document has changed since.
INSERT INTO collection_sizes
SELECT workspace_id, collection_id, sum(chunk_count), sum(token_count) FROM documents
WHERE active_build IS NOT NULL AND status <> 'deleting' GROUP BY workspace_id, collection_id;
