"""`ragsvc delete`: deletes documents and shows the receipts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ragsvc.cli.client.documents import wait_for_deletion
from ragsvc.cli.client.http import open_client, segment
from ragsvc.cli.client.receipts import print_receipt
from ragsvc.cli.exits import REFUSED, CommandFailed, say
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.cli.client.http import Client
    from ragsvc.http.v1.deletions import DeletionView


def delete(
    documents: Annotated[list[str], typer.Argument(help="Ids of documents.")],
    *,
    keep_file: Annotated[bool, typer.Option("--keep-file", help="Keep the source file.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the receipts.")] = True,
    as_json: Json = False,
) -> None:
    """Delete documents and show the receipts. Once acknowledged, no search finds them."""
    deletions, failures = asyncio.run(_delete_all(documents, purge_file=not keep_file, wait=wait))
    if as_json:
        print_json({"data": deletions})
    else:
        for deletion in deletions:
            print_receipt(deletion)
    for document, error in failures:
        say(f"{document}: {error.message}")
    if failures:
        raise typer.Exit(max(error.exit_code for _, error in failures))
    if any(deletion["status"] == "failed" for deletion in deletions):
        raise typer.Exit(REFUSED)


async def _delete_all(
    documents: Sequence[str], *, purge_file: bool, wait: bool
) -> tuple[list[DeletionView], list[tuple[str, CommandFailed]]]:
    """Request all deletions, then wait for them. Return them, and the documents that could not be deleted."""
    accepted: list[str] = []
    failures: list[tuple[str, CommandFailed]] = []
    async with open_client() as client:
        for document in documents:
            try:
                accepted.append(await request_deletion(client, document, purge_file=purge_file))
            except CommandFailed as error:
                failures.append((document, error))
        if wait:
            return [await wait_for_deletion(client, deletion_id) for deletion_id in accepted], failures
        current = [await client.get(f"/v1/deletions/{deletion_id}") for deletion_id in accepted]
        return [cast("DeletionView", deletion) for deletion in current], failures


async def request_deletion(client: Client, document_id: str, *, purge_file: bool = True) -> str:
    """Request a document's deletion and return the deletion's id."""
    accepted = await client.delete(f"/v1/documents/{segment(document_id)}", params={"purge_file": purge_file})
    return str(accepted["deletion_id"])
