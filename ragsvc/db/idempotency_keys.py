"""The table idempotency_keys: who answers a call, and what was answered, for a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.idempotency import Claim, StoredResponse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.idempotency import Call

KEPT_H = 24

DELETE_OLD_CALLS = f"""
DELETE FROM idempotency_keys
WHERE workspace_id = $1 AND created_at <= now() - interval '{KEPT_H} hours'
  AND (status IS NOT NULL OR lease_until <= now())
"""

# A call whose lease is over has died without an answer; the next one like it goes on in its place.
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

SELECT_STORED_RESPONSE = """
SELECT call_hash, body_hash, resource_id, seed, status, headers, body
FROM idempotency_keys WHERE workspace_id = $1 AND key = $2
"""

RENEW_CALL = """
UPDATE idempotency_keys SET lease_until = now() + make_interval(secs => $4)
WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
"""

# The first body that is known is the call's: another one is another request.
BIND_BODY = """
UPDATE idempotency_keys SET body_hash = coalesce(body_hash, $4)
WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
RETURNING body_hash
"""

STORE_RESPONSE = """
UPDATE idempotency_keys SET status = $4, headers = $5, body = $6, document_ids = $7
WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
"""

END_LEASE = """
UPDATE idempotency_keys SET lease_until = now() WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
"""

DELETE_CALL = """
DELETE FROM idempotency_keys WHERE workspace_id = $1 AND key = $2 AND token = $3 AND status IS NULL
"""

BLANK_RESPONSES = """
UPDATE idempotency_keys SET body = NULL, document_ids = '{}'
WHERE workspace_id = $1 AND document_ids @> ARRAY[$2::uuid] AND body IS NOT NULL
"""

COUNT_RESPONSES_ABOUT = """
SELECT count(*) FROM idempotency_keys
WHERE workspace_id = $1 AND document_ids @> ARRAY[$2::uuid] AND body IS NOT NULL
"""

DELETE_CALLS = "DELETE FROM idempotency_keys WHERE workspace_id = $1"


async def claim_call(
    conn: Connection, call: Call, *, token: UUID, resource_id: UUID, seed: bytes, lease_s: float
) -> Claim | None:
    """Return the right to answer the call; None when it has its answer, or somebody is at it, or it is another one."""
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
    """Return what became of the call."""
    row = await conn.fetchrow(SELECT_STORED_RESPONSE, call.workspace_id, call.key)
    return StoredResponse(**row) if row else None


async def renew_call(conn: Connection, claim: Claim, *, lease_s: float) -> None:
    """Say that the call is still being answered."""
    await conn.execute(RENEW_CALL, claim.call.workspace_id, claim.call.key, claim.token, lease_s)


async def bind_body(conn: Connection, claim: Claim, *, body_hash: bytes) -> bytes | None:
    """Write down which body the call has and return the one it had first; None when another process has the call."""
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
    """Keep an answer for those who ask again."""
    await conn.execute(
        STORE_RESPONSE, claim.call.workspace_id, claim.call.key, claim.token, status, headers, body, list(document_ids)
    )


async def end_lease(conn: Connection, claim: Claim) -> None:
    """Let the next call like it go on at once: nobody knows how far this one got."""
    await conn.execute(END_LEASE, claim.call.workspace_id, claim.call.key, claim.token)


async def delete_call(conn: Connection, claim: Claim) -> None:
    """Forget a call that was refused: nothing was done."""
    await conn.execute(DELETE_CALL, claim.call.workspace_id, claim.call.key, claim.token)


async def blank_responses(conn: Connection, workspace_id: UUID, document_id: UUID) -> int:
    """Blank the answers that speak of a document and return how many there were."""
    status = await conn.execute(BLANK_RESPONSES, workspace_id, document_id)
    return int(status.rpartition(" ")[2])


async def count_responses_about(conn: Connection, workspace_id: UUID, document_id: UUID) -> int:
    """Return how many kept answers speak of a document."""
    count: int = await conn.fetchval(COUNT_RESPONSES_ABOUT, workspace_id, document_id)
    return count


async def delete_calls(conn: Connection, workspace_id: UUID) -> int:
    """Remove all that is kept for a workspace and return how many calls there were."""
    status = await conn.execute(DELETE_CALLS, workspace_id)
    return int(status.rpartition(" ")[2])
