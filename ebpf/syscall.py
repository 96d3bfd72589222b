"""bpf(2) itself, as far as the loader needs it.

bcc's library without LLVM has no word for the load for a BTF tracepoint, and its C++ runtime is 2.3 MB
resident. The attributes are parts of ``union bpf_attr`` (include/uapi/linux/bpf.h); the kernel takes
what is not given as 0. Everything here raises OSError, and every descriptor is the caller's.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

NUMBERS: Final = {"x86_64": 321, "aarch64": 280}
"""Of the system call, by machine."""

_MAP_CREATE: Final = 0
_MAP_LOOKUP: Final = 1
_MAP_UPDATE: Final = 2
_PROG_LOAD: Final = 5
_OBJECT_INFO: Final = 15
_RAW_TRACEPOINT_OPEN: Final = 17
_LINK_CREATE: Final = 28
_ITER_CREATE: Final = 33

_MAP_ATTRIBUTES: Final = struct.Struct("<5I8x16s")  # type, key size, value size, entries, flags, name
_ENTRY_ATTRIBUTES: Final = struct.Struct("<I4xQQQ")  # map, key *, value *, flags
_INFO_ATTRIBUTES: Final = struct.Struct("<IIQ")  # object, size, info *
_TRACEPOINT_ATTRIBUTES: Final = struct.Struct("<8xI4x")  # program
_LINK_ATTRIBUTES: Final = struct.Struct("<I4xI4x")  # program, attach type
_ITER_ATTRIBUTES: Final = struct.Struct("<I4x")  # link
_PROGRAM_ATTRIBUTES: Final = struct.Struct("<IIQQIIQ8x16s4xI8x8x8x8x4xI")
"""type, instructions, instructions *, license *, log level, log size, log *, name, attach type, BTF type"""

_TRACING: Final = 26  # BPF_PROG_TYPE_TRACING
_NAME_SIZE: Final = 15

_libc = ctypes.CDLL(None, use_errno=True)


def create_map(name: str, *, kind: int, key_size: int, value_size: int, entries: int, flags: int) -> int:
    """Make a map; ``kind`` is an ``enum bpf_map_type``."""
    return _bpf(_MAP_CREATE, _MAP_ATTRIBUTES.pack(kind, key_size, value_size, entries, flags, _name(name)))


def lookup(table: int, key: bytes, value_size: int) -> bytes | None:
    """Read an entry of a map; None where there is none. ``value_size`` is that of all CPUs together."""
    held, value = _held(key), ctypes.create_string_buffer(value_size)
    try:
        _bpf(_MAP_LOOKUP, _entry(table, held, value))
    except FileNotFoundError:
        return None
    return value.raw


def update(table: int, key: bytes, value: bytes) -> None:
    """Write an entry of a map."""
    held_key, held_value = _held(key), _held(value)
    _bpf(_MAP_UPDATE, _entry(table, held_key, held_value))


def object_info(descriptor: int, size: int) -> bytes:
    """Ask about a program, map or link: the first ``size`` bytes of its ``struct bpf_*_info``."""
    info = ctypes.create_string_buffer(size)
    _bpf(_OBJECT_INFO, _INFO_ATTRIBUTES.pack(descriptor, size, ctypes.addressof(info)))
    return info.raw


def open_tracepoint(program: int) -> int:
    """Attach a program to the BTF tracepoint that it was loaded for; gives the link."""
    return _bpf(_RAW_TRACEPOINT_OPEN, _TRACEPOINT_ATTRIBUTES.pack(program))


def create_link(program: int, *, attach_type: int) -> int:
    """Attach a program to the iterator that it was loaded for; gives the link."""
    return _bpf(_LINK_CREATE, _LINK_ATTRIBUTES.pack(program, attach_type))


def create_iterator(link: int) -> int:
    """Begin a run of an iterator; gives what to read from."""
    return _bpf(_ITER_CREATE, _ITER_ATTRIBUTES.pack(link))


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


def _held(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Bytes where the kernel can find them, as long as the caller keeps this."""
    return ctypes.create_string_buffer(data, len(data))


def _entry(table: int, key: ctypes.Array[ctypes.c_char], value: ctypes.Array[ctypes.c_char]) -> bytes:
    return _ENTRY_ATTRIBUTES.pack(table, ctypes.addressof(key), ctypes.addressof(value), 0)


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
