"""The ladder over every kind of NAT pair: the right rung every time, and how long it took.

20 runs of each case over a path of 50 ms (``ladder_net`` draws it), against the product's own STUN responder
and coturn. The two ends live in their namespaces for all runs of a case: what is timed is the ladder, not the
start of a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pytest

from agent.identity import load_or_create
from analytics import wire
from analytics.measurement import Reading, Rung
from server.turn import credential
from tests.lab import ladder_net as net
from tests.lab.ladder_net import HAIRPIN, NO_UDP, ORDINARY, ROUTED, SYMMETRIC, TCP_443, UNFILTERED, Gateway
from tests.stopwatch import waited_s

pytestmark = [
    pytest.mark.lab,
    pytest.mark.alone,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]

RUNS: Final = 20
AT_A_TIME: Final = 4
DIRECT_P95_US: Final = 1_000_000
FALLBACK_US: Final = 3_000_000
CASE_S: Final = 240
TRIES: Final = 3  # of a case that was slow, where the machine is shown to have been late
LATE_S: Final = 0.1  # that the two ends had to wait for a CPU, for each test
END: Final = Path(__file__).with_name("ladder_end.py")
PATHGRADE: Final = Path(sys.executable).with_name("pathgrade")
CONNECT_ONLY: Final = wire.ProbePlan(probes=1, interval_us=5_000, hop_rounds=0, trains=0)
RUNGS: Final = [Rung.LAN, Rung.IPV6, Rung.SRFLX, Rung.RELAY_UDP, Rung.RELAY_TCP, Rung.RELAY_TLS]


@dataclass(frozen=True)
class Case:
    """A pair of NATs, and what must come of it."""

    name: str
    rung: Rung
    gwa: Gateway = ORDINARY
    gwb: Gateway = ORDINARY
    peer: str = "b"  # of a
    ipv6: bool = False
    isolated: bool = False
    tried_in_vain: int = 0  # rungs above that only time could tell of
    failed: dict[Rung, str] = field(default_factory=dict)  # what must be said of rungs above


CASES: Final = [
    Case("none", Rung.LAN, gwa=ROUTED, gwb=ROUTED),
    Case("ordinary", Rung.SRFLX, failed={Rung.LAN: "other network"}),
    Case(
        "ordinary x symmetric",
        Rung.RELAY_UDP,
        gwb=SYMMETRIC,
        tried_in_vain=1,
        failed={Rung.SRFLX: "no answer"},
    ),
    Case(
        "symmetric x symmetric",
        Rung.RELAY_UDP,
        gwa=SYMMETRIC,
        gwb=SYMMETRIC,
        tried_in_vain=1,
        failed={Rung.SRFLX: "no answer"},
    ),
    Case("same NAT", Rung.LAN, peer="a2"),
    Case(
        "hairpin",
        Rung.SRFLX,
        gwa=HAIRPIN,
        peer="a2",
        isolated=True,
        tried_in_vain=1,
        failed={Rung.LAN: "no answer"},
    ),
    Case("IPv6 firewalls", Rung.IPV6, ipv6=True, failed={Rung.LAN: "other network"}),
    Case("accepts unsolicited", Rung.SRFLX, gwa=UNFILTERED, gwb=UNFILTERED),
    Case(
        "UDP blocked",
        Rung.RELAY_TCP,
        gwa=NO_UDP,
        tried_in_vain=3,
        failed={Rung.SRFLX: "no answer from the STUN server", Rung.RELAY_UDP: "no answer in"},
    ),
    Case(
        "only TCP 443 open",
        Rung.RELAY_TLS,
        gwa=TCP_443,
        tried_in_vain=4,
        failed={Rung.RELAY_UDP: "no answer in", Rung.RELAY_TCP: "no answer in"},
    ),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ladder")
    with net.network(folder), net.servers(folder, PATHGRADE):
        yield folder


class Pair:
    """Two ends in their namespaces, and the signalling between them."""

    def __init__(
        self, lab: Path, names: tuple[str, str], processes: Sequence[asyncio.subprocess.Process]
    ) -> None:
        self._names = names
        self._processes = processes
        self._prints = {name: load_or_create(lab / name, name).fingerprint for name in names}
        self._told: dict[tuple[str, str], asyncio.Future[Reading]] = {}
        self._count = 0

    def late_s(self) -> float:
        """How long the two ends have waited for a CPU so far, for each test."""
        return sum(waited_s(process.pid) for process in self._processes) / max(1, self._count)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, lab: Path, *names: str) -> AsyncIterator[Pair]:
        for name in names:
            load_or_create(lab / name, name)  # before both do it at once
        processes = [await _start(lab, name) for name in names]
        pair = cls(lab, (names[0], names[1]), processes)
        relaying = [asyncio.create_task(pair._relay(*ends)) for ends in ((0, 1), (1, 0))]
        try:
            yield pair
        finally:
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()
                await process.wait()
            await asyncio.gather(*relaying)

    async def test(self, rungs: list[Rung], first: Rung | None = None) -> tuple[Reading, Reading]:
        """Order one test at both ends; give what both tell."""
        self._count += 1
        test = f"t{self._count}"
        told = [self._told.setdefault((test, name), asyncio.Future()) for name in self._names]
        for process, name, peer in zip(self._processes, self._names, self._names[::-1], strict=True):
            order = wire.TestOrder(
                test=test,
                cycle=1,
                peer=peer,
                peer_fingerprint=self._prints[peer],
                controlling=name == self._names[0],
                rungs=rungs,
                first_rung=first,
                ice_servers=_ice_servers(name),
                plan=CONNECT_ONLY,
                deadline_us=30_000_000,
            )
            _write(process, wire.encode(order))
        one, other = await asyncio.gather(*told)
        return one, other

    async def _relay(self, source: int, sink: int) -> None:
        """Carry signals from one end to the other, and its readings to whoever waits."""
        stdout = self._processes[source].stdout
        assert stdout is not None
        while line := (await stdout.readline()).decode().strip():
            if line.startswith("="):
                reading = msgspec.json.decode(line[1:], type=Reading)
                self._told[reading.test, reading.src].set_result(reading)
            else:
                with contextlib.suppress(ConnectionError):
                    _write(self._processes[sink], line)


async def _start(lab: Path, name: str) -> asyncio.subprocess.Process:
    words = ("ip", "netns", "exec", net.PREFIX + name, sys.executable, str(END), name, str(lab / name))
    return await asyncio.create_subprocess_exec(
        *words, str(lab / "ca.crt"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


def _write(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")


def _ice_servers(name: str) -> list[wire.IceServer]:
    username, password = credential(net.SECRET, name, int(time.time()) + 600)
    turn = (
        f"turn:{net.TURN}:3478?transport=udp",
        f"turn:{net.TURN}:3478?transport=tcp",
        f"turns:{net.TURN}:443",
    )
    return [
        wire.IceServer(url=f"stun:{net.STUN[0]}:3478"),
        *(wire.IceServer(url=url, username=username, credential=password) for url in turn),
    ]


_arranged: Final = itertools.count()


def arrange(case: Case) -> None:
    net.fresh_ports(next(_arranged))
    net.set_gateway("gwa", case.gwa)
    net.set_gateway("gwb", case.gwb)
    net.isolate(on=case.isolated)
    net.set_ipv6(on=case.ipv6)


@dataclass(frozen=True)
class Climbs:
    """The readings of both ends of every run, and how long the machine kept the ends waiting for each."""

    readings: list[Reading]
    late_s: float


async def climb(lab: Path, case: Case, runs: int, first: Rung | None = None) -> Climbs:
    turns = asyncio.Semaphore(AT_A_TIME)

    async def one(pair: Pair) -> tuple[Reading, Reading]:
        async with turns:
            return await pair.test(RUNGS, first)

    async with asyncio.timeout(CASE_S), Pair.open(lab, "a", case.peer) as pair:
        told = await asyncio.gather(*(one(pair) for _ in range(runs)))
        return Climbs([reading for both in told for reading in both], pair.late_s())


def quantile(sorted_us: Sequence[int], share: float) -> int:
    return sorted_us[max(0, -(-len(sorted_us) * int(share * 100) // 100) - 1)]


@dataclass(frozen=True)
class Times:
    """Of the readings of one case."""

    total: list[int]
    fallback: list[int]  # until the rung below was connected, for each that failed by time alone

    @classmethod
    def of(cls, case: Case, readings: Sequence[Reading]) -> Times:
        total = sorted(reading.connect_total_us or 0 for reading in readings)
        return cls(total, [us // case.tried_in_vain for us in total] if case.tried_in_vain else [])

    def soon(self, case: Case) -> bool:
        """Whether they are what is promised."""
        if case.tried_in_vain:
            return quantile(self.fallback, 0.95) <= FALLBACK_US
        return quantile(self.total, 0.95) <= DIRECT_P95_US


def row(case: Case, readings: Sequence[Reading]) -> str:
    times = Times.of(case, readings)
    right = sum(reading.rung is case.rung for reading in readings)
    shown = [quantile(times.total, share) for share in (0.5, 0.95, 1)]
    fallback = f"{quantile(times.fallback, 0.95) / 1e3:8.0f}" if times.fallback else "       -"
    return (
        f"{case.name:22} {case.rung.value:10} {right:3}/{len(readings):<3}"
        + "".join(f"{us / 1e3:8.0f}" for us in shown)
        + fallback
    )


HEADING: Final = f"{'case':22} {'rung':10} {'right':7}{'p50':>8}{'p95':>8}{'max':>8}{'fall p95':>8}  (ms)"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_the_right_rung_every_time_and_soon(
    lab: Path, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    for left in reversed(range(TRIES)):
        arrange(case)
        climbs = asyncio.run(climb(lab, case, RUNS))
        readings, times = climbs.readings, Times.of(case, climbs.readings)
        with capsys.disabled():
            print(f"\n{HEADING}\n{row(case, readings)}")  # noqa: T201  # what the ladder's show is
            print(f"ends waited for a CPU {climbs.late_s * 1e3:.0f} ms a test")  # noqa: T201  # as above
        if times.soon(case) or climbs.late_s < LATE_S or not left:
            break
    assert [reading.error for reading in readings] == [""] * 2 * RUNS
    assert {reading.rung for reading in readings} == {case.rung}, _wrong(case, readings)
    for reading in readings:
        check_told(case, reading)
    assert times.soon(case), row(case, readings)


def _wrong(case: Case, readings: Sequence[Reading]) -> str:
    """What the readings of another rung say."""
    wrong = [r for r in readings if r.rung is not case.rung]
    return "\n".join(f"{r.test} {r.src}: {r.rung} {r.local_candidate} {r.rungs_failed}" for r in wrong)


def check_told(case: Case, reading: Reading) -> None:
    """The rung, the pair, and why no higher rung."""
    assert reading.connect_us is not None
    assert reading.connect_total_us is not None
    assert reading.connect_us <= reading.connect_total_us
    for rung, why in case.failed.items():
        (told,) = [part for part in reading.rungs_failed.split("; ") if part.startswith(f"{rung}: ")]
        assert why in told
    local, remote = reading.local_candidate.split(), reading.remote_candidate.split()
    if case.rung.relayed:
        assert (local[0], local[1], remote[1]) == ("relay", net.TURN, net.TURN)
    else:
        assert "relay" not in (local[0], remote[0])


def climbed_within(lab: Path, case: Case, first: Rung, limit_us: int) -> list[Reading]:
    """The readings of four runs; of others, if the machine made one of these too slow."""
    for left in reversed(range(TRIES)):
        climbs = asyncio.run(climb(lab, case, 4, first=first))
        slowest_us = max(reading.connect_total_us or 0 for reading in climbs.readings)
        if slowest_us < limit_us or climbs.late_s < LATE_S or not left:
            break
        print(f"{slowest_us / 1e3:.0f} ms; ends waited for a CPU {climbs.late_s * 1e3:.0f} ms a test")  # noqa: T201  # why there are more
    return climbs.readings


def test_what_worked_last_time_saves_the_fall_and_a_broken_one_heals(lab: Path) -> None:
    case = next(case for case in CASES if case.name == "ordinary x symmetric")
    arrange(case)
    for reading in climbed_within(lab, case, Rung.RELAY_UDP, DIRECT_P95_US):
        assert (reading.rung, reading.error) == (Rung.RELAY_UDP, "")
        assert "srflx: not tried: relay-udp worked last time" in reading.rungs_failed
        assert reading.connect_total_us is not None
        assert reading.connect_total_us < DIRECT_P95_US
    for reading in climbed_within(lab, case, Rung.SRFLX, FALLBACK_US):
        assert (reading.rung, reading.error) == (Rung.RELAY_UDP, "")
        assert "lan: other network" in reading.rungs_failed
        assert reading.connect_total_us is not None
        assert reading.connect_total_us < FALLBACK_US


EVEN: Final = wire.Dependence.ENDPOINT_INDEPENDENT
STRICT: Final = wire.Dependence.ADDRESS_AND_PORT


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        (
            ROUTED,
            wire.NatReport(udp=True, mapped="192.168.1.10", mapping=wire.Dependence.NONE, filtering=EVEN),
        ),
        (
            ORDINARY,
            wire.NatReport(udp=True, mapped="203.0.113.2", mapping=EVEN, filtering=STRICT, hairpin=False),
        ),
        (
            SYMMETRIC,
            wire.NatReport(udp=True, mapped="203.0.113.2", mapping=STRICT, filtering=STRICT, hairpin=False),
        ),
        (
            HAIRPIN,
            wire.NatReport(udp=True, mapped="203.0.113.2", mapping=EVEN, filtering=STRICT, hairpin=True),
        ),
        (NO_UDP, wire.NatReport(udp=False)),
    ],
    ids=["routed", "ordinary", "symmetric", "hairpin", "UDP-blocked"],
)
def test_the_ladder_knows_its_nat(lab: Path, gateway: Gateway, expected: wire.NatReport) -> None:
    net.fresh_ports(next(_arranged))
    net.set_gateway("gwa", gateway)
    told = net.inside("a", str(PATHGRADE), "agent", "nat", f"stun:{net.STUN[0]}:3478", "--json")
    report = msgspec.json.decode(told, type=wire.NatReport)
    assert report == msgspec.structs.replace(expected, cgnat=report.cgnat)
    assert report.cgnat is (False if expected.udp else None)


def test_the_ladder_knows_a_carriers_nat_by_its_routers(lab: Path) -> None:
    net.fresh_ports(next(_arranged))
    net.set_gateway("gwa", ORDINARY)
    with net.router_address("core", "ca", "100.64.0.1"):
        told = net.inside("a", str(PATHGRADE), "agent", "nat", f"stun:{net.STUN[0]}:3478", "--json")
    assert msgspec.json.decode(told, type=wire.NatReport).cgnat is True
