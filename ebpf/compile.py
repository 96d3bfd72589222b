"""Compile the programs with bcc: ``python -m ebpf.compile OUT``.

A process of its own, because bcc brings LLVM along (over 100 MB resident), which must not stay in the agent.
The only module that imports bcc. Attaches nothing: OUT is a file as ``ebpf/compiled.py`` has it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from ebpf import compiled, owners
from ebpf.btf import Btf, btf_digest, read_btf
from ebpf.compiled import MapSpec, Programs, ProgramSpec
from ebpf.errors import BccMissingError, CompileError, EbpfError
from ebpf.events import offset_asserts
from ebpf.hooks import hook_of, kind_of
from ebpf.layout import header

PROGRAMS: Final = Path(__file__).parent / "programs"
SUBJECTS: Final = ("state", "owner", "describe", "session", "snapshot")
"""The sources, each after those it uses."""
USAGE: Final = "usage: python -m ebpf.compile OUT\n"

_DEBIAN_PACKAGES: Final = Path("/usr/lib/python3/dist-packages")
_INSTRUCTION_SIZE: Final = 8
_LOAD_64_BIT: Final = 0x18  # BPF_LD | BPF_DW | BPF_IMM
_MAP_DESCRIPTOR: Final = 1  # BPF_PSEUDO_MAP_FD, the source register of such a load


class Bcc(NamedTuple):
    """Where Debian's bcc is, and its version."""

    folder: Path
    version: str


def main(arguments: list[str]) -> int:
    """Compile for the running kernel into the file given. Returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write(USAGE)
        return 64
    try:
        compiled.write(Path(arguments[0]), compile_programs())
    except EbpfError as error:
        sys.stderr.write(f"error: {error}\n  try: {error.remedy}\n")
        return error.exit_code
    return 0


def compile_programs() -> Programs:
    """Read the kernel's layouts, compile the sources against them, take the instructions out of bcc."""
    bcc = find_bcc()
    types = Btf(read_btf())
    module = _compile(_import_bcc(bcc), source(types))
    return Programs(
        key=compiled.key_of(btf_digest=btf_digest(), bcc_version=bcc.version),
        maps=module.maps(),
        programs=module.programs(types),
    )


def source(btf: Btf) -> str:
    """Put the whole C text together. bcc rewrites map accesses in the main file only, so it is one file."""
    parts = ["#include <linux/types.h>", header(btf), '#include "event.h"', *offset_asserts()]
    parts += [(PROGRAMS / f"{subject}.bpf.c").read_text() for subject in SUBJECTS]
    parts += owners.offset_asserts()
    return "\n".join(parts)


def find_bcc(packages: Path = _DEBIAN_PACKAGES) -> Bcc:
    """Find Debian's bcc without importing it, from any venv. Raises BccMissingError."""
    folder = packages / "bcc"
    try:
        version = re.search(r"__version__ = '([^']+)'", (folder / "version.py").read_text())
    except OSError:
        version = None
    if version is None:
        raise BccMissingError(
            f"passive capture needs bcc; there is none in {folder}",
            remedy='apt install python3-bpfcc (the package named "bcc" on PyPI is an unrelated library)',
        )
    return Bcc(folder=folder, version=version[1])


def _import_bcc(bcc: Bcc) -> ModuleType:
    """Import that one package by its place, so that no other of Debian's modules comes into sight."""
    # Read by the library when it is loaded; otherwise it looks for kernel headers.
    os.environ["BCC_KERNEL_SOURCE"] = str(PROGRAMS / "kernel")
    spec = importlib.util.spec_from_file_location(
        "bcc", bcc.folder / "__init__.py", submodule_search_locations=[str(bcc.folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        raise BccMissingError(
            f"importing bcc {bcc.version} from {bcc.folder}: {error}",
            remedy="apt install --reinstall python3-bpfcc libbpfcc",
        ) from error
    return module


class _Module:
    """A compiled module inside bcc's library."""

    def __init__(self, library: Any, handle: int) -> None:
        self._library = library
        self._handle = handle

    def maps(self) -> tuple[MapSpec, ...]:
        return tuple(self._map(index) for index in range(self._ask("bpf_num_tables")))

    def programs(self, types: Btf) -> tuple[ProgramSpec, ...]:
        count = self._ask("bpf_num_functions")
        map_of = {self._ask("bpf_table_fd_id", index): index for index in range(self._ask("bpf_num_tables"))}
        return tuple(self._program(index, map_of, types) for index in range(count))

    def _map(self, index: int) -> MapSpec:
        return MapSpec(
            name=self._text("bpf_table_name", index),
            kind=self._ask("bpf_table_type_id", index),
            key_size=self._ask("bpf_table_key_size_id", index),
            value_size=self._ask("bpf_table_leaf_size_id", index),
            entries=self._ask("bpf_table_max_entries_id", index),
            flags=self._ask("bpf_table_flags_id", index),
        )

    def _program(self, index: int, map_of: dict[int, int], types: Btf) -> ProgramSpec:
        name = self._text("bpf_function_name", index)
        start = self._call("bpf_function_start", ctypes.c_void_p, name.encode())
        size = self._call("bpf_function_size", ctypes.c_size_t, name.encode())
        instructions = ctypes.string_at(start, size)
        hook_type = types.hook(kind_of(name).type_prefix + hook_of(name))
        return ProgramSpec(name, hook_type, instructions, tuple(map_references(instructions, map_of)))

    def _ask(self, function: str, *index: int) -> int:
        # c_int also where the library says size_t: the values are small; the reverse would read rubbish.
        return int(self._call(function, ctypes.c_int, *map(ctypes.c_size_t, index)))

    def _text(self, function: str, index: int) -> str:
        text: bytes = self._call(function, ctypes.c_char_p, ctypes.c_size_t(index))
        return text.decode()

    def _call(self, function: str, returns: Any, *arguments: Any) -> Any:
        # Typed here: bcc declares only some of these, and an undeclared one would cut the handle to 32 bits.
        address = ctypes.cast(getattr(self._library, function), ctypes.c_void_p).value or 0
        kinds = [ctypes.c_void_p, *(_kind(argument) for argument in arguments)]
        return ctypes.CFUNCTYPE(returns, *kinds)(address)(self._handle, *arguments)


def _kind(argument: Any) -> Any:
    return ctypes.c_char_p if isinstance(argument, bytes) else type(argument)


def _compile(bcc: Any, text: str) -> _Module:
    class CompileOnly(bcc.BPF):  # type: ignore[misc]  # bcc has no types
        """bcc's BPF without its last step, which attaches what it compiled."""

        def _trace_autoload(self) -> None:
            pass

    try:
        module = CompileOnly(text=text, cflags=[f"-I{PROGRAMS}"])
    except Exception as error:  # bcc raises nothing narrower
        raise CompileError(
            f"compiling the eBPF programs: {error}",
            remedy="report the compiler's messages, which are in the log, with the kernel's version",
        ) from error
    return _Module(bcc.lib, module.module)


def map_references(instructions: bytes, map_of: dict[int, int]) -> list[tuple[int, int]]:
    """Find where the instructions hold map descriptors: (byte offset, index of the map)."""
    found = []
    for offset in range(0, len(instructions), _INSTRUCTION_SIZE):
        code, registers, _, immediate = struct.unpack_from("<BBhi", instructions, offset)
        if code == _LOAD_64_BIT and registers >> 4 == _MAP_DESCRIPTOR:
            found.append((offset, map_of[immediate]))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
