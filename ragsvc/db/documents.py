"""The table documents, joined with the current file of each document."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ragsvc.domain.documents import Document, DocumentStatus, DocumentWarning, EmbeddingSpace, FailureInfo, Stage
from ragsvc.domain.workspaces import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

# Whether the document `d` is being deleted. The mark on a collection or workspace that is being deleted holds for its
# documents at once; the deletion's job marks their own rows later.
IS_GOING = """(
    d.status = 'deleting'
    OR EXISTS (SELECT FROM collections going WHERE going.workspace_id = d.workspace_id AND going.id = d.collection_id
               AND going.deletion_id IS NOT NULL)
    OR EXISTS (SELECT FROM workspaces going WHERE going.id = d.workspace_id AND going.deletion_id IS NOT NULL))"""
# The workspace's collections that are being deleted, as an array: for statements that look at many documents.
GOING_COLLECTIONS = """ARRAY(
    SELECT going.id FROM collections going WHERE going.workspace_id = $1 AND going.deletion_id IS NOT NULL)"""
STATUS = f"CASE WHEN {IS_GOING} THEN 'deleting' ELSE d.status END"
# The deletion of the document, or of its collection or workspace.
DELETION_ID = """coalesce(
    d.deletion_id,
    (SELECT going.deletion_id FROM collections going
     WHERE going.workspace_id = d.workspace_id AND going.id = d.collection_id),
    (SELECT going.deletion_id FROM workspaces going WHERE going.id = d.workspace_id))"""

COLUMNS = f"""
d.workspace_id, d.id, d.collection_id, d.file_id, f.filename, f.mime_type, f.size_bytes, f.sha256,
{STATUS} AS status, d.stage,
d.progress, d.version, d.active_build, d.pending_file_id, d.chunk_count, d.token_count, d.attributes, d.error,
d.warnings, {DELETION_ID} AS deletion_id, (
    SELECT jsonb_build_object('id', e.id, 'model', e.model, 'dimensions', e.dimensions, 'revision', e.revision)
    FROM embedding_spaces e WHERE e.id = d.space_id
) AS space, d.created_at, d.updated_at
"""
FROM = "FROM documents d JOIN files f ON f.workspace_id = d.workspace_id AND f.id = d.file_id"

# The time of creation is that of the insertion, not of the transaction's start: a bulk operation that was accepted in
# between must not include the document. The pending next version of another document also counts as a file of the
# collection.
INSERT_DOCUMENT = f"""
WITH inserted AS (
    INSERT INTO documents (workspace_id, id, collection_id, file_id, attributes, created_at)
    SELECT $1, $2::uuid, $3, $4, $5::jsonb, clock_timestamp() WHERE NOT EXISTS (
        SELECT FROM documents d WHERE d.workspace_id = $1 AND d.collection_id = $3 AND d.pending_file_id = $4)
    ON CONFLICT (workspace_id, collection_id, file_id) DO NOTHING
    RETURNING *
)
SELECT {COLUMNS} FROM inserted d JOIN files f ON f.workspace_id = d.workspace_id AND f.id = d.file_id
"""

SELECT_DOCUMENT = f"SELECT {COLUMNS} {FROM} WHERE d.workspace_id = $1 AND d.id = $2"

# `strpos` takes the text literally, whereas LIKE would interpret `%` and `_`.
_LISTED = f"""
{FROM}
WHERE d.workspace_id = $1
  AND ($2::uuid IS NULL OR d.collection_id = $2)
  AND ($3::text IS NULL OR {STATUS} = $3)
  AND ($4::text IS NULL OR strpos(lower(f.filename), lower($4)) > 0)
  AND ($5::timestamptz IS NULL OR d.created_at >= $5)
  AND ($6::timestamptz IS NULL OR d.created_at < $6)
  AND ($7::jsonb IS NULL OR d.attributes @> $7)
  AND ($8::text IS NULL OR jsonb_path_match(d.attributes, $8::text::jsonpath, $9::jsonb))
