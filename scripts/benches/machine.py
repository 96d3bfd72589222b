"""What the kernel says of a process and of its eBPF programs: proc(5), bpf(2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

BPF_STATS: Final = Path("/proc/sys/kernel/bpf_stats_enabled")
BTF: Final = Path("/sys/kernel/btf/vmlinux")


class Memory(NamedTuple):
    """Of one process, in MB (10^6 bytes)."""

    resident: float
    anonymous: float  # its own, not shared with files


class Runs(NamedTuple):
    """What one eBPF program did, since kernel.bpf_stats_enabled was set."""

    runs: int
    time_ns: int
    left_out: int  # by the kernel, because the program was running already on that CPU


def cpu_s(pid: int) -> float:
    """CPU time of a live process, all threads, exact to the nanosecond; its children's is not in it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory(pid: int) -> Memory:
    """Look into a live process's memory (smaps_rollup)."""
    kb = dict(_fields(Path(f"/proc/{pid}/smaps_rollup").read_text()))
    return Memory(_mb(kb["Rss"]), _mb(kb["Anonymous"]))


def _mb(told: str) -> float:
    return int(told.removesuffix(" kB")) * 1024 / 1e6


def programs(pid: int) -> dict[str, Runs]:
    """List the eBPF programs a process holds: hook (where it has one link, else its tag) -> what it did."""
    described = [dict(_fields(text)) for text in _descriptors(pid)]
    hooks = {one["prog_id"]: _hook(one) for one in described if "link_id" in one and "prog_id" in one}
    held = [one for one in described if "run_cnt" in one]
    return {hooks.get(one["prog_id"], one["prog_tag"]): _runs(one) for one in held}


def _descriptors(pid: int) -> Iterator[str]:
    for descriptor in sorted(Path(f"/proc/{pid}/fdinfo").iterdir(), key=lambda path: int(path.name)):
        with suppress(FileNotFoundError):
            yield descriptor.read_text()


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _hook(link: dict[str, str]) -> str:
    return link.get("tp_name") or f"iter:{link.get('target_name', '?')}"


def _runs(program: dict[str, str]) -> Runs:
    return Runs(int(program["run_cnt"]), int(program["run_time_ns"]), int(program.get("recursion_misses", 0)))


@contextmanager
def bpf_statistics() -> Iterator[None]:
    """Have the kernel time every run of a program, which costs a little itself; as it was, afterwards."""
    before = BPF_STATS.read_text()
    BPF_STATS.write_text("1")
    try:
        yield
    finally:
        BPF_STATS.write_text(before)


def describe() -> dict[str, str | int | float]:
    """Say on what the figures were taken."""
    told = os.uname()
    return {
        "kernel": told.release,
        "architecture": told.machine,
        "cpus": os.cpu_count() or 0,
        "load_1min": os.getloadavg()[0],
    }
