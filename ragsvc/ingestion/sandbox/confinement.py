"""Takes from a parsing process what no parser needs: sockets, and access to other processes."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_KILL_PROCESS = 0x80000000
# Offsets in struct seccomp_data.
NUMBER, ARCHITECTURE = 0, 4
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
# The first number of the x32 calls, which are the same calls under other numbers.
X32 = 0x40000000

# The audit architecture, and the numbers of: socket, connect, io_uring_setup (which can open sockets too), ptrace,
# process_vm_readv, process_vm_writev, pidfd_getfd.
ARCHITECTURES = {
    "x86_64": (0xC000003E, (41, 42, 425, 101, 310, 311, 438)),
    "aarch64": (0xC00000B7, (198, 203, 425, 117, 270, 271, 438)),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def deny_sockets() -> bool:
    """Make the kernel refuse these calls from now on; return False where the kernel cannot (other architectures).

    Requires PR_SET_NO_NEW_PRIVS.
    """
    known = ARCHITECTURES.get(platform.machine())
    if known is None:
        return False
    architecture, numbers = known
    code = _assemble(architecture, numbers)
    program = _Program(len(code) // 8, code)
    refused: int = ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    return refused == 0


def _assemble(architecture: int, numbers: tuple[int, ...]) -> bytes:
    refuse = SECCOMP_RET_ERRNO | errno.EPERM
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, refuse),
    ]
    for number in numbers:
        code += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, refuse)]
    code.append((RETURN, 0, 0, SECCOMP_RET_ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
