"""Clients that common generators make from the OpenAPI document compile, and work against the service."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.support.locks import locked

if TYPE_CHECKING:
    from tests.http.conftest import Tenant

HERE = Path(__file__).parent
GENERATOR = "openapi-python-client==0.29.1"
PACKAGES = ("openapi-typescript@7", "openapi-fetch@0.17", "typescript@5")
TIMEOUT_S = 180.0
ANSWER = "Kettles boil water [1]."


def shared_folder(name: str, *commands: list[str]) -> Path:
    """Return a folder in which the commands have run once; later runs reuse it."""
    folder = Path(tempfile.gettempdir()) / f"ragsvc-clients-{os.geteuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    done = folder / "done"
    with locked(folder / "install.lock"):
        if not done.exists():
            for command in commands:
                if subprocess.run(command, cwd=folder, check=False).returncode:  # noqa: S603 - fixed commands
                    pytest.skip(f"cannot install {name} here")
            done.touch()
    return folder


@pytest.fixture(scope="module")
def python_tools() -> Path:
    """The programs of an environment with openapi-python-client, which has the dependencies of what it generates."""
    create = [sys.executable, "-m", "venv", "environment"]
    install = ["environment/bin/pip", "install", "-qq", "--disable-pip-version-check", GENERATOR]
    return shared_folder(GENERATOR, create, install) / "environment" / "bin"


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """The folder node_modules with openapi-typescript, openapi-fetch and TypeScript."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("openapi-typescript needs node and npm")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", ".", *PACKAGES]
    return shared_folder("-".join(PACKAGES), install) / "node_modules"


async def run(*command: str, folder: Path, **variables: str) -> str:
    """Run a program, which must succeed, and return its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def save_document(tenant: Tenant, folder: Path) -> Path:
    path = folder / "openapi.json"
    path.write_bytes((await tenant.api.get("/openapi.json")).raw)
    return path


def arguments(tenant: Tenant, ready: dict[str, Any]) -> tuple[str, str, str]:
    return str(tenant.api.client.make_url("")).rstrip("/"), str(tenant.api.key), ready["id"]


def assert_worked(output: str) -> None:
    assert orjson.loads(output) == {
        "uploaded": "toasters.txt",
        "listed": ["toasters.txt", "kettles.txt"],
        "found": "kettles.txt",
        "answer": ANSWER,
        "streamed": ANSWER,
        "problem": "not_found",
        "status": "ready",
    }


async def test_a_generated_python_client_works(
    tenant: Tenant, ready: dict[str, Any], python_tools: Path, tmp_path: Path
) -> None:
    document = await save_document(tenant, tmp_path)
    generated = await run(
        *(str(python_tools / "openapi-python-client"), "generate", "--path", str(document), "--meta", "none"),
        *("--config", str(HERE / "generator.yaml"), "--output-path", "ragsvc_client"),
        folder=tmp_path,
        # The generator formats the client with ruff.
        PATH=f"{python_tools}:{os.environ['PATH']}",
    )
    assert "warning" not in generated.lower()
    names = {path.stem for path in (tmp_path / "ragsvc_client" / "models").iterdir()}
    assert {"document", "document_page", "search_request", "problem", "message_delta_data"} <= names
    assert not [name for name in names if name.endswith(("_view", "_body")) or "_type_1_type_" in name]
    python = str(python_tools / "python")
    await run(python, "-W", "error", "-m", "compileall", "-q", "ragsvc_client", folder=tmp_path)
    output = await run(
        *(python, "-W", "error", str(HERE / "scenario.py"), *arguments(tenant, ready)),
        folder=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert_worked(output)


async def test_generated_typescript_types_work(
    tenant: Tenant, ready: dict[str, Any], node_modules: Path, tmp_path: Path
) -> None:
    document = await save_document(tenant, tmp_path)
    programs = node_modules / ".bin"
    (tmp_path / "node_modules").symlink_to(node_modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(HERE / "scenario.ts", tmp_path)
    generated = await run(str(programs / "openapi-typescript"), str(document), "-o", "api.ts", folder=tmp_path)
    assert "warn" not in generated.lower()
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable")
    await run(str(programs / "tsc"), *options, "scenario.ts", folder=tmp_path)
    assert_worked(await run("node", "scenario.js", *arguments(tenant, ready), folder=tmp_path))
