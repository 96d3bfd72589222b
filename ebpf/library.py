"""bcc's own library without LLVM (``libbcc_bpf.so.0``, 0.4 MB): the bpf(2) calls that the loader needs."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final, NamedTuple

from ebpf.compiled import MapSpec
from ebpf.errors import AttachError, BccMissingError, HookAbsentError, LoadError

LIBRARY: Final = "libbcc_bpf.so.0"

_LOG_SIZE: Final = 1 << 16
_READ_SIZE: Final = 1 << 16
_REMEDY: Final = (
    "check that neither kernel lockdown nor a security module denies bpf(2) to this process, "
    'or set passive = "off"'
)
_int, _text, _void = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p

_ARGUMENTS: Final = {
    "bcc_create_map": [_int, _text, _int, _int, _int, _int],
    "bcc_prog_load": [_int, _text, _text, _int, _text, ctypes.c_uint, _int, _text, ctypes.c_uint],
    "bpf_attach_raw_tracepoint": [_int, _text],
    "bcc_iter_attach": [_int, _void, ctypes.c_uint32],
    "bcc_iter_create": [_int],
    "bpf_lookup_elem": [_int, _void, _void],
    "bpf_update_elem": [_int, _void, _void, ctypes.c_uint64],
}
"""Function -> its arguments (src/cc/libbpf.h of bcc). All return an int: a descriptor, or below zero."""


class _Kind(NamedTuple):
    """What the prefix of a program's name says: how it is loaded, and to what it attaches."""

    prefix: str
    program_type: int  # enum bpf_prog_type


_RAW_TRACEPOINT: Final = _Kind("raw_tracepoint__", 17)
_ITERATOR: Final = _Kind("bpf_iter__", 26)  # BPF_PROG_TYPE_TRACING


class BpfLibrary:
    """The loaded library. Descriptors it returns belong to the caller."""

    def __init__(self) -> None:
        """Load it. Raises BccMissingError."""
        try:
            library = ctypes.CDLL(LIBRARY, use_errno=True)
        except OSError as error:
            raise BccMissingError(
                f"passive capture needs {LIBRARY}: {error}", remedy="apt install python3-bpfcc"
            ) from error
        for name, arguments in _ARGUMENTS.items():
            getattr(library, name).argtypes = arguments
        self._library = library

    def create_map(self, spec: MapSpec) -> int:
        """Make a map. Raises LoadError."""
        created = self._library.bcc_create_map(
            spec.kind, spec.name.encode(), spec.key_size, spec.value_size, spec.entries, spec.flags
        )
        return _done(created, f"making the eBPF map {spec.name!r} of {spec.entries} entries")

    def load(self, name: str, instructions: bytes) -> int:
        """Load a program. Raises LoadError with the verifier's last words."""
        log = ctypes.create_string_buffer(_LOG_SIZE)
        kind = _kind(name).program_type
        loaded = self._library.bcc_prog_load(
            kind, name.encode(), instructions, len(instructions), b"GPL", 0, 0, log, _LOG_SIZE
        )
        return _done(loaded, f"loading the eBPF program {name!r}", log=log.value.decode(errors="replace"))

    def attach(self, name: str, program: int) -> int:
        """Attach a loaded program to the hook its name says. Returns the link. Raises AttachError."""
        kind = _kind(name)
        hook = name.removeprefix(kind.prefix)
        if kind is _ITERATOR:
            link = self._library.bcc_iter_attach(program, None, 0)
        else:
            link = self._library.bpf_attach_raw_tracepoint(program, hook.encode())
        if link >= 0:
            return int(link)
        kind_of_error = HookAbsentError if ctypes.get_errno() == errno.ENOENT else AttachError
        raise kind_of_error(
            f"attaching to the kernel's {kind.prefix.rstrip('_')} {hook!r}: {_reason()}",
            remedy='start a kernel that has it (Debian 12 and later do), or set passive = "off"',
        )

    def run_iterator(self, link: int) -> bytes:
        """Run an iterator over everything; give what it wrote. Raises LoadError."""
        opened = _done(self._library.bcc_iter_create(link), "running an eBPF iterator")
        try:
            return b"".join(iter(lambda: _read_some(opened), b""))
        finally:
            os.close(opened)

    def read_u64(self, array: int, index: int) -> int:
        """Read one entry of an array map of u64. Raises LoadError."""
        key, value = ctypes.c_uint32(index), ctypes.c_uint64()
        found = self._library.bpf_lookup_elem(array, ctypes.byref(key), ctypes.byref(value))
        _done(found, f"reading entry {index} of an eBPF array")
        return value.value

    def write_u64(self, array: int, index: int, value: int) -> None:
        """Write one entry of an array map of u64. Raises LoadError."""
        key, new = ctypes.c_uint32(index), ctypes.c_uint64(value)
        written = self._library.bpf_update_elem(array, ctypes.byref(key), ctypes.byref(new), 0)
        _done(written, f"writing entry {index} of an eBPF array")


def with_maps(instructions: bytes, references: tuple[tuple[int, int], ...], maps: list[int]) -> bytes:
    """Put the descriptors of this process's maps where the instructions refer to them."""
    patched = bytearray(instructions)
    for offset, index in references:
        struct.pack_into("<i", patched, offset + 4, maps[index])
    return bytes(patched)


def _read_some(iterator: int) -> bytes:
    """Read what an iterator wrote next; empty at its end. Raises LoadError."""
    while True:
        try:
            return os.read(iterator, _READ_SIZE)
        except BlockingIOError:
            continue  # after a million files without a socket the kernel wants to be asked again
        except OSError as error:
            raise LoadError(f"reading an eBPF iterator: {error.strerror}", remedy=_REMEDY) from error


def _kind(name: str) -> _Kind:
    return _ITERATOR if name.startswith(_ITERATOR.prefix) else _RAW_TRACEPOINT


def _reason() -> str:
    return os.strerror(ctypes.get_errno())


def _done(result: int, doing: str, *, log: str = "") -> int:
    if result >= 0:
        return result
    last_words = log.strip().splitlines()[-1:]
    raise LoadError(
        ": ".join([f"{doing}: {_reason()}", *last_words]),
        remedy=_REMEDY,
    )
