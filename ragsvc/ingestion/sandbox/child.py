"""The parsing process: it drops its privileges, then runs one task after another.

This module imports no parser, because the worker process imports it too.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import multiprocessing
import os
import resource
import signal
from importlib import import_module
from math import ceil
from typing import TYPE_CHECKING

from ragsvc.errors.base import RagsvcError, StartupRefused
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected, TransientFailure, WorkError
from ragsvc.ingestion.sandbox.confinement import deny_sockets
from ragsvc.ingestion.sandbox.environment import scrub_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.ingestion.parsing.limits import ParseLimits

PR_SET_NO_NEW_PRIVS = 38
MAX_OPEN_FILES = 64
# Upper bound for the text in UTF-8, or for its overlapping chunks, both with JSON escapes.
RESULT_BYTES_PER_CHAR = 12
SPARE_RESULT_BYTES = 64 * 1024 * 1024
SPARE_CPU_S = 10
# Exit code for running out of memory; arbitrary, but not used by anything else.
EXIT_OUT_OF_MEMORY = 86
DOCUMENT, TRANSIENT, STARTUP = "document", "transient", "startup"
KINDS: dict[type[WorkError], str] = {DocumentRejected: DOCUMENT, TransientFailure: TRANSIENT}
MAX_CODE_CHARS = 64
MAX_DETAIL_CHARS = 2000


def initialise(limits: ParseLimits) -> None:
    """Confine this process: tie its life to the worker's, remove credentials from its environment, set limits."""
    _die_with_worker()
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Python-level handlers never run while a parser hangs in native code.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    scrub_environment()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    deny_sockets()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, limits.max_text_chars * RESULT_BYTES_PER_CHAR + SPARE_RESULT_BYTES)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)


def _die_with_worker() -> None:
    """Make the kernel kill this process when the worker dies, even in the middle of native code.

    PR_SET_PDEATHSIG would watch the fork server, which lives as long as its children. The worker has the other end of
    the sentinel's pipe open: when that closes, the kernel sends SIGIO, which terminates the process by default.
    """
    worker = multiprocessing.parent_process()
    if worker is None:
        return
    sentinel = worker.sentinel
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if not worker.is_alive():
        os._exit(1)


def run(target: str, arguments: Mapping[str, object], *, timeout_s: float) -> dict[str, object]:
    """Call `module:function` and return its result, or its error, as data that `open_answer` understands."""
    try:
        return {"result": _call(target, arguments, timeout_s=timeout_s)}
    except WorkError as error:
        return {"error": KINDS.get(type(error), DOCUMENT), "code": error.work_code, "detail": error.detail}
    except RagsvcError as error:
        return {"error": STARTUP, "code": "", "detail": error.detail}


def open_answer(answer: object) -> object:
    """Return the result in an answer of `run`, or raise its error.

    Raises:
        RagsvcError: as raised by the function; `parser_crash` if this is no answer of `run`.
    """
    match answer:
        case {"result": result}:
            return result
        case {"error": str(kind), "code": str(code), "detail": str(detail)}:
            detail = detail[:MAX_DETAIL_CHARS]
            if kind == STARTUP:
                raise StartupRefused(detail)
            raise (TransientFailure if kind == TRANSIENT else DocumentRejected)(code[:MAX_CODE_CHARS], detail)
        case _:
            raise DocumentRejected(DocumentErrorCode.PARSER_CRASH, "the parser returned no answer")


def _call(target: str, arguments: Mapping[str, object], *, timeout_s: float) -> object:
    """Call the function; any unexpected exception becomes `parser_crash`."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime + timeout_s + SPARE_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (ceil(cpu_s), resource.RLIM_INFINITY))
    module, _, function = target.partition(":")
    try:
        return getattr(import_module(module), function)(**arguments)
    except MemoryError:
        # After a MemoryError the process cannot be trusted with another document.
        os._exit(EXIT_OUT_OF_MEMORY)
    except RagsvcError:
        raise
    except OSError as error:
        raise _explain_os_error(error) from error
    except Exception as error:
        detail = f"the parser failed on this file ({type(error).__name__})"
        raise DocumentRejected(DocumentErrorCode.PARSER_CRASH, detail) from error


def _explain_os_error(error: OSError) -> RagsvcError:
    if error.errno == errno.EFBIG:
        return DocumentRejected(DocumentErrorCode.LIMIT_EXCEEDED, "the document's text is too large to store")
    return TransientFailure(DocumentErrorCode.INTERNAL, f"the parsing process failed: {error}")


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
