"""`ragsvc samples`: copies the sample documents to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragsvc import devstack
from ragsvc.cli.exits import CommandFailed
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json, print_line

SAMPLES = Path(devstack.__file__).parent / "samples"


def samples(
    folder: Annotated[Path, typer.Argument(help="Folder to copy to; created if it does not exist.", file_okay=False)],
    *,
    as_json: Json = False,
) -> None:
    """Copy the sample documents to a folder: a PDF, a DOCX, an HTML and a Markdown file."""
    copied = copy_samples(folder)
    if as_json:
        print_json({"data": [str(path) for path in copied]})
    else:
        for path in copied:
            print_line(str(path))


def copy_samples(folder: Path) -> list[Path]:
    """Copy every sample to the folder and return the paths of the copies, in alphabetical order.

    Raises:
        CommandFailed: the folder cannot be written, or contains another file of the same name. Nothing was copied.
    """
    copies = {folder / sample.name: sample.read_bytes() for sample in sorted(SAMPLES.iterdir()) if sample.is_file()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if different := [path for path, content in copies.items() if path.exists() and path.read_bytes() != content]:
            raise CommandFailed(f"{different[0]} already exists with different content")
        for path, content in copies.items():
            path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"the samples cannot be copied to {folder}: {error.strerror}") from error
    return list(copies)
