"""`ragsvc storage`: compares the object store with the database; needs a server's settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.ops.context import act_as_operator, say_stores
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json, print_line, print_table, show_size
from ragsvc.db import workspaces
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.ids import format_id
from ragsvc.resources import open_resources
from ragsvc.settings.settings import load_settings
from ragsvc.storage.errors import ObjectMissing
from ragsvc.uploads.orphans import Finding, FindingKind, find_missing_objects, find_orphans, remove_orphan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

PAGE = 100

storage = typer.Typer()


@storage.callback()
def _storage() -> None:
    """Maintain the object store."""


@storage.command()
def audit(
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Remove orphans instead of only listing them.")] = False,
    older_than_s: Annotated[
        float | None,
        typer.Option("--older-than-s", min=0, help="Minimum age of an orphan in seconds; ORPHAN_TTL_S by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List orphans (objects and unfinished uploads without a row) and files whose object is missing.

    Only the buckets of this database's workspaces are checked. Reads DATABASE_URL and the S3_… settings.
    """
    settings = load_settings()
    ttl_s = settings.api.orphan_ttl_s if older_than_s is None else older_than_s
    act_as_operator()
    say_stores(settings)
    found = asyncio.run(_audit(settings, ttl_s=ttl_s, fix=fix))
    if as_json:
        print_json({"data": [_to_json(one) for one in found], "fixed": fix})
        return
    _print(found, fix=fix)


async def _audit(settings: Settings, *, ttl_s: float, fix: bool) -> list[Finding]:
    found: list[Finding] = []
    async with open_resources(settings, pool_size=2) as resources:
        async for workspace in _workspaces(resources):
            try:
                orphans = [one async for one in find_orphans(resources, workspace, ttl_s=ttl_s)]
                missing = [one async for one in find_missing_objects(resources, workspace)]
            except ObjectMissing:
                found.append(Finding(FindingKind.BUCKET, workspace.id, workspace.bucket, "", workspace.created_at))
                continue
            if orphans and fix:
                await _record_audit(resources, workspace, count=len(orphans))
                for orphan in orphans:
                    await remove_orphan(resources, orphan)
            found += [*orphans, *missing]
    return found


async def _record_audit(resources: Resources, workspace: Workspace, *, count: int) -> None:
    subject = (AuditSubject.WORKSPACE, workspace.id)
    async with resources.pool.acquire() as conn:
        await insert_audit_event(
            conn,
            AuditAction.STORAGE_CLEANED,
            workspace_id=workspace.id,
            subject=subject,
            details={"orphans": count},
        )


async def _workspaces(resources: Resources) -> AsyncIterator[Workspace]:
    page: list[Workspace] = []
    while True:
        async with resources.pool.acquire() as conn:
            page = await workspaces.select_workspaces(conn, before=page[-1].id if page else None, limit=PAGE)
        for workspace in page:
            yield workspace
        if len(page) < PAGE:
            return


def _print(found: list[Finding], *, fix: bool) -> None:
    if found:
        print_table(
            ("WHAT", "WORKSPACE", "KEY", "SIZE", "SINCE", "FILE"),
            [
                (
                    *(one.kind, format_id("ws", one.workspace_id), one.object_key),
                    None if one.size_bytes is None else show_size(one.size_bytes),
                    *(one.since, format_id("file", one.file_id) if one.file_id else None),
                )
                for one in found
            ],
        )
    orphans = sum(one.kind in {FindingKind.OBJECT, FindingKind.MULTIPART} for one in found)
    removed = "removed" if fix else "nothing was changed; --fix removes them"
    print_line(f"{orphans} orphans" + (f": {removed}" if orphans else ""))
    print_line(f"{len(found) - orphans} files or workspaces with missing objects")


def _to_json(one: Finding) -> dict[str, object]:
    return {
        "kind": one.kind,
        "workspace_id": format_id("ws", one.workspace_id),
        "bucket": one.bucket,
        "object_key": one.object_key,
        "size_bytes": one.size_bytes,
        "since": one.since,
        "s3_upload_id": one.s3_upload_id,
        "file_id": format_id("file", one.file_id) if one.file_id else None,
    }
