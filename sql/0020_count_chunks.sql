-- How much there is to search in a collection, so that a search need not count its documents.
--
-- Every change of a collection's searchable documents adds a row with the difference, and the sum of the rows is what
-- there is. A single row to add to would be waited for by all who write to one collection, and who changes documents of
-- two collections would wait for another who has them in the other order.
CREATE TABLE collection_sizes (
    workspace_id uuid NOT NULL,
    collection_id uuid NOT NULL,
    chunks bigint NOT NULL,
    tokens bigint NOT NULL,
    FOREIGN KEY (workspace_id, collection_id) REFERENCES collections (workspace_id, id) ON DELETE CASCADE
);
CREATE INDEX collection_sizes_collection ON collection_sizes (workspace_id, collection_id);

-- The trigger works with the owner's rights, and finds the tables whatever its caller's search_path is: who changes
-- documents need not be able to change what is counted of them.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Makes one row of a collection's rows once there are more than 64. Rows that somebody else is at are left to him.
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

-- A document can be searched from its first build on until it is being deleted; it has no build when it is inserted, and
-- is being deleted when its row goes. (That a search looks in no collection that is being deleted is its own affair.)
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

-- Nobody has changed documents since the trigger is there.
INSERT INTO collection_sizes
SELECT workspace_id, collection_id, sum(chunk_count), sum(token_count) FROM documents
WHERE active_build IS NOT NULL AND status <> 'deleting' GROUP BY workspace_id, collection_id;
