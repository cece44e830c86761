"""How a command fails: one line on stderr, and an exit code for scripts."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from ragsvc.errors.base import RagsvcError

REFUSED = 1
USAGE = 2
UNREACHABLE = 3
DEFECT = 70
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143


class CommandFailed(typer.TyperException):
    """The service refused the request, or the work failed."""

    exit_code = REFUSED


class BadUsage(CommandFailed):
    """The command line or a setting is invalid; nothing was done."""

    exit_code = USAGE


class Unreachable(CommandFailed):
    """The service is unreachable; a retry may help."""

    exit_code = UNREACHABLE


class Terminated(CommandFailed):
    """SIGTERM ended the command."""

    exit_code = TERMINATED


def explain(error: BaseException) -> tuple[str, int]:
    """Return the error line and exit code for an exception that ended a command; the line may be empty."""
    error = _leaf(error)
    match error:
        case typer.TyperException():
            return _with_hint(error), error.exit_code
        case RagsvcError():
            return error.detail, REFUSED
        case ModuleNotFoundError() if not (error.name or "").startswith("ragsvc"):
            return f"{error.name} is not installed: this command needs the extra `ragsvc[devstack]`", USAGE
        case KeyboardInterrupt() | SystemExit() | BrokenPipeError():
            return "", _quiet_code(error)
        case _:
            if os.environ.get("RAGSVC_DEBUG"):
                traceback.print_exception(error)
            hint = "RAGSVC_DEBUG=1 shows the traceback"
            return f"this is a bug in ragsvc: {type(error).__name__}: {error} ({hint})", DEFECT


def _quiet_code(error: KeyboardInterrupt | SystemExit | BrokenPipeError) -> int:
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case SystemExit():
            return error.code if isinstance(error.code, int) else REFUSED
        case BrokenPipeError():
            # The reader of our output has closed the pipe; flushing the rest at exit would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE


def say(message: str) -> None:
    """Write one error line to stderr."""
    one_line = " ".join(message.split())
    print(f"error: {one_line}", file=sys.stderr)


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _with_hint(error: typer.TyperException) -> str:
    # Typer's own errors carry the command whose help explains the usage.
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return f"{error.format_message()}{hint}"
