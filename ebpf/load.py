"""READ FIRST: from eBPF programs to a list of TCP sessions.

::

    programs/*.c ─ compile.py (a child, bcc, LLVM) ─ compiled.py ─ library.py (bpf(2), no LLVM)
                                                                     │ raw tracepoints       │ iter/task_file
                                                                   ring.py                   │
                                                                     └── Monitor.drain() ────┴── .snapshot()
                                                                               events.SessionEvent
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from ebpf import compiled
from ebpf.btf import read_btf
from ebpf.check import require_capabilities
from ebpf.compile import find_bcc
from ebpf.compiled import Programs
from ebpf.errors import CompileError, HookAbsentError, LoadError
from ebpf.events import RECORD, SessionEvent, decode
from ebpf.library import BpfLibrary, with_maps
from ebpf.ring import Ring

RING_BYTES: Final = 4 * 1024 * 1024
"""22,000 sessions: at a drain every 0.25 s, room for 90,000 closes a second."""

COMPILE_LIMIT_S: Final = 60
"""A compilation takes half a second; a machine this far behind has other troubles."""

ITERATOR: Final = "bpf_iter__task_file"

OPTIONAL: Final = {"raw_tracepoint__sock_recv_length", "raw_tracepoint__sock_send_length"}
"""Since Linux 6.3. Before, who reads and writes is not seen: an accepted session's owner is known by its
close or from the file table, so one that is shorter than a window and reset may have none."""

_SEEN, _LOST = 0, 1  # entries of the map "counters"
_NETNS = 0  # entry of the map "settings"

_log = logging.getLogger(__name__)


def open_monitor(*, netns: int | None, cache: Path, ring_bytes: int = RING_BYTES) -> Monitor:
    """Watch the TCP sessions of network namespace ``netns`` (its inode), or of all.

    ``cache`` is the folder of compiled programs; agents may share one. ``ring_bytes`` is a power of two of at
    least a page. Sessions that are open already are known from here on, with their owners. Everything in the
    kernel belongs to descriptors of this process, and goes with it. Raises EbpfError.
    """
    require_capabilities()
    programs = fitting_programs(cache)
    library = BpfLibrary()
    with ExitStack() as opened:
        maps = _make_maps(library, programs, opened, ring_bytes=ring_bytes)
        library.write_u64(maps["settings"], _NETNS, netns or 0)
        ring = _map_ring(maps["events"], opened, ring_bytes=ring_bytes)
        links = _attach(library, programs, opened, list(maps.values()))
        library.run_iterator(links[ITERATOR])
        return Monitor(library, ring, counters=maps["counters"], links=links, opened=opened.pop_all())


class Monitor:
    """The attached programs. For one reader: drain and snapshot are not to be called concurrently."""

    def __init__(
        self, library: BpfLibrary, ring: Ring, *, counters: int, links: dict[str, int], opened: ExitStack
    ) -> None:
        """Take over from ``open_monitor``: ``links`` are descriptors by program, ``opened`` ends all."""
        self._library = library
        self._ring = ring
        self._counters = counters
        self._links = links
        self._opened = opened

    def drain(self) -> list[SessionEvent]:
        """Take the sessions that closed since the last call, in order of their closing."""
        return decode(self._ring.read())

    def snapshot(self) -> list[SessionEvent]:
        """Ask for the sessions open now, and the listening sockets. One held by two processes comes twice."""
        return decode(self._library.run_iterator(self._links[ITERATOR]))

    @property
    def seen(self) -> int:
        """Sessions that closed since the monitor was opened, delivered or lost."""
        return self._library.read_u64(self._counters, _SEEN)

    @property
    def lost(self) -> int:
        """Of them, those that found the ring full."""
        return self._library.read_u64(self._counters, _LOST)

    @property
    def hooks(self) -> tuple[str, ...]:
        """Hooks in use, as ``kind:name``."""
        return tuple(program.replace("__", ":", 1) for program in self._links)

    def close(self) -> None:
        """Take the programs out of the kernel. Closing twice is no error."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fitting_programs(cache: Path) -> Programs:
    """Take the programs from the cache where they fit; else compile them there. Raises EbpfError."""
    key = compiled.key_of(btf=read_btf(), bcc_version=find_bcc().version)
    path = cache / compiled.FILE_NAME
    found = compiled.read(path)
    if found is not None and found.key == key:
        return found
    with compiled.one_at_a_time(cache):
        found = compiled.read(path)  # another agent may just have compiled them
        if found is None or found.key != key:
            found = _compile(path, why=_why(path, found))
    return found


def _why(path: Path, found: Programs | None) -> str:
    if found is not None:
        return "kernel, programs or bcc changed"
    return "the cached ones are damaged" if path.exists() else "none cached yet"


def _compile(path: Path, *, why: str) -> Programs:
    """Compile in a child, which takes LLVM with it when it ends. Raises CompileError with its words."""
    _log.info("compiling the eBPF programs into %s: %s", path, why)
    _run_compiler(path)
    found = compiled.read(path)
    if found is None:
        raise CompileError(
            f"compiling the eBPF programs: the file {path} does not read back",
            remedy="check the disk that the cache is on",
        )
    return found


def _run_compiler(path: Path) -> None:
    try:
        subprocess.run(
            [sys.executable, "-m", "ebpf.compile", str(path.absolute())],
            # -m looks in the working folder first: that must be the one that this package is in.
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_LIMIT_S,
        )
    except subprocess.CalledProcessError as error:
        _log.error("the eBPF compiler said: %s", error.stderr.strip())
        said, _, remedy = error.stderr.rpartition("error: ")[2].partition("\n  try: ")
        raise CompileError(said.strip(), remedy=remedy.strip() or error.stderr[-500:]) from error
    except subprocess.TimeoutExpired as error:
        raise CompileError(
            f"compiling the eBPF programs: not done after {COMPILE_LIMIT_S} s",
            remedy="start the agent again when the machine has time",
        ) from error


def _make_maps(
    library: BpfLibrary, programs: Programs, opened: ExitStack, *, ring_bytes: int
) -> dict[str, int]:
    """Make the maps, in the order in which the programs number them."""
    maps = {}
    for spec in programs.maps:
        entries = ring_bytes if spec.name == "events" else spec.entries
        maps[spec.name] = library.create_map(msgspec.structs.replace(spec, entries=entries))
        opened.callback(os.close, maps[spec.name])
    return maps


def _map_ring(descriptor: int, opened: ExitStack, *, ring_bytes: int) -> Ring:
    try:
        ring = Ring(descriptor, ring_bytes=ring_bytes, record_size=RECORD.size)
    except OSError as error:
        raise LoadError(
            f"mapping the eBPF ring of {ring_bytes} bytes: {error.strerror}",
            remedy="check the limits on this process's memory (ulimit -v, the cgroup's memory.max)",
        ) from error
    opened.callback(ring.close)
    return ring


def _attach(library: BpfLibrary, programs: Programs, opened: ExitStack, maps: list[int]) -> dict[str, int]:
    """Load every program and attach it to the hook that its name says."""
    links = {}
    for program in programs.programs:
        loaded = library.load(program.name, with_maps(program.instructions, program.map_references, maps))
        opened.callback(os.close, loaded)
        try:
            link = library.attach(program.name, loaded)
        except HookAbsentError as error:
            if program.name not in OPTIONAL:
                raise
            _log.warning("%s; some accepted sessions will have no owner", error)
            continue
        opened.callback(os.close, link)
        links[program.name] = link
    return links
