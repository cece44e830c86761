"""Options that select dead letters on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from ragsvc.cli.exits import BadUsage
from ragsvc.domain.jobs import DeadLetterFilter
from ragsvc.jobs.dead_letters import parse_entry_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.domain.ids import Prefix


def select(
    *, ids: Sequence[str] | None, every: bool, code: str | None, workspace: str | None, since: datetime | None
) -> DeadLetterFilter:
    """Return the selection that the options describe.

    Raises:
        BadUsage: there is no option, or `--all` is combined with others.
    """
    if every == any(given is not None for given in (ids, code, workspace, since)):
        raise BadUsage("select dead letters with either --all or at least one of --id, --code, --workspace and --since")
    return DeadLetterFilter(
        ids=tuple(read_entry(text)[0] for text in ids) if ids is not None else None,
        code=code,
        workspace_id=read_id("ws", workspace) if workspace is not None else None,
        since=since if since is None or since.tzinfo else since.replace(tzinfo=UTC),
    )


def read_id(prefix: Prefix, text: str) -> UUID:
    """Parse a public id or a bare UUID.

    Raises:
        BadUsage: the text is neither.
    """
    try:
        return UUID(text.removeprefix(f"{prefix}_"))
    except ValueError:
        raise BadUsage(f"{text!r} is not an id such as {prefix}_018f…") from None


def read_entry(text: str) -> tuple[UUID, int | None]:
    """Parse an id that selects a dead letter; return its UUID and, if it has one, its generation.

    Raises:
        BadUsage: the text is not the id of an entry, a job or a subject.
    """
    try:
        return parse_entry_id(text)
    except ValueError:
        raise BadUsage(f"{text!r} is not an id such as job_018f…:1, job_018f… or doc_018f…") from None
