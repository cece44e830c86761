"""Dead letters on the command line: which ones are meant, how one is shown, and giving them up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from ragsvc.cli.failures import BadUsage
from ragsvc.http.ids import Prefix, format_id
from ragsvc.jobs import dead_letters
from ragsvc.jobs.dead_letters import ReplaySelection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.models.jobs import Queue
    from ragsvc.resources import Resources

PAGE = 500


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did; a dry run discards nothing."""

    matched: int
    discarded: int
    dry_run: bool


def select(
    *, ids: Sequence[str] | None, every: bool, code: str | None, workspace: str | None, since: datetime | None
) -> ReplaySelection:
    """Return the selection that the options describe.

    Raises:
        BadUsage: they describe none, or `--all` besides others.
    """
    if every == any(given is not None for given in (ids, code, workspace, since)):
        raise BadUsage("say which letters: either --all, or some of --id, --code, --workspace and --since")
    return ReplaySelection(
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


async def discard_all(
    resources: Resources, queue: Queue, selection: ReplaySelection, *, limit: int | None, dry_run: bool
) -> Purged:
    """Discard the selected letters one by one; who is faster, a replay for one, wins."""
    wanted = (await _entry_ids(resources, queue, selection))[:limit]
    discarded = 0
    if not dry_run:
        for entry_id in wanted:
            discarded += await dead_letters.discard(resources, queue, entry_id)
    return Purged(len(wanted), discarded, dry_run)


async def _entry_ids(resources: Resources, queue: Queue, selection: ReplaySelection) -> list[str]:
    if selection.ids is not None:
        found = [await dead_letters.get_dead_letter(resources, queue, str(job_id)) for job_id in selection.ids]
        return [str(entry["entry_id"]) for entry in found if entry is not None and _fits(entry, selection)]
    entry_ids: list[str] = []
    offset = 0
    while True:
        page = await dead_letters.list_dead_letters(
            resources, queue, code=selection.code, workspace_id=selection.workspace_id, offset=offset, limit=PAGE
        )
        entry_ids += [str(entry["entry_id"]) for entry in page if _fits(entry, selection)]
        offset += PAGE
        if len(page) < PAGE:
            return entry_ids


def _fits(entry: dict[str, object], selection: ReplaySelection) -> bool:
    error, failed_at = entry["error"], entry["last_failed_at"]
    return (
        (selection.code is None or (isinstance(error, dict) and error.get("code") == selection.code))
        and (selection.workspace_id is None or entry["workspace_id"] == str(selection.workspace_id))
        and (selection.since is None or (isinstance(failed_at, datetime) and failed_at >= selection.since))
    )
