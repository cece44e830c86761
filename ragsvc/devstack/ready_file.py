"""The ready file of a running stack: its URLs, its keys, and the pids of its processes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.devstack.parts.s3 import REGION
from ragsvc.devstack.secrets import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ragsvc.devstack.tenant import Tenant

# Kinds with one process, or with none if another server is used instead; the other kinds have a list.
SINGLE = ("postgres", "redis", "s3", "models")
SEVERAL = ("api", "ingestion", "deletion")


@dataclass(frozen=True, slots=True)
class Access:
    """The URLs and keys of a ready stack; `env` is the environment of its services, `notices` what /readyz says."""

    base_url: str
    tenant: Tenant
    env: Mapping[str, str]
    notices: Sequence[str] = ()


def write_ready_files(paths: Sequence[Path], access: Access, *, running: Iterable[tuple[str, int]]) -> None:
    """Replace the files atomically; `running` has the kind and pid of every serving process."""
    content = json.dumps(_describe(access) | {"supervisor_pid": os.getpid(), "pids": _group(running)}, indent=1)
    for path in paths:
        write_private(path, content)


def remove_ready_files(paths: Sequence[Path]) -> None:
    """Remove the files: the stack is no longer ready."""
    for path in paths:
        path.unlink(missing_ok=True)


def _describe(access: Access) -> dict[str, object]:
    env, tenant = access.env, access.tenant
    return {
        "base_url": access.base_url,
        "workspace_id": tenant.workspace_id,
        "api_key": tenant.api_key,
        "admin_key": env["ADMIN_API_KEY"],
        "database_url": env["DATABASE_URL"],
        "redis_url": env["REDIS_URL"],
        "queue_prefix": env.get("QUEUE_PREFIX", "ragsvc"),
        "s3": {
            "endpoint_url": env["S3_ENDPOINT_URL"],
            "access_key_id": env.get("S3_ACCESS_KEY_ID"),
            "secret_access_key": env.get("S3_SECRET_ACCESS_KEY"),
            "region": env.get("S3_REGION", REGION),
            "bucket": tenant.bucket,
        },
        "models_url": env["OPENAI_BASE_URL"],
        "embeddings_url": env.get("EMBEDDING_BASE_URL") or env["OPENAI_BASE_URL"],
    }


def _group(running: Iterable[tuple[str, int]]) -> dict[str, int | list[int] | None]:
    several: dict[str, list[int]] = {kind: [] for kind in SEVERAL}
    single: dict[str, int | None] = dict.fromkeys(SINGLE)
    for kind, pid in running:
        if kind in several:
            several[kind].append(pid)
        else:
            single[kind] = pid
    return {**several, **single}
