"""The workspace and key of a data directory's stack, the same at every start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from ragsvc.devstack.secrets import write_private
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from pathlib import Path

NAME = "dev"
TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A workspace with its bucket and a key."""

    workspace_id: str
    bucket: str
    api_key: str


async def open_tenant(base_url: str, *, admin_key: str, stored_at: Path) -> Tenant:
    """Return the tenant stored in the file if its key still works, else create one through the API and store it.

    Raises:
        StartupRefused: the API refuses.
    """
    async with aiohttp.ClientSession(base_url, timeout=TIMEOUT) as session:
        tenant = _read(stored_at)
        if tenant is not None and await _opens(session, tenant):
            return tenant
        admin = {"Authorization": f"Bearer {admin_key}"}
        workspaces = await _call(session, "GET", "/v1/workspaces?limit=100", headers=admin)
        # The workspace can exist already, from an earlier start that was killed before it stored the key.
        found = [workspace for workspace in workspaces["data"] if workspace["name"] == NAME]
        workspace = (
            found[0] if found else await _call(session, "POST", "/v1/workspaces", headers=admin, json={"name": NAME})
        )
        keys = f"/v1/workspaces/{workspace['id']}/keys"
        key = await _call(session, "POST", keys, headers=admin, json={"name": NAME})
    tenant = Tenant(workspace["id"], workspace["bucket"], key["key"])
    write_private(stored_at, json.dumps(asdict(tenant)))
    return tenant


async def read_notices(base_url: str) -> list[str]:
    """Return the sentences with which a ready service describes what does not work."""
    async with aiohttp.ClientSession(base_url, timeout=TIMEOUT) as session:
        found: list[str] = (await _call(session, "GET", "/readyz"))["notices"]
        return found


def _read(stored_at: Path) -> Tenant | None:
    return Tenant(**json.loads(stored_at.read_text())) if stored_at.exists() else None


async def _opens(session: aiohttp.ClientSession, tenant: Tenant) -> bool:
    headers = {"Authorization": f"Bearer {tenant.api_key}"}
    async with session.get("/v1/workspace", headers=headers) as answer:
        return answer.ok and (await answer.json())["id"] == tenant.workspace_id


async def _call(session: aiohttp.ClientSession, method: str, path: str, **arguments: Any) -> Any:  # noqa: ANN401
    try:
        async with session.request(method, path, **arguments) as answer:
            if answer.ok:
                return await answer.json()
            raise StartupRefused(f"{method} {path} returned {answer.status}: {await answer.text()}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StartupRefused(f"{method} {path} failed: {error or type(error).__name__}") from error