"""
# The ids of documents sort by the time of creation.
SELECT_DOCUMENTS = f"SELECT {COLUMNS} {_LISTED} AND ($10::uuid IS NULL OR d.id < $10) ORDER BY d.id DESC LIMIT $11"
SELECT_OLDEST_DOCUMENTS = f"SELECT {COLUMNS} {_LISTED} AND ($10::uuid IS NULL OR d.id > $10) ORDER BY d.id LIMIT $11"
COUNT_DOCUMENTS = f"SELECT count(*) {_LISTED}"

SELECT_DOCUMENT_IDS = """
SELECT id FROM documents
WHERE workspace_id = $1 AND ($2::uuid IS NULL OR collection_id = $2) ORDER BY id LIMIT $3
"""

COUNT_DOCUMENTS_OF = """
SELECT count(*) FROM documents WHERE workspace_id = $1 AND ($2::uuid IS NULL OR collection_id = $2)
"""

LOCK_DOCUMENT = f"""
SELECT {STATUS} AS status, {DELETION_ID} AS deletion_id FROM documents d WHERE workspace_id = $1 AND id = $2
FOR NO KEY UPDATE
"""

UPDATE_DOCUMENT_ATTRIBUTES = """
UPDATE documents SET attributes = $3, pending_attributes = NULL, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status <> 'deleting'
"""

# A document that is being deleted keeps that status, even if a late job reports another one.
UPDATE_INGESTION_STATE = """
UPDATE documents SET status = $3, stage = $4, progress = $5, error = $6, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status <> 'deleting'
"""

UPDATE_STAGE = """
UPDATE documents SET stage = $3, progress = $4, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'processing'
"""

# Before the first version there is nothing to replace, so the new file becomes current at once.
UPDATE_NEXT_FILE = """
UPDATE documents SET
    file_id = CASE WHEN version = 0 THEN $3 ELSE file_id END,
    attributes = CASE WHEN version = 0 THEN coalesce($4, attributes) ELSE attributes END,
    pending_file_id = CASE WHEN version = 0 THEN NULL ELSE $3::uuid END,
    pending_attributes = CASE WHEN version = 0 THEN NULL ELSE coalesce($4, pending_attributes) END,
    updated_at = now()
WHERE workspace_id = $1 AND id = $2
"""

# The attributes of the discarded file are discarded too.
CLEAR_NEXT_FILE = """
UPDATE documents SET pending_file_id = NULL, pending_attributes = NULL, updated_at = now()
WHERE workspace_id = $1 AND id = $2
"""

UPDATE_ACTIVE_BUILD = """
UPDATE documents SET active_build = $3, version = version + 1, file_id = $4, pending_file_id = NULL,
    attributes = coalesce(pending_attributes, attributes), pending_attributes = NULL, chunk_count = $5,
    token_count = $6, warnings = $7, space_id = $8, status = 'ready', stage = NULL, progress = 1, error = NULL,
    updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status <> 'deleting'
RETURNING version
"""

UPDATE_DELETING = """
UPDATE documents SET status = 'deleting', stage = NULL, deletion_id = $3, error = NULL, updated_at = now()
WHERE workspace_id = $1 AND id = $2
"""

# Locked in id order, as SAVE_RUN and STORE_RESPONSE do.
LOCK_DOCUMENTS = """
SELECT id FROM documents WHERE workspace_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

UPDATE_DOCUMENTS_DELETING = """
UPDATE documents SET status = 'deleting', stage = NULL, deletion_id = $3, error = NULL, updated_at = now()
WHERE workspace_id = $1 AND id = ANY($2::uuid[]) AND status <> 'deleting'
"""

DELETE_DOCUMENTS = "DELETE FROM documents WHERE workspace_id = $1 AND id = ANY($2::uuid[]) RETURNING id"

COUNT_DOCUMENTS_OF_FILE = """
SELECT count(*) FROM documents WHERE workspace_id = $1 AND (file_id = $2 OR pending_file_id = $2)
"""

