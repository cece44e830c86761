-- The embedding space of a document's active build. A change of the embedding model leaves documents whose vectors are
-- in another space, which no search finds by meaning; this column makes them countable. Null: no build yet, or a build
-- by the previous version of the service.
ALTER TABLE documents ADD COLUMN space_id smallint;

DO $$
DECLARE
    space smallint;
BEGIN
    FOR space IN SELECT id FROM embedding_spaces LOOP
        EXECUTE format('UPDATE documents d SET space_id = %s WHERE d.active_build IS NOT NULL AND EXISTS (
            SELECT FROM %I v
            WHERE v.workspace_id = d.workspace_id AND v.document_id = d.id AND v.build_id = d.active_build)',
            space, 'chunk_vec_' || space);
    END LOOP;
END $$;

-- Usually all documents are in one space, so looking for those in others reads nothing.
CREATE INDEX documents_space ON documents (space_id);
