"""The table idempotency_keys: leases of calls and their responses, stored for a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.documents import IS_GOING
from ragsvc.domain.idempotency import Claim, StoredResponse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.idempotency import Call

RETENTION_H = 24

DELETE_OLD_CALLS = f"""
DELETE FROM idempotency_keys
WHERE workspace_id = $1 AND created_at <= now() - interval '{RETENTION_H} hours'
  AND (status IS NOT NULL OR lease_until <= now())
"""

# A call whose lease has expired ended without a response; the next identical call takes it over.
CLAIM_CALL = """
INSERT INTO idempotency_keys AS known
    (workspace_id, key, call_hash, body_hash, resource_id, seed, token, lease_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))
ON CONFLICT (workspace_id, key) DO UPDATE
    SET token = excluded.token, lease_until = excluded.lease_until,
        body_hash = coalesce(known.body_hash, excluded.body_hash)
    WHERE known.status IS NULL AND known.lease_until <= now() AND known.call_hash = excluded.call_hash
      AND (known.body_hash IS NULL OR excluded.body_hash IS NULL OR known.body_hash = excluded.body_hash)
RETURNING resource_id, seed, xmax <> 0 AS is_taken_over
"""

# The body is withheld at once if a document in it is being deleted.
SELECT_STORED_RESPONSE = f"""
SELECT call_hash, body_hash, resource_id, seed, status, headers,
       CASE WHEN NOT EXISTS (
           SELECT FROM documents d WHERE d.workspace_id = $1 AND d.id = ANY(document_ids) AND {IS_GOING})
       THEN body END AS body
FROM idempotency_keys WHERE workspace_id = $1 AND key = $2
"""

RENEW_CALL = """
UPDATE idempotency_keys SET lease_until = now() + make_interval(secs => $4)
WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
"""

# The first known body is bound to the call: a different one means a different request.
BIND_BODY = """
UPDATE idempotency_keys SET body_hash = coalesce(body_hash, $4)
WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
RETURNING body_hash
"""

# A body that mentions documents is stored only if none of them has been deleted or is being deleted: the lock waits for
# a deletion that is being accepted, and makes a later one wait, so that it finds this response.
STORE_RESPONSE = """
WITH live AS MATERIALIZED (
    SELECT id FROM documents
    WHERE workspace_id = $1 AND id = ANY($7::uuid[]) AND status <> 'deleting' ORDER BY id FOR SHARE
), kept AS (
    SELECT count(*) = cardinality($7) AS is_whole FROM live
)
UPDATE idempotency_keys SET status = $4, headers = $5, body = CASE WHEN is_whole THEN $6::bytea END,
    document_ids = CASE WHEN is_whole THEN $7::uuid[] ELSE '{}' END
FROM kept WHERE workspace_id = $1 AND key = $2 AND token = $3 AND idempotency_keys.status IS NULL
"""

END_LEASE = """
UPDATE idempotency_keys SET lease_until = now() WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
"""

DELETE_CALL = """
DELETE FROM idempotency_keys WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
"""

BLANK_RESPONSES = """
UPDATE idempotency_keys SET body = NULL, document_ids = '{}'
WHERE workspace_id = $1 AND document_ids && $2::uuid[] AND body IS NOT NULL
"""

COUNT_RESPONSES_ABOUT = """
SELECT count(*) FROM idempotency_keys
WHERE workspace_id = $1 AND document_ids && $2::uuid[] AND body IS NOT NULL
"""

DELETE_OLD_CALLS_OF_ALL = f"""
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys
    WHERE created_at <= now() - interval '{RETENTION_H} hours' AND (status IS NOT NULL OR lease_until <= now())
    LIMIT $1 FOR UPDATE SKIP LOCKED))
"""


async def claim_call(
    conn: Connection, call: Call, *, token: UUID, resource_id: UUID, seed: bytes, lease_s: float
) -> Claim | None:
    """Claim a call; return None if it has a response, is being processed, or was a different request."""
    await conn.execute(DELETE_OLD_CALLS, call.workspace_id)
    row = await conn.fetchrow(
        CLAIM_CALL,
        call.workspace_id,
        call.key,
        call.call_hash,
        call.body_hash,
        resource_id,
        seed,
        token,
        lease_s,
    )
    return Claim(call, token, **row) if row else None


async def select_stored_response(conn: Connection, call: Call) -> StoredResponse | None:
    """Return the stored response of a call; None if the call is unknown."""
    row = await conn.fetchrow(SELECT_STORED_RESPONSE, call.workspace_id, call.key)
    return StoredResponse(**row) if row else None


async def renew_call(conn: Connection, claim: Claim, *, lease_s: float) -> None:
    """Renew the lease of a claimed call."""
    await conn.execute(RENEW_CALL, claim.call.workspace_id, claim.call.key, claim.token, lease_s)


async def bind_body(conn: Connection, claim: Claim, *, body_hash: bytes) -> bytes | None:
    """Bind a body to the call and return the hash bound first; None if another process has claimed the call."""
    bound: bytes | None = await conn.fetchval(
        BIND_BODY, claim.call.workspace_id, claim.call.key, claim.token, body_hash
    )
    return bound


async def store_response(
    conn: Connection,
    claim: Claim,
    *,
    status: int,
    headers: dict[str, str],
    body: bytes | None,
    document_ids: Sequence[UUID] = (),
) -> None:
    """Store a response for repetitions of the call; without its body if a document in it is deleted."""
    await conn.execute(
        STORE_RESPONSE, claim.call.workspace_id, claim.call.key, claim.token, status, headers, body, list(document_ids)
    )


async def end_lease(conn: Connection, claim: Claim) -> None:
    """End the lease, so that the next identical call can take over at once; it is unknown how far this one got."""
    await conn.execute(END_LEASE, claim.call.workspace_id, claim.call.key, claim.token)


async def delete_call(conn: Connection, claim: Claim) -> None:
    """Remove a call that was refused without effect."""
    await conn.execute(DELETE_CALL, claim.call.workspace_id, claim.call.key, claim.token)


async def blank_responses(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Blank the stored responses that mention any of the documents and return their number."""
    status = await conn.execute(BLANK_RESPONSES, workspace_id, document_ids)
    return int(status.rpartition(" ")[2])


async def count_responses_about(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Return the number of stored responses that mention any of the documents."""
    count: int = await conn.fetchval(COUNT_RESPONSES_ABOUT, workspace_id, document_ids)
    return count


async def delete_old_calls_of_all(conn: Connection, *, limit: int) -> int:
    """Remove the calls of all workspaces that are older than a day and return their number."""
    return int((await conn.execute(DELETE_OLD_CALLS_OF_ALL, limit)).removeprefix("DELETE "))
