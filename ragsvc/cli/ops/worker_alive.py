"""`ragsvc worker-alive`: reports to a supervisor whether a worker's loop is running."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated

import typer

from ragsvc.cli.exits import BadUsage, CommandFailed
from ragsvc.cli.options import Json  # noqa: TC001 - typer reads the annotations
from ragsvc.cli.output import print_json, print_line

# A worker waits up to 75 s for an unresponsive Redis; a healthy worker is never silent for longer.
MAX_AGE_S = 120.0


def worker_alive(
    *,
    file: Annotated[
        Path | None, typer.Option(envvar="WORKER_ALIVE_FILE", help="The file that the worker touches.")
    ] = None,
    max_age: Annotated[float, typer.Option(min=0.1, help="Maximum age of the file in seconds.")] = MAX_AGE_S,
    as_json: Json = False,
) -> None:
    """Exit with 0 if the worker that touches WORKER_ALIVE_FILE has polled its queue recently, else with 1."""
    if file is None:
        raise BadUsage("WORKER_ALIVE_FILE is not set: give the worker and this command the same path")
    try:
        age_s = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        raise CommandFailed(f"{file} does not exist: no worker has started, or it has stopped") from None
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}") from error
    if age_s > max_age:
        raise CommandFailed(f"the worker has not polled its queue for {age_s:.0f} s, more than {max_age:g}")
    age_s = max(age_s, 0)
    if as_json:
        print_json({"age_s": age_s})
    else:
        print_line(f"the worker polled its queue {age_s:.1f} s ago")
