"""Worker processes, started as in production: `arq ragsvc.workers.…`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, BinaryIO

from tests.http.support.processes import environment
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings

STOP_TIMEOUT_S = 30.0


@asynccontextmanager
async def working(
    settings: Settings, settings_class: str = "IngestionSettings", *, copy_output_to: BinaryIO | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker and stop it with SIGTERM; its output is printed, and copied to `copy_output_to`."""
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "arq", f"ragsvc.workers.{settings_class}"),
            cwd=ROOT,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            output.seek(0)
            content = output.read()
            print(content.decode())  # noqa: T201 - pytest shows it with a failure
            if copy_output_to is not None:
                copy_output_to.write(content)
