"""No URL is fetched for a client: all modules that open connections are listed with the address they connect to."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "ragsvc"
# Functions and classes that open HTTP or plain TCP connections. import-linter restricts the drivers of Postgres, Redis
# and the object store.
CONNECTION_FUNCTIONS = {
    *("ClientSession", "AsyncClient", "AsyncOpenAI", "OpenAI", "HTTPConnection", "HTTPSConnection", "PoolManager"),
    *("open_connection", "create_connection", "open_unix_connection", "sock_connect", "urlopen", "urlretrieve"),
}
CLIENT_MODULES = {"requests", "urllib.request", "http.client", "ftplib", "smtplib", "urllib3", "httpx", "websockets"}
# Each connects only to an address that the operator has configured.
ALLOWED = {
    "llm/client.py": "OPENAI_BASE_URL, EMBEDDING_BASE_URL, RERANK_BASE_URL",
    "storage/clients.py": "S3_ENDPOINT_URL",
    "webhooks/delivery.py": "an origin of WEBHOOK_ALLOWED_ORIGINS",
}
# Run by a user on the command line, not part of a server.
COMMANDS = ("cli", "devstack")


def connection_openers(path: Path) -> Iterator[str]:
    """Yield the names that a module uses to open connections."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name in CLIENT_MODULES)
            case ast.ImportFrom(module=str(module)) if module in CLIENT_MODULES:
                yield module
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in CONNECTION_FUNCTIONS:
                yield name


def test_only_listed_modules_open_connections() -> None:
    found = {
        str(relative): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if (relative := path.relative_to(PACKAGE)).parts[0] not in COMMANDS
        if (names := set(connection_openers(path)))
    }
    assert found.keys() == ALLOWED.keys(), found


def test_code_that_opens_a_connection_is_detected(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import urllib.request\nfrom http.client import X\nasync def f():\n    aiohttp.ClientSession()\n")
    assert set(connection_openers(module)) == {"urllib.request", "http.client", "ClientSession"}
