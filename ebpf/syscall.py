"""bpf(2) itself, for the three commands that bcc's library has no way to say what we need.

The attributes are parts of ``union bpf_attr`` (include/uapi/linux/bpf.h), as far as they are used; the
kernel takes what is not given as 0::

    MAP_CREATE   type u32, key size u32, value size u32, entries u32, flags u32, -, -, name 16s, -,
                 btf fd u32, btf key type u32, btf value type u32
    PROG_LOAD    type u32, instructions u32, instructions *, license *, log level u32, log size u32, log *,
                 -, -, name 16s, -, attach type u32, -, -, -*, -, -, -*, -, attach to BTF type u32
    BTF_LOAD     btf *, log *, btf size u32, log size u32, log level u32
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

NUMBERS: Final = {"x86_64": 321, "aarch64": 280}
"""Of the system call, by machine."""

_MAP_CREATE, _PROG_LOAD, _BTF_LOAD = 0, 5, 18
_MAP_ATTRIBUTES: Final = struct.Struct("<IIIII8x16s4xIII")
_PROGRAM_ATTRIBUTES: Final = struct.Struct("<IIQQIIQ8x16s4xI8x8x8x8x4xI")
_BTF_ATTRIBUTES: Final = struct.Struct("<QQIII")
_TRACING: Final = 26  # BPF_PROG_TYPE_TRACING
_NAME_SIZE: Final = 15

_libc = ctypes.CDLL(None, use_errno=True)


def create_map(
    kind: int, *, key_size: int, value_size: int, entries: int, flags: int, name: str, btf: int
) -> int:
    """Make a map whose key and value are types 1 and 2 of ``btf``. Raises OSError."""
    told = _MAP_ATTRIBUTES.pack(kind, key_size, value_size, entries, flags, _name(name), btf, 1, 2)
    return _bpf(_MAP_CREATE, told)


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


def load_btf(value_size: int) -> int:
    """Load type information of a map: key u32, value a struct of that size. Raises OSError."""
    blob = ctypes.create_string_buffer(btf_blob(value_size))
    return _bpf(_BTF_LOAD, _BTF_ATTRIBUTES.pack(ctypes.addressof(blob), 0, len(blob.raw) - 1, 0, 0))


def btf_blob(value_size: int) -> bytes:
    """Write BTF with two types, 1 = u32 and 2 = a struct without members (format: ebpf/btf.py)."""
    strings = b"\0key\0value\0"
    integer = struct.pack("<IIII", 1, 1 << 24, 4, 32)
    value = struct.pack("<III", 5, 4 << 24, value_size)
    types = integer + value
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings


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
