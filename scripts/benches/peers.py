"""The tools that pathgrade's active measurements are compared with: how each is run between a and b."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.processes import listens

from benches import meters
from benches.capture import capture
from benches.chain import LEFT, RIGHT, Chain
from benches.errors import PartError
from benches.meters import Met
from benches.net import inside, run
from benches.wire_truth import Ways, ways

SERVER_S: Final = 10
IRTT_PORT: Final = 2112
SOCKPERF_PORT: Final = 11111
SOCKPERF_EXTRA_S: Final = 0.5  # of its time that it leaves out of its log: a warm-up, and the end
TAIL_S: Final = 60


@dataclass(frozen=True, slots=True)
class Pace:
    """How many round trips, and how far apart."""

    count: int
    interval_us: int

    @property
    def lasts_s(self) -> float:
        """From the first request to one interval after the last."""
        return self.count * self.interval_us / 1e6


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: its client's command, its server's if it needs one, and how to read what it tells."""

    program: str
    client: Callable[[str, Pace, Path], list[object]]
    read: Callable[[str, Ways], Met]
    server: Callable[[str], list[object]] | None = None
    port: int = 0
    log: str = ""  # the file that it writes, where it prints only a summary


def _ping(address: str, pace: Pace, _folder: Path) -> list[object]:
    return ["ping", "-n", "-i", pace.interval_us / 1e6, "-c", pace.count, address]


def _irtt(address: str, pace: Pace, _folder: Path) -> list[object]:
    interval, lasts = f"{pace.interval_us}us", f"{pace.lasts_s}s"
    return ["irtt", "client", "-i", interval, "-d", lasts, "--wait=1s", "-Q", "-o", "-", address]


def _irtt_server(address: str) -> list[object]:
    return ["irtt", "server", "-i", "1ms", "-b", address]  # it allows no interval below 10 ms by itself


def _sockperf(address: str, pace: Pace, folder: Path) -> list[object]:
    rate = f"--mps={round(1e6 / pace.interval_us)}"
    lasts_s = max(1, round(pace.lasts_s + SOCKPERF_EXTRA_S))
    log = folder / PEERS["sockperf"].log
    return ["sockperf", "ping-pong", "-i", address, rate, "-t", lasts_s, "--full-rtt", "--full-log", log]


PEERS: Final = {
    "ping": Peer("ping", _ping, meters.ping),
    "irtt": Peer("irtt", _irtt, meters.irtt, _irtt_server, IRTT_PORT),
    "sockperf": Peer(
        "sockperf",
        _sockperf,
        meters.sockperf,
        lambda address: ["sockperf", "server", "-i", address],
        SOCKPERF_PORT,
        "sockperf.csv",
    ),
}


def refusal(peer: Peer) -> str:
    """Say why a peer does not run here; nothing if it does."""
    return "" if shutil.which(peer.program) else f"{peer.program} is not installed (scripts/setup --bench)"


def met(peer: Peer, made: Chain, pace: Pace) -> Met:
    """Run it, and compare what it tells with what passed. Raises ``BenchError``."""
    with serving(peer, made), capture(made.near, LEFT) as near, capture(made.far, RIGHT) as far:
        told = tell(peer, made, pace)
        passed = ways(near.end(), far.end())
    return peer.read(told, passed)


def tell(peer: Peer, made: Chain, pace: Pace) -> str:
    """Run a peer's client from a to b; what it told. Raises ``CommandError``."""
    command = inside(made.a, peer.client(made.b_address, pace, made.folder))
    printed = run(command, within_s=pace.lasts_s + TAIL_S)
    return (made.folder / peer.log).read_text() if peer.log else printed


@contextmanager
def serving(peer: Peer, made: Chain) -> Iterator[None]:
    """Run a peer's server at b, if it has one; gone afterwards. Raises ``PartError``."""
    if peer.server is None:
        yield
        return
    with subprocess.Popen(
        inside(made.b, peer.server(made.b_address)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            _wait_for(process, peer)
            yield
        finally:
            process.kill()


def _wait_for(process: subprocess.Popen[bytes], peer: Peer) -> None:
    deadline = time.monotonic() + SERVER_S
    while not listens(process.pid, "udp", peer.port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise PartError(f"{peer.program}: its server does not listen", remedy="run it by hand")
        time.sleep(0.05)
