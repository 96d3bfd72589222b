"""bcc's own library without LLVM (``libbcc_bpf.so.0``, 0.4 MB): the bpf(2) calls that the loader needs.

What it cannot say (load for a BTF tracepoint) goes through ``ebpf/syscall.py``.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ebpf import syscall
from ebpf.compiled import MapSpec, ProgramSpec
from ebpf.errors import AttachError, BccMissingError, HookAbsentError, LoadError
from ebpf.hooks import ITERATOR, hook_of, kind_of, shown

LIBRARY: Final = "libbcc_bpf.so.0"

_READ_SIZE: Final = 1 << 16
_REMEDY: Final = (
    "check that neither kernel lockdown nor a security module denies bpf(2) to this process, "
    'or set passive = "off"'
)
_int, _text, _void = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p

_ARGUMENTS: Final = {
    "bcc_create_map": [_int, _text, _int, _int, _int, _int],
    "bpf_attach_raw_tracepoint": [_int, _text],
    "bcc_iter_attach": [_int, _void, ctypes.c_uint32],
    "bcc_iter_create": [_int],
    "bpf_obj_get_info": [_int, _void, _void],
    "bpf_lookup_elem": [_int, _void, _void],
    "bpf_update_elem": [_int, _void, _void, ctypes.c_uint64],
}
"""Function -> its arguments (src/cc/libbpf.h of bcc). All return an int: a descriptor, or below zero."""


_INFO_SIZE: Final = 256
_RECURSION_MISSES_AT: Final = 208  # in struct bpf_prog_info, since Linux 5.12


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

    def load(self, program: ProgramSpec, maps: list[int]) -> int:
        """Load a program. Raises LoadError with the verifier's last words, HookAbsentError."""
        if not program.hook_type:
            raise HookAbsentError(
                f"this kernel has no {shown(program.name)}",
                remedy="start a kernel that has it (Debian 12 and later do)",
            )
        instructions = with_maps(program.instructions, program.map_references, maps)
        with _said(f"loading the eBPF program {program.name!r}"):
            return syscall.load_tracing(
                hook_of(program.name),
                instructions,
                attach_type=kind_of(program.name).attach_type,
                hook_type=program.hook_type,
            )

    def attach(self, name: str, program: int) -> int:
        """Attach a program to the hook that it was loaded for. Returns the link. Raises AttachError."""
        if kind_of(name) is ITERATOR:
            link = self._library.bcc_iter_attach(program, None, 0)
        else:
            link = self._library.bpf_attach_raw_tracepoint(program, None)
        if link >= 0:
            return int(link)
        raise AttachError(f"attaching to the kernel's {shown(name)}: {_reason()}", remedy=_REMEDY)

    def run_iterator(self, link: int) -> bytes:
        """Run an iterator over everything; give what it wrote. Raises LoadError."""
        opened = _done(self._library.bcc_iter_create(link), "running an eBPF iterator")
        try:
            return b"".join(iter(lambda: _read_some(opened), b""))
        finally:
            os.close(opened)

    def read_per_cpu_u64(self, array: int, index: int) -> tuple[int, ...]:
        """Read one entry of a per-CPU array of u64. Raises LoadError."""
        values = (ctypes.c_uint64 * possible_cpus())()
        key = ctypes.c_uint32(index)
        found = self._library.bpf_lookup_elem(array, ctypes.byref(key), values)
        _done(found, f"reading entry {index} of an eBPF array")
        return tuple(values)

    def read_entry(self, table: int, key: int, size: int) -> bytes | None:
        """Read one entry of a hash with u32 keys; None where there is none."""
        value = ctypes.create_string_buffer(size)
        found = self._library.bpf_lookup_elem(table, ctypes.byref(ctypes.c_uint32(key)), value)
        return value.raw if found >= 0 else None

    def missed(self, program: int) -> int:
        """Count the runs of a program that the kernel left out, because it ran already. Raises LoadError."""
        info = ctypes.create_string_buffer(_INFO_SIZE)
        size = ctypes.c_uint32(_INFO_SIZE)
        _done(
            self._library.bpf_obj_get_info(program, info, ctypes.byref(size)), "asking about an eBPF program"
        )
        (count,) = struct.unpack_from("<Q", info, _RECURSION_MISSES_AT)
        return int(count)

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


def possible_cpus(path: Path = Path("/sys/devices/system/cpu/possible")) -> int:
    """Count the CPUs that a per-CPU map has room for: ``0-7`` and ``0,2-5`` say 8 and 6."""
    return int(re.split("[,-]", path.read_text().strip())[-1]) + 1


@contextmanager
def _said(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LoadError(f"{doing}: {error.strerror}", remedy=_REMEDY) from error


def _reason() -> str:
    return os.strerror(ctypes.get_errno())


def _done(result: int, doing: str) -> int:
    if result >= 0:
        return result
    raise LoadError(f"{doing}: {_reason()}", remedy=_REMEDY)
