"""READ FIRST: from eBPF programs to a list of TCP sessions.

::

    programs/*.c ─ compile.py (a child, bcc, LLVM) ─ compiled.py ─ objects.py (bpf(2), no LLVM)
                                                                     │ BTF tracepoints       │ iter/task_file
                                                                   ring.py                   │
                                                                     └── Monitor.drain() ────┴── .snapshot()
                                                                               events.SessionEvent
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

import msgspec

from ebpf import compiled, objects
from ebpf.btf import btf_digest
from ebpf.capabilities import require_capabilities
from ebpf.compile import find_bcc
from ebpf.compiled import Programs, ProgramSpec
from ebpf.errors import CompileError, LoadError
from ebpf.events import RECORD, Counters, OwnerFacts, SessionEvent, decode
from ebpf.hooks import OPTIONAL, STAND_IN, TASK_FILE, shown
from ebpf.owners import OWNER, decode_owner
from ebpf.ring import Ring

RING_BYTES: Final = 2 * 1024 * 1024
"""7,489 sessions. All of it is resident once it was full; the reader comes sooner when much is waiting."""

COMPILE_LIMIT_S: Final = 180
"""A compilation takes half a second, and up to 70 s in an emulated machine whose host is busy."""

_SEEN, _LOST, _CROWDED_OUT = 0, 1, 2  # entries of the map "counters"
_NETNS, _TICK_US = 0, 1  # entries of the map "settings"

_NOTHING: Final = Counters(seen=(), lost=(), missed=0)

_COARSE_CLOCK: Final = 6  # CLOCK_MONOTONIC_COARSE, which Python does not name

_log = logging.getLogger(__name__)


def open_monitor(
    *, netns: int | None, cache: Path, ring_bytes: int = RING_BYTES, paused: bool = False
) -> Monitor:
    """Watch the TCP sessions of network namespace ``netns`` (its inode), or of all.

    ``cache`` is the folder of compiled programs; agents may share one. ``ring_bytes`` is a power of two of at
    least a page. Sessions that are open already are known from here on, with their owners. Everything in the
    kernel belongs to descriptors of this process, and goes with it. ``paused``: nothing is there until the
    monitor is resumed. Raises EbpfError.
    """
    require_capabilities()
    monitor = Monitor(fitting_programs(cache), netns=netns, ring_bytes=ring_bytes)
    if not paused:
        monitor.resume()
    return monitor


class Attached(NamedTuple):
    """A program at its hook: descriptors of the two."""

    program: int
    link: int


class InKernel(NamedTuple):
    """What is in the kernel while sessions are watched; descriptors by name. ``opened`` ends all."""

    ring: Ring
    maps: dict[str, int]
    attached: dict[str, Attached]
    opened: ExitStack


class Monitor:
    """The attached programs. For one reader: drain and snapshot are not to be called concurrently."""

    source: Literal["ebpf"] = "ebpf"

    def __init__(self, programs: Programs, *, netns: int | None, ring_bytes: int) -> None:
        """Keep the programs, with nothing in the kernel yet."""
        self._programs = programs
        self._netns = netns
        self._ring_bytes = ring_bytes
        self._there: InKernel | None = None
        self._before = _NOTHING  # what was counted until it was paused

    def resume(self) -> None:
        """Put the programs into the kernel, with tables that know nothing yet. Raises EbpfError."""
        if self._there is None:
            self._there = _in_kernel(self._programs, netns=self._netns, ring_bytes=self._ring_bytes)

    def pause(self) -> None:
        """Take programs and tables out of the kernel, with what was not drained. Pausing twice is no error.

        The tables go too: of a session that ends meanwhile nobody would tell them, and the next one at its
        place would be taken for it.
        """
        if self._there is not None:
            self._before = self.counters()
            self._there.opened.close()
            self._there = None

    def drain(self) -> bytes:
        """As ``SessionSource``."""
        return b"" if self._there is None else self._there.ring.read()

    @property
    def waiting(self) -> float:
        """How full the ring is, 0 to 1."""
        return 0 if self._there is None else self._there.ring.waiting

    def snapshot(self) -> list[SessionEvent]:
        """As ``SessionSource``."""
        if self._there is None:
            return []
        return decode(objects.run_iterator(self._there.attached[TASK_FILE].link))

    def owner(self, pid: int, started_ns: int) -> OwnerFacts | None:
        """As ``SessionSource``."""
        if self._there is None:
            return None
        value = objects.read_entry(self._there.maps["owners"], pid, OWNER.size)
        return decode_owner(value, started_ns=started_ns) if value else None

    def counters(self) -> Counters:
        """As ``SessionSource``."""
        if self._there is None:
            return self._before
        counts, before = self._there.maps["counters"], self._before
        missed = sum(objects.missed(one.program) for one in self._there.attached.values())
        return Counters(
            seen=_sums(before.seen, objects.read_per_cpu_u64(counts, _SEEN)),
            lost=_sums(before.lost, objects.read_per_cpu_u64(counts, _LOST)),
            missed=before.missed + missed + sum(objects.read_per_cpu_u64(counts, _CROWDED_OUT)),
        )

    @property
    def hooks(self) -> tuple[str, ...]:
        """Hooks in use, as ``kind:name``; of a paused one, those that it would use."""
        return tuple(shown(program.name) for program in _chosen(self._programs))

    def close(self) -> None:
        """Take the programs out of the kernel. Closing twice is no error."""
        self.pause()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _in_kernel(programs: Programs, *, netns: int | None, ring_bytes: int) -> InKernel:
    with ExitStack() as opened:
        maps = make_maps(programs, opened, ring_bytes=ring_bytes)
        objects.write_u64(maps["settings"], _NETNS, netns or 0)
        objects.write_u64(maps["settings"], _TICK_US, tick_us())
        ring = _map_ring(maps["events"], opened, ring_bytes=ring_bytes)
        attached = _attach(programs, opened, list(maps.values()))
        objects.run_iterator(attached[TASK_FILE].link)
        return InKernel(ring, maps, attached, opened.pop_all())


def _sums(before: tuple[int, ...], now: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip_longest(before, now, fillvalue=0)))


def fitting_programs(cache: Path) -> Programs:
    """Take the programs from the cache where they fit; else compile them there. Raises EbpfError."""
    key = compiled.key_of(btf_digest=btf_digest(), bcc_version=find_bcc().version)
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


def make_maps(programs: Programs, opened: ExitStack, *, ring_bytes: int) -> dict[str, int]:
    """Make the maps, in the order in which the programs number them. Raises LoadError."""
    maps = {}
    for spec in programs.maps:
        entries = ring_bytes if spec.name == "events" else spec.entries
        maps[spec.name] = objects.create_map(msgspec.structs.replace(spec, entries=entries))
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


def _chosen(programs: Programs) -> list[ProgramSpec]:
    """Leave out what this kernel has no hook for, and what only stands in for another."""
    there = {program.name for program in programs.programs if program.hook_type}
    wanted = [program for program in programs.programs if STAND_IN.get(program.name) not in there]
    return [program for program in wanted if program.name in there or program.name not in OPTIONAL]


def _attach(programs: Programs, opened: ExitStack, maps: list[int]) -> dict[str, Attached]:
    """Load every program and attach it to the hook that its name says."""
    chosen = _chosen(programs)
    for program in programs.programs:
        if program.name in OPTIONAL and program not in chosen:
            _log.warning("this kernel has no %s: %s", shown(program.name), OPTIONAL[program.name])
    return {program.name: attach_one(program, opened, maps) for program in chosen}


def attach_one(program: ProgramSpec, opened: ExitStack, maps: list[int]) -> Attached:
    """Load one program and attach it, until ``opened`` ends. Raises LoadError, AttachError."""
    loaded = objects.load(program, maps)
    opened.callback(os.close, loaded)
    link = objects.attach(program.name, loaded)
    opened.callback(os.close, link)
    return Attached(loaded, link)


def tick_us() -> int:
    """Length of the kernel's tick, in which it counts what limits a sender: the step of the coarse clock."""
    return round(time.clock_getres(_COARSE_CLOCK) * 1e6)
