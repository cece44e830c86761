"""No URL is fetched for a client: what opens connections is listed, with the address that each of them speaks to."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "ragsvc"
# What opens connections by HTTP or bare; the drivers of Postgres, Redis and the store are held by import-linter.
OPENING = {
    *("ClientSession", "AsyncClient", "AsyncOpenAI", "OpenAI", "HTTPConnection", "HTTPSConnection", "PoolManager"),
    *("open_connection", "create_connection", "open_unix_connection", "sock_connect", "urlopen", "urlretrieve"),
}
CLIENTS = {"requests", "urllib.request", "http.client", "ftplib", "smtplib", "urllib3", "httpx", "websockets"}
# Each speaks to an address that the operator has set, and to no other.
ALLOWED = {
    "llm/client.py": "OPENAI_BASE_URL",
    "storage/clients.py": "S3_ENDPOINT_URL",
    "webhooks/delivery.py": "an origin of WEBHOOK_ALLOWED_ORIGINS",
}
# They run for whoever typed the command, and are not part of a server.
COMMANDS = ("cli", "devstack")


def opens(path: Path) -> Iterator[str]:
    """Yield what a module opens connections by."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name in CLIENTS)
            case ast.ImportFrom(module=str(module)) if module in CLIENTS:
                yield module
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in OPENING:
                yield name


def test_only_what_is_listed_opens_connections() -> None:
    found = {
        str(relative): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if (relative := path.relative_to(PACKAGE)).parts[0] not in COMMANDS
        if (names := set(opens(path)))
    }
    assert found.keys() == ALLOWED.keys(), found


def test_what_opens_a_connection_is_noticed(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import urllib.request\nfrom http.client import X\nasync def f():\n    aiohttp.ClientSession()\n")
    assert set(opens(module)) == {"urllib.request", "http.client", "ClientSession"}