SELECT_USAGE = f"""
SELECT (SELECT count(*) FROM documents d WHERE d.workspace_id = $1 AND d.status <> 'deleting'
        AND d.collection_id <> ALL ({GOING_COLLECTIONS})) AS documents,
       (SELECT coalesce(sum(s.chunks), 0)::bigint FROM collection_sizes s WHERE s.workspace_id = $1
        AND s.collection_id <> ALL ({GOING_COLLECTIONS})) AS chunks,
       (SELECT coalesce(sum(size_bytes), 0) FROM files WHERE workspace_id = $1 AND deletion_id IS NULL)
           AS storage_bytes
"""


# Time limit of a list, because filters can be expensive.
LIST_TIMEOUT_S = 5.0


class ListedDocuments(NamedTuple):
    """Which documents to list: by collection, status, part of the file's name, time of creation, and attributes.

    The attributes are those of an `AttributeCondition`.
    """

    collection_id: UUID | None = None
    status: DocumentStatus | None = None
    filename_contains: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    contains: dict[str, object] | None = None
    path: str | None = None
    variables: dict[str, object] | None = None


async def insert_document(
    conn: Connection,
    workspace_id: UUID,
    document_id: UUID,
    *,
    collection_id: UUID,
    file_id: UUID,
    attributes: dict[str, object],
) -> Document | None:
    """Add a queued document; return None if the collection already has the file, even as a pending next version."""
    row = await conn.fetchrow(INSERT_DOCUMENT, workspace_id, document_id, collection_id, file_id, attributes)
    return _to_document(row) if row else None


async def select_document(conn: Connection, workspace_id: UUID, document_id: UUID) -> Document | None:
    """Return a document of the workspace."""
    row = await conn.fetchrow(SELECT_DOCUMENT, workspace_id, document_id)
    return _to_document(row) if row else None


async def select_documents(
    conn: Connection,
    workspace_id: UUID,
    selection: ListedDocuments,
    *,
    after: UUID | None = None,
    limit: int,
    is_oldest_first: bool = False,
) -> list[Document]:
    """Return at most `limit` documents, newest or oldest first, that follow `after` if given."""
    statement = SELECT_OLDEST_DOCUMENTS if is_oldest_first else SELECT_DOCUMENTS
    rows = await conn.fetch(statement, workspace_id, *selection, after, limit, timeout=LIST_TIMEOUT_S)
    return [_to_document(row) for row in rows]


async def count_documents(conn: Connection, workspace_id: UUID, selection: ListedDocuments) -> int:
    """Return how many documents are selected."""
    return int(await conn.fetchval(COUNT_DOCUMENTS, workspace_id, *selection, timeout=LIST_TIMEOUT_S))


async def select_document_ids(
    conn: Connection, workspace_id: UUID, *, collection_id: UUID | None, limit: int
) -> list[UUID]:
    """Return the ids of the oldest documents of a collection or of the whole workspace."""
    rows = await conn.fetch(SELECT_DOCUMENT_IDS, workspace_id, collection_id, limit)
    return [row["id"] for row in rows]


async def lock_document(
    conn: Connection, workspace_id: UUID, document_id: UUID
) -> tuple[DocumentStatus, UUID | None] | None:
    """Lock the row and return its status and deletion id; a document is always locked before its job."""
    row = await conn.fetchrow(LOCK_DOCUMENT, workspace_id, document_id)
    return (DocumentStatus(row["status"]), row["deletion_id"]) if row else None


async def update_document_attributes(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, attributes: dict[str, object]
) -> Document | None:
    """Replace the attributes, unless the document is being deleted; return None if it is unknown."""
    await conn.execute(UPDATE_DOCUMENT_ATTRIBUTES, workspace_id, document_id, attributes)
    return await select_document(conn, workspace_id, document_id)


