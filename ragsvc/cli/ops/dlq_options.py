"""Dead letters on the command line: which ones are meant, and how one is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from ragsvc.cli.exits import BadUsage
from ragsvc.domain.ids import Prefix, format_id
from ragsvc.domain.jobs import DeadLetterFilter

if TYPE_CHECKING:
    from collections.abc import Sequence


def select(
    *, ids: Sequence[str] | None, every: bool, code: str | None, workspace: str | None, since: datetime | None
) -> DeadLetterFilter:
    """Return the letters that the options describe.

    Raises:
        BadUsage: they describe none, or `--all` besides others.
    """
    if every == any(given is not None for given in (ids, code, workspace, since)):
        raise BadUsage("say which letters: either --all, or some of --id, --code, --workspace and --since")
    return DeadLetterFilter(
        ids=tuple(read_id("job", one.partition(":")[0]) for one in ids) if ids is not None else None,
        code=code,
        workspace_id=read_id("ws", workspace) if workspace is not None else None,
        since=since if since is None or since.tzinfo else since.replace(tzinfo=UTC),
    )


def read_id(prefix: Prefix, text: str) -> UUID:
    """Return the UUID of an id in its public form or bare, as it stands in the Redis lists.

    Raises:
        BadUsage: it is neither.
    """
    try:
        return UUID(text.removeprefix(f"{prefix}_"))
    except ValueError:
        raise BadUsage(f"{text!r} is no id such as {prefix}_018f…") from None


def read_entry(text: str) -> str:
    """Return the id of an entry, or of its job, as dead_letters takes it."""
    job, colon, generation = text.partition(":")
    return f"{read_id('job', job)}{colon}{generation}"


def render(entry: dict[str, object]) -> dict[str, object]:
    """Return an entry with public ids, as the admin API shows it."""
    document_id = entry["document_id"]
    return {
        **entry,
        "job_id": format_id("job", UUID(str(entry["job_id"]))),
        "workspace_id": format_id("ws", UUID(str(entry["workspace_id"]))),
        "document_id": format_id("doc", UUID(str(document_id))) if document_id else None,
    }
