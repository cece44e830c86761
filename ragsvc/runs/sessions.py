"""Creates, changes, deletes and reads chat sessions and their messages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ragsvc.db import chat_messages, chat_sessions, collections, workspaces
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.errors.requests import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.chat.conversations import ChatMessage, ChatSession
    from ragsvc.resources import Resources


async def create_session(
    resources: Resources,
    workspace_id: UUID,
    session_id: UUID,
    *,
    title: str | None,
    instructions: str | None,
    model: str | None,
    collection_ids: Sequence[UUID] | None,
    no_answer_text: str | None = None,
) -> ChatSession:
    """Add a session; without `collection_ids` it searches the whole workspace.

    Raises:
        InvalidRequest: the model is not available.
        NotFound: one of the collections does not exist.
    """
    _check_model(resources, model)
    async with resources.pool.acquire() as conn, conn.transaction():
        await workspaces.pin_workspace(conn, workspace_id)
        await _check_collections(conn, workspace_id, collection_ids)
        return await chat_sessions.insert_session(
            conn,
            workspace_id,
            session_id,
            title=title,
            instructions=instructions,
            model=model,
            collection_ids=collection_ids,
            no_answer_text=no_answer_text,
        )


async def find_session(resources: Resources, workspace_id: UUID, session_id: UUID) -> ChatSession | None:
    """Return a session of the workspace; None if it does not exist."""
    async with resources.pool.acquire() as conn:
        return await chat_sessions.select_session(conn, workspace_id, session_id)


async def get_session(resources: Resources, workspace_id: UUID, session_id: UUID) -> ChatSession:
    """Return a session of the workspace.

    Raises:
        NotFound: it does not exist.
    """
    session = await find_session(resources, workspace_id, session_id)
    if session is None:
        raise NotFound
    return session


async def list_sessions(
    resources: Resources, workspace_id: UUID, *, before: UUID | None, limit: int
) -> list[ChatSession]:
    """Return at most `limit` of the workspace's sessions created before `before`, newest first."""
    async with resources.pool.acquire() as conn:
        return await chat_sessions.select_sessions(conn, workspace_id, before=before, limit=limit)


async def list_session_messages(
    resources: Resources, workspace_id: UUID, session_id: UUID, *, after: UUID | None, limit: int
) -> list[ChatMessage]:
    """Return at most `limit` of the session's messages created after `after`, oldest first.

    Raises:
        NotFound: the session does not exist.
    """
    async with resources.pool.acquire() as conn:
        if await chat_sessions.select_session(conn, workspace_id, session_id) is None:
            raise NotFound
        return await chat_messages.select_messages(conn, workspace_id, session_id, after=after, limit=limit)


async def update_session(resources: Resources, session: ChatSession, changes: Mapping[str, Any]) -> ChatSession:
    """Change the given fields of a session: `title`, `instructions`, `model`, `collection_ids`, `no_answer_text`.

    Raises:
        InvalidRequest: the model is not available.
        NotFound: the session was deleted, or one of the collections does not exist.
    """
    _check_model(resources, changes.get("model"))
    collection_ids = changes.get("collection_ids")
    if collection_ids is not None:
        changes = {**changes, "collection_ids": tuple(collection_ids)}
    async with resources.pool.acquire() as conn:
        await _check_collections(conn, session.workspace_id, collection_ids)
        changed = await chat_sessions.update_session(conn, replace(session, **changes))
    if changed is None:
        raise NotFound
    return changed


async def delete_session(resources: Resources, workspace_id: UUID, session_id: UUID) -> None:
    """Delete a session with its messages and runs; an answer in progress is stopped.

    Raises:
        NotFound: the session does not exist.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        if not await chat_sessions.delete_session(conn, workspace_id, session_id):
            raise NotFound
        await insert_audit_event(
            conn,
            AuditAction.CHAT_SESSION_DELETED,
            workspace_id=workspace_id,
            subject=(AuditSubject.CHAT_SESSION, session_id),
        )


def _check_model(resources: Resources, model: str | None) -> None:
    llm = resources.settings.llm
    if llm.resolve_chat_model(model) is None:
        available = ", ".join(sorted({*llm.allowed_chat_models, *llm.chat_aliases}))
        raise InvalidRequest(fields={"model": f"is not available; available are: {available}"})


async def _check_collections(conn: Connection, workspace_id: UUID, collection_ids: Sequence[UUID] | None) -> None:
    if collection_ids is None:
        return
    known = await collections.select_known_collection_ids(conn, workspace_id, collection_ids)
    if known != set(collection_ids):
        raise NotFound("One of the collections does not exist.")