async def update_ingestion_state(
    conn: Connection,
    workspace_id: UUID,
    document_id: UUID,
    *,
    status: DocumentStatus,
    stage: Stage | None = None,
    progress: float = 0.0,
    error: FailureInfo | None = None,
) -> None:
    """Set the state of a document's ingestion, unless the document is being deleted."""
    await conn.execute(
        UPDATE_INGESTION_STATE, workspace_id, document_id, status, stage, progress, error.to_json() if error else None
    )


async def update_stage(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, stage: Stage, progress: float
) -> None:
    """Set the stage and progress (0 to 1) of a document that is being processed."""
    await conn.execute(UPDATE_STAGE, workspace_id, document_id, stage, progress)


async def update_next_file(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, file_id: UUID, attributes: dict[str, object] | None
) -> None:
    """Set the file, and optionally the attributes, of the next version."""
    await conn.execute(UPDATE_NEXT_FILE, workspace_id, document_id, file_id, attributes)


async def clear_next_file(conn: Connection, workspace_id: UUID, document_id: UUID) -> None:
    """Discard the file of the next version, so that the current file is ingested again."""
    await conn.execute(CLEAR_NEXT_FILE, workspace_id, document_id)


async def update_active_build(
    conn: Connection,
    workspace_id: UUID,
    document_id: UUID,
    *,
    build_id: UUID,
    file_id: UUID,
    chunk_count: int,
    token_count: int,
    space_id: int,
    warnings: Sequence[DocumentWarning] = (),
) -> int | None:
    """Activate a build and return the new version; None if the document is deleted or being deleted."""
    version: int | None = await conn.fetchval(
        UPDATE_ACTIVE_BUILD,
        workspace_id,
        document_id,
        build_id,
        file_id,
        chunk_count,
        token_count,
        [warning.to_json() for warning in warnings],
        space_id,
    )
    return version


async def update_deleting(conn: Connection, workspace_id: UUID, document_id: UUID, *, deletion_id: UUID) -> None:
    """Mark a document as being deleted: once this is committed, searches no longer find it."""
    await conn.execute(UPDATE_DELETING, workspace_id, document_id, deletion_id)


async def update_documents_deleting(
    conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID], *, deletion_id: UUID
) -> None:
    """Lock the documents until the transaction ends, and mark those as being deleted that are not yet."""
    await conn.fetch(LOCK_DOCUMENTS, workspace_id, document_ids)
    await conn.execute(UPDATE_DOCUMENTS_DELETING, workspace_id, document_ids, deletion_id)


async def delete_documents(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> list[UUID]:
    """Remove the rows and return the ids of those that existed; all rows that refer to them must be removed before."""
    return [row["id"] for row in await conn.fetch(DELETE_DOCUMENTS, workspace_id, document_ids)]


async def count_documents_of(conn: Connection, workspace_id: UUID, *, collection_id: UUID | None) -> int:
    """Return the number of documents of a collection or of the whole workspace, with those that are being deleted."""
    count: int = await conn.fetchval(COUNT_DOCUMENTS_OF, workspace_id, collection_id)
    return count


async def count_documents_of_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> int:
    """Return the number of documents whose current or next version uses the file."""
    count: int = await conn.fetchval(COUNT_DOCUMENTS_OF_FILE, workspace_id, file_id)
    return count


async def select_usage(conn: Connection, workspace_id: UUID) -> Usage:
    """Return the current usage of a workspace."""
    row = await conn.fetchrow(SELECT_USAGE, workspace_id)
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return Usage(documents=row["documents"], chunks=int(row["chunks"]), storage_bytes=int(row["storage_bytes"]))


def _to_document(row: Record) -> Document:
    values = dict(row.items())
    return Document(
        **{
            **values,
            "status": DocumentStatus(values["status"]),
            "stage": Stage(values["stage"]) if values["stage"] else None,
            "space": EmbeddingSpace(**values["space"]) if values["space"] else None,
            "error": FailureInfo.from_json(values["error"]) if values["error"] else None,
            "warnings": tuple(map(DocumentWarning.from_json, values["warnings"])),
        }
    )
