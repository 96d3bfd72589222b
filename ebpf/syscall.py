"""bpf(2) itself, for the one command that bcc's library has no way to say: load for a BTF tracepoint.

The attributes are parts of ``union bpf_attr`` (include/uapi/linux/bpf.h), as far as they are used; the
kernel takes what is not given as 0::

    PROG_LOAD    type u32, instructions u32, instructions *, license *, log level u32, log size u32, log *,
                 -, -, name 16s, -, attach type u32, -, -, -*, -, -, -*, -, attach to BTF type u32
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

NUMBERS: Final = {"x86_64": 321, "aarch64": 280}
"""Of the system call, by machine."""

_PROG_LOAD: Final = 5
_PROGRAM_ATTRIBUTES: Final = struct.Struct("<IIQQIIQ8x16s4xI8x8x8x8x4xI")
_TRACING: Final = 26  # BPF_PROG_TYPE_TRACING
_NAME_SIZE: Final = 15

_libc = ctypes.CDLL(None, use_errno=True)


def load_tracing(name: str, instructions: bytes, *, attach_type: int, hook_type: int) -> int:
    """Load a tracing program for the hook with that BTF type. Raises OSError with the verifier's words."""
    try:
        return _load(name, instructions, attach_type, hook_type, log=None)
    except OSError as error:
        # Only now: a log that is too small for it would fail a good program on kernels before 6.4.
        log = ctypes.create_string_buffer(1 << 20)
        try:
            return _load(name, instructions, attach_type, hook_type, log=log)
        except OSError:
            words = log.value.decode(errors="replace").strip().splitlines()
            said = [line for line in words if not line.startswith("processed ")][-1:]
            raise OSError(error.errno, ": ".join([os.strerror(error.errno or 0), *said])) from None


def _load(
    name: str,
    instructions: bytes,
    attach_type: int,
    hook_type: int,
    *,
    log: ctypes.Array[ctypes.c_char] | None,
) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"GPL")
    told = _PROGRAM_ATTRIBUTES.pack(
        _TRACING,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(license_),
        1 if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        _name(name),
        attach_type,
        hook_type,
    )
    return _bpf(_PROG_LOAD, told)


def _bpf(command: int, attributes: bytes) -> int:
    told = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(_libc.syscall(NUMBERS[platform.machine()], command, told, len(attributes)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _name(name: str) -> bytes:
    """A name as bpf_obj_name_cpy() takes it: at most 15 characters of letters, digits, _ and dot."""
    return name[-_NAME_SIZE:].encode()
