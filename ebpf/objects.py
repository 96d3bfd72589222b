"""Maps, programs and links of this process in the kernel, by bpf(2). Descriptors belong to the caller."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ebpf import syscall
from ebpf.compiled import MapSpec, ProgramSpec
from ebpf.errors import AttachError, HookAbsentError, LoadError
from ebpf.hooks import ITERATOR, hook_of, kind_of, shown

_READ_SIZE: Final = 1 << 16
_REMEDY: Final = (
    "check that neither kernel lockdown nor a security module denies bpf(2) to this process, "
    'or set passive = "off"'
)
_INFO_SIZE: Final = 256
_RECURSION_MISSES_AT: Final = 208  # in struct bpf_prog_info, since Linux 5.12


def create_map(spec: MapSpec) -> int:
    """Make a map. Raises LoadError."""
    with _said(f"making the eBPF map {spec.name!r} of {spec.entries} entries"):
        return syscall.create_map(
            spec.name,
            kind=spec.kind,
            key_size=spec.key_size,
            value_size=spec.value_size,
            entries=spec.entries,
            flags=spec.flags,
        )


def load(program: ProgramSpec, maps: list[int]) -> int:
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


def attach(name: str, program: int) -> int:
    """Attach a program to the hook that it was loaded for. Returns the link. Raises AttachError."""
    try:
        if kind_of(name) is ITERATOR:
            return syscall.create_link(program, attach_type=ITERATOR.attach_type)
        return syscall.open_tracepoint(program)
    except OSError as error:
        raise AttachError(
            f"attaching to the kernel's {shown(name)}: {error.strerror}", remedy=_REMEDY
        ) from error


def run_iterator(link: int) -> bytes:
    """Run an iterator over everything; give what it wrote. Raises LoadError."""
    with _said("running an eBPF iterator"):
        opened = syscall.create_iterator(link)
    try:
        return b"".join(iter(lambda: _read_some(opened), b""))
    finally:
        os.close(opened)


def read_per_cpu_u64(array: int, index: int) -> tuple[int, ...]:
    """Read one entry of a per-CPU array of u64. Raises LoadError."""
    values = struct.Struct(f"<{possible_cpus()}Q")
    with _said(f"reading entry {index} of an eBPF array"):
        found = syscall.lookup(array, _u32(index), values.size)
        assert found is not None, "arrays have all their entries"
        return values.unpack(found)


def read_entry(table: int, key: int, size: int) -> bytes | None:
    """Read one entry of a hash with u32 keys; None where there is none. Raises LoadError."""
    with _said(f"reading entry {key} of an eBPF map"):
        return syscall.lookup(table, _u32(key), size)


def missed(program: int) -> int:
    """Count the runs of a program that the kernel left out, because it ran already. Raises LoadError."""
    with _said("asking about an eBPF program"):
        info = syscall.object_info(program, _INFO_SIZE)
    (count,) = struct.unpack_from("<Q", info, _RECURSION_MISSES_AT)
    return int(count)


def write_u64(array: int, index: int, value: int) -> None:
    """Write one entry of an array map of u64. Raises LoadError."""
    with _said(f"writing entry {index} of an eBPF array"):
        syscall.update(array, _u32(index), struct.pack("<Q", value))


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


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
