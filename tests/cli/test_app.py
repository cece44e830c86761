"""The command line as a whole: its help, its errors, its exit codes, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command

from ragsvc.cli import app as command_line
from ragsvc.cli.app import COMMANDS, build_app
from ragsvc.cli.exits import DEFECT, INTERRUPTED, Unreachable, explain
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import CommandLine

BIN = Path(sys.executable).parent


def walk(name: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a command and its subcommands with their words."""
    command = get_command(build_app(name)).commands[name]  # type: ignore[attr-defined]  # the root is a group
    yield (name,), command
    for below, inner in getattr(command, "commands", {}).items():
        yield (name, below), inner


EVERY = [(words, command) for name in COMMANDS for words, command in walk(name)]


@pytest.mark.parametrize(("words", "command"), EVERY, ids=[" ".join(words) for words, _ in EVERY])
def test_every_command_explains_itself(words: tuple[str, ...], command: Any, cli: CommandLine) -> None:
    shown = cli(*words, "--help")
    assert shown.code == 0
    assert shown.out.startswith(f"Usage: ragsvc {' '.join(words)}")
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


@pytest.mark.parametrize("words", [words for words, command in EVERY if not hasattr(command, "commands")])
def test_every_command_except_servers_can_output_json(words: tuple[str, ...]) -> None:
    command = next(command for known, command in EVERY if known == words)
    speaks_json = any("--json" in parameter.opts for parameter in command.params)
    assert speaks_json == (words[0] not in {"serve", "dev", "demo"})


def test_help_is_shown_without_a_command(cli: CommandLine) -> None:
    shown = cli()
    assert shown.code == 0
    assert all(name in shown.out for name in COMMANDS)


def test_the_version_is_that_of_the_package(cli: CommandLine) -> None:
    assert cli("--version").out.strip() == version("ragsvc")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("serv",), "No such command 'serv'. Did you mean 'serve'"),
        (("upload",), "Missing argument 'files'"),
        (("search", "x", "--limit", "1000"), "--limit"),
        (("search", "x", "--mode", "magic"), "--mode"),
        (("dlq",), "Missing command"),
        (("dlq", "list", "nowhere"), "nowhere"),
        (("documents", "list", "--no-such-option"), "--no-such-option"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(args: tuple[str, ...], message: str, cli: CommandLine) -> None:
    result = cli(*args)
    assert result.code == 2
    assert message in result.error
    assert "--help`)" in result.error


def test_every_outcome_has_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAGSVC_DEBUG", raising=False)
    assert explain(StartupRefused("too old")) == ("too old", 1)
    assert explain(ExceptionGroup("tasks", [ExceptionGroup("more", [Unreachable("away")])])) == ("away", 3)
    assert explain(KeyboardInterrupt()) == ("", INTERRUPTED)
    assert explain(ModuleNotFoundError("…", name="psutil")) == (
        "psutil is not installed: this command needs the extra `ragsvc[devstack]`",
        2,
    )
    assert explain(SystemExit(4)) == ("", 4)
    message, code = explain(ZeroDivisionError("division by zero"))
    assert code == DEFECT
    assert "ZeroDivisionError: division by zero" in message


def test_a_bug_shows_its_traceback_only_on_request(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_wanted: str | None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command_line, "build_app", broken)
    assert "RAGSVC_DEBUG=1 shows the traceback" in cli("search", "x").error
    monkeypatch.setenv("RAGSVC_DEBUG", "1")
    assert "Traceback" in cli("search", "x").err


def execute(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> tuple[str, str]:
    """Run a process that must succeed, and return its output."""
    ended = subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=True, text=True)  # noqa: S603
    return ended.stdout, ended.stderr


def test_the_module_and_the_script_are_the_same_command(tmp_path: Path) -> None:
    env = {**os.environ, "COLUMNS": "80"}
    script = execute(str(BIN / "ragsvc"), "--help", cwd=tmp_path, env=env)
    assert script == execute(sys.executable, "-m", "ragsvc", "--help", cwd=tmp_path, env=env)
    assert script[0].startswith("Usage: ragsvc")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        (
            "from ragsvc.cli.app import run; run(['--help'])",
            {"aiohttp", "asyncpg", "openai", "numpy", "rich", "pydantic_settings", "ragsvc.devstack"},
        ),
        (
            "import ragsvc.cli.commands.serve",
            {"onnx", "onnxruntime", "ragsvc.devstack", "ragsvc.cli.client.http", "tokenizers"},
        ),
        (
            "import ragsvc.cli.ops.migrate",
            {"onnx", "onnxruntime", "ragsvc.devstack", "ragsvc.cli.client.http", "aiohttp"},
        ),
        ("import ragsvc.cli.commands.upload", {"onnx", "onnxruntime", "ragsvc.devstack", "asyncpg", "openai", "numpy"}),
        ("import ragsvc.cli.ops.dlq", {"onnx", "onnxruntime", "ragsvc.devstack", "openai"}),
    ],
)
def test_a_command_imports_only_its_own_libraries(statement: str, unwanted: set[str]) -> None:
    script = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    listed, _ = execute(sys.executable, "-c", script)
    assert unwanted & set(listed.splitlines()) == set()


def test_a_closed_pipe_ends_the_command_quietly(tmp_path: Path) -> None:
    said = execute("/bin/sh", "-c", f"{sys.executable} -m ragsvc --help | true", cwd=tmp_path)
    assert said == ("", "")
