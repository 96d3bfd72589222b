"""Real agents, a restless server and coturn on a lab's network, to be broken one by one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import cables, net, product
from lab.check import rtt_tolerance_us
from lab.errors import PartError
from lab.network import Lab, open_lab
from lab.processes import start_time
from lab.report import Reader

HERE = Path(__file__).parent
PERIOD_S = 1.5  # a test takes five seconds; one that is refused, none
PATIENCE_S = 90.0
PROFILE = "generic"
STREAMS = {"relay-tcp", "relay-tls"}
FAKETIME = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1")

Reading = dict[str, Any]


class Fleet:
    """The lab and what runs on it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.lies = lab.folder / "lies"
        self.clock = lab.folder / "clock"  # what libfaketime adds to an agent's wall clock
        self.reader = Reader(lab.url)

    def start(self, *names: str) -> None:
        self.step_clock(0)
        product.start_turn(self.lab)
        self.start_server()
        token = product._make_token(self.lab)
        for name in names:
            self.add(name, token)
        self.wait(lambda: self.online() == len(names), "all agents online")

    def add(self, name: str, token: Path | None = None) -> None:
        """Put one more agent on its host."""
        self._configure(name, token or product._make_token(self.lab))
        self.start_agent(name)

    # --- parts -------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        assert self.lab.report_socket
        report_fd = self.lab.report_socket.fileno()
        turn = f"turn:{self.lab.plan.turn_address}:{product.TURN_PORT}"
        secret = self.lab.folder / "turn-secret"
        words = (product.data_folder(self.lab), report_fd, turn, secret, PERIOD_S, self.lies)
        command = [sys.executable, str(HERE / "restless_server.py"), *map(str, words)]
        self.lab.parts.start(
            "server", command, namespace=self.lab.plan.namespace("server"), pass_fds=[report_fd]
        )
        self.wait(lambda: self.reader.status() is not None, "the server answers")

    def start_turn_again(self) -> None:
        product.run_turn(self.lab, self.lab.folder / "coturn" / "turnserver.conf")

    def start_agent(self, name: str, *, stepped: bool = False) -> None:
        """Start an agent; ``stepped``: its wall clock is what ``step_clock`` says, its kernel's is not."""
        fake = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.lab.parts.start(
            name,
            [product.pathgrade(), "agent", "run", "--config", str(self.lab.folder / f"{name}.toml")],
            namespace=self.lab.plan.namespace(name),
            environment=fake if stepped else {},
        )

    def step_clock(self, seconds: int) -> None:
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        fresh.rename(self.clock)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a part by its pid, and collect it."""
        part = self.lab.parts.running.pop(name)
        part.process.send_signal(number)
        part.process.wait(PATIENCE_S)

    def pids(self) -> dict[str, tuple[int, int | None]]:
        """Every part that runs, with its pid and when that started."""
        running = self.lab.parts.running
        return {name: (part.process.pid, start_time(part.process.pid)) for name, part in running.items()}

    def log(self, name: str) -> str:
        return (self.lab.folder / f"{name}.log").read_text(errors="replace")

    def _configure(self, name: str, token: Path) -> None:
        values = {
            "server": f"https://{self.lab.plan.server_address}:{product.AGENTS_PORT}",
            "token_file": str(token),
            "name": name,
            "site": self.lab.plan.hosts[name].site,
            "data": str(self.data(name)),
            "passive": "off",
        }
        lines = (f'{key} = "{value}"\n' for key, value in values.items())
        (self.lab.folder / f"{name}.toml").write_text("".join(lines))

    def data(self, name: str) -> Path:
        return self.lab.folder / f"agent-{name}"

    # --- what is seen ------------------------------------------------------------------------------------

    def online(self) -> int:
        status = self.reader.status()
        return status["agents_online"] if status else 0

    def cycle_now(self) -> int:
        """The cycle that runs."""
        status = self.reader.status()
        assert status is not None
        cycle: int = status["cycle"]
        return cycle

    def reading(self, src: str, dst: str) -> Reading | None:
        try:
            found: Reading = self.reader.detail(src, dst, PROFILE)["forward_reading"]
        except PartError:
            return None
        return found

    def cycle(self, src: str, dst: str) -> int:
        """Cycle of the latest reading; 0 if there is none."""
        found = self.reading(src, dst)
        return found["cycle"] if found else 0

    def next_reading(
        self,
        src: str,
        dst: str,
        *,
        after: int,
        at_most_s: float = PATIENCE_S,
        good: Callable[[Reading], bool] = bool,
    ) -> Reading:
        """Wait for a reading of a later cycle."""
        found: list[Reading] = []

        def is_there() -> bool:
            now = self.reading(src, dst)
            if now is not None and now["cycle"] > after:
                found.append(now)
            return bool(found) and good(found[-1])

        try:
            self.wait(is_there, f"a reading {src} -> {dst}", at_most_s=at_most_s)
        except PartError as error:
            raise AssertionError(f"{error}; last: {found[-1:]}") from error
        return found[-1]

    def wait(self, ready: Callable[[], object], what: str, at_most_s: float = PATIENCE_S) -> None:
        self.lab.parts.wait_until(lambda: bool(ready()), what=what, at_most_s=at_most_s, look_every_s=0.1)

    def change(self, link: str, **settings: int) -> None:
        """Set both directions of a cable: ``loss_ppm=...``."""
        wanted = {f"{way}.{key}": value for way in ("up", "down") for key, value in settings.items()}
        cables.change(self.lab.folder, link, wanted)

    def inside(self, node: str, *command: str, stdin: str = "") -> str:
        return net.run(net.inside(self.lab.plan.namespace(node), command), stdin=stdin)

    # --- what is right -----------------------------------------------------------------------------------

    def faults_of(self, reading: Reading) -> list[str]:
        """What is wrong with a reading's numbers; those that were withheld are never wrong.

        A relay over TCP sends again what a cable loses: its round trips are not the cables'. One over UDP is
        a process on this machine, which may be as late as the agent itself says that it was.
        """
        true_us = self.lab.truth().path(reading["src"], reading["dst"]).rtt_median_us
        wrong = []
        p50_us = None if reading["rung"] in STREAMS else reading["rtt_p50_us"]
        late_us = reading["timer_late_p99_us"] or 0 if reading["rung"] == "relay-udp" else 0
        tolerance_us = rtt_tolerance_us(true_us)
        if p50_us is not None and not -tolerance_us <= p50_us - true_us <= tolerance_us + late_us:
            wrong.append(f"rtt {p50_us} us over {reading['rung']}, truth {true_us} us")
        if reading["received"] > reading["sent"]:
            wrong.append(f"{reading['received']} of {reading['sent']} received")
        if reading["ended_us"] < reading["started_us"]:
            wrong.append("ended before it began")
        return wrong

    def is_healthy(self, reading: Reading) -> bool:
        path = self.lab.truth().path(reading["src"], reading["dst"])
        return (
            not reading["error"]
            and reading["rung"] in path.rungs
            and reading["rtt_p50_us"] is not None
            and 0 < reading["sent"] == reading["received"]
            and not self.faults_of(reading)
        )

    def assert_healthy_again(self, *pairs: tuple[str, str]) -> None:
        """The next cycle, or the one after it if a fault's end was in the middle of one."""
        after = {pair: self.cycle(*pair) for pair in pairs}
        for pair in pairs:
            self.next_reading(*pair, after=after[pair], good=self.is_healthy)

    def assert_nobody_crashed(self) -> None:
        self.lab.parts.check()
        for name in ("server", *self.lab.plan.hosts):
            log = self.lab.folder / f"{name}.log"
            if log.exists():
                said = log.read_text(errors="replace")
                assert "Traceback" not in said, f"{name}:\n{said[-3000:]}"
                assert "test failed" not in said, f"{name}:\n{said[-3000:]}"


@contextmanager
def fleet(name: str) -> Iterator[Fleet]:
    """A lab that the fleet can be started on; ended and swept with the block."""
    lab = open_lab(HERE / "faults.toml", name, report=True)
    try:
        lab.begin()
        yield Fleet(lab)
    finally:
        lab.down()


def until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.monotonic()))
