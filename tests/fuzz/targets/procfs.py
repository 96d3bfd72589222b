"""Files under /proc: a process's stat, status and cgroup, and the counters of TCP (agent/passive)."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import Taken, chosen, either, folder_of

from agent.passive.owner import Owners, place_of, started_in_ticks
from agent.passive.procfs import read_process, sessions_opened

ALLOWED = (ValueError, OSError)
SHORT_RUNS = 150
STATUS = b"Name:\tcurl\nUid:\t1000\t1000\t1000\t1000\n"
STAT = b"42 (cu) rl) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"


def target(data: bytes) -> object:
    return either(data, _process, _place, _ticks, _counters)


def _process(data: bytes) -> None:
    """Never raises: a process that does not read has ended."""
    taken = Taken(data)
    which, content = taken.one_of(("stat", "status", "cgroup")), taken.rest()
    files = {"stat": STAT, "status": STATUS, "cgroup": b"0::/system.slice/x.service\n"} | {which: content}
    proc = folder_of({f"42/{name}": told for name, told in files.items()}, "proc")
    try:
        found = read_process(42, proc=proc)
        assert found is None or len(found.command) == 16
        Owners(_Nobody(), proc=proc).of(42, found.started_ns if found else 1)
    except (ValueError, OSError) as error:
        raise AssertionError("a process must not be able to stop the agent") from error


class _Nobody:
    def owner(self, _pid: int, _started_ns: int) -> None:
        return None


def _place(data: bytes) -> None:
    found = place_of(data.decode("utf-8", "replace"))
    assert len(found.unit) <= 255
    assert len(found.container) <= 64


def _ticks(data: bytes) -> None:
    started_in_ticks(data.decode("ascii", "replace"))


def _counters(data: bytes) -> None:
    sessions_opened(proc=folder_of({"thread-self/net/snmp": data}, "snmp"))


def seeds() -> Iterator[bytes]:
    yield chosen(0, b"\0" + STAT)
    yield chosen(0, b"\1" + STATUS)
    yield chosen(
        0, b"\2" + b"12:memory:/docker/" + b"ab" * 32 + b"\n0::/lxc.payload.web/system.slice/y.service\n"
    )
    yield chosen(1, b"1:name=systemd:/user.slice/docker-" + b"cd" * 32 + b".scope\n0::/\n")
    yield chosen(2, STAT)
    yield chosen(3, b"Ip: a\nIp: 1\nTcp: RtoMin ActiveOpens PassiveOpens\nTcp: 200 17 4\n")
