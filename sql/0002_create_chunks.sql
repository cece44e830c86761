-- Tables written by ingestion: canonical text, chunks, vectors by embedding space, and the embedding cache.

-- The text of one build of a document; `version` is null until the build becomes a version of the document.
CREATE TABLE canonical_text (
    workspace_id uuid NOT NULL,
    document_id uuid NOT NULL,
    build_id uuid NOT NULL,
    version integer,
    content text NOT NULL,
    length integer NOT NULL,
    PRIMARY KEY (workspace_id, document_id, build_id),
    FOREIGN KEY (workspace_id, document_id) REFERENCES documents (workspace_id, id)
);
CREATE UNIQUE INDEX canonical_text_version ON canonical_text (workspace_id, document_id, version)
    WHERE version IS NOT NULL;

CREATE TABLE chunk_text (
    workspace_id uuid NOT NULL,
    id uuid NOT NULL,
    document_id uuid NOT NULL,
    collection_id uuid NOT NULL,
    build_id uuid NOT NULL,
    ordinal integer NOT NULL,
    content text NOT NULL,
    content_hash bytea NOT NULL,
    embedding_input_hash bytea NOT NULL,
    search tsvector NOT NULL,
    char_start integer NOT NULL,
    char_end integer NOT NULL,
    page_first integer,
    page_last integer,
    page_spans jsonb,
    heading_path text[] NOT NULL,
    token_count integer NOT NULL,
    PRIMARY KEY (workspace_id, id)
) PARTITION BY HASH (workspace_id);
CREATE INDEX chunk_text_build ON chunk_text (workspace_id, document_id, build_id, ordinal);
CREATE INDEX chunk_text_search ON chunk_text USING gin (search);

-- `ragsvc.chunk_partitions` is set by `ragsvc migrate` from CHUNK_PARTITIONS.
CREATE FUNCTION create_partitions(parent text, partitions integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    FOR remainder IN 0 .. partitions - 1 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                       parent || '_p' || remainder, parent, partitions, remainder);
    END LOOP;
END $$;

SELECT create_partitions('chunk_text', current_setting('ragsvc.chunk_partitions')::integer);

-- Only vectors of the same embedding space (model, dimensions and revision) can be compared.
CREATE TABLE embedding_spaces (
    id smallint PRIMARY KEY,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    revision integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model, dimensions, revision)
);

CREATE TABLE embedding_cache (
    space_id smallint NOT NULL REFERENCES embedding_spaces (id),
    -- The workspace, or the nil UUID if all workspaces share the cache (EMBEDDING_CACHE_SCOPE).
    scope uuid NOT NULL,
    embedding_input_hash bytea NOT NULL,
    embedding halfvec NOT NULL,
    last_used timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space_id, scope, embedding_input_hash)
);
CREATE INDEX embedding_cache_last_used ON embedding_cache (last_used);

-- Returns the id of the space; creates the space and its table `chunk_vec_{id}` if missing.
CREATE FUNCTION create_embedding_space(space_model text, space_dimensions integer, space_revision integer,
                                       partitions integer)
RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    space smallint;
    vectors text;
BEGIN
    SELECT id INTO space FROM embedding_spaces
    WHERE model = space_model AND dimensions = space_dimensions AND revision = space_revision;
    IF FOUND THEN
        RETURN space;
    END IF;
    SELECT coalesce(max(id), 0) + 1 INTO space FROM embedding_spaces;
    vectors := 'chunk_vec_' || space;
    -- One narrow table: a wide row or a TOASTed vector makes an exact scan sixteen times slower.
    EXECUTE format('CREATE TABLE %I (
        workspace_id uuid NOT NULL,
        chunk_id uuid NOT NULL,
        document_id uuid NOT NULL,
        collection_id uuid NOT NULL,
        build_id uuid NOT NULL,
        embedding halfvec(%s) NOT NULL,
        PRIMARY KEY (workspace_id, chunk_id)
    ) PARTITION BY HASH (workspace_id)', vectors, space_dimensions);
    EXECUTE format('ALTER TABLE %I ALTER COLUMN embedding SET STORAGE PLAIN', vectors);
    EXECUTE format('CREATE INDEX ON %I (workspace_id, document_id, build_id)', vectors);
    EXECUTE format('CREATE INDEX ON %I USING hnsw (embedding halfvec_cosine_ops)
                    WITH (m = 16, ef_construction = 64)', vectors);
    PERFORM create_partitions(vectors, partitions);
    INSERT INTO embedding_spaces (id, model, dimensions, revision)
    VALUES (space, space_model, space_dimensions, space_revision);
    RETURN space;
END $$;
