"""``pathgrade hops`` that stays: how it counts, how gently it asks, what is on the screen, how it ends."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from analytics.measurement import Hop, Reading, RouteChange
from analytics.report import PathDetail
from server.api.doors import MeshAsk, MeshRun
from server.commands.follow import UNTOUCHED_S, Following
from server.errors import DeniedError, RefusedError
from server.pages import live
from server.pages.rounds import Way, weighted_median
from tests.unit.cli.moving import MovingCore
from tests.unit.cli.test_cli import pathgrade, words
from tests.unit.web.fleet import MEMBERS, FixtureCore, hops, reading, serve

ROOT = Path(__file__).parents[3]
CORE = FixtureCore()
RADIOLOGIST, PACS = MEMBERS[5], MEMBERS[4]
us = st.integers(1, 10**6)


@dataclass
class Clocked:
    """A server and a clock that only a test moves; each test on demand lasts ``lasts_s``."""

    now_s: float = 1_000.0
    lasts_s: float = 2.0
    error: Exception | None = None
    asked_s: list[float] = field(default_factory=list)

    def detail(self, src: str, dst: str, profile: str | None) -> PathDetail:
        made = CORE.detail(src, dst, profile or "pacs")
        assert made is not None
        ended = sum(self._has_ended(at_s) for at_s in self.asked_s)
        return msgspec.structs.replace(
            made, forward_reading=msgspec.structs.replace(made.forward_reading, test=f"t{ended}")
        )

    def run_mesh(self, ask: MeshAsk) -> MeshRun:
        if self.error is not None:
            raise self.error
        assert all(map(self._has_ended, self.asked_s)), "one at a time"
        self.asked_s.append(self.now_s)
        return self.mesh_run(str(len(self.asked_s)), since=0)

    def mesh_run(self, id_: str, *, since: int) -> MeshRun:
        ended = self._has_ended(self.asked_s[int(id_) - 1])
        return MeshRun(
            id=id_, pairs=1, pairs_ended=int(ended), started_us=1, ended_us=2 if ended else None, results=[]
        )

    def _has_ended(self, at_s: float) -> bool:
        return self.now_s - at_s >= self.lasts_s


def follow(server: Clocked, *, every_s: float = 10.0, asks: bool = True) -> Following:
    made = Following(
        server=server,
        src="radiologist",
        dst="pacs",
        profile=None,
        every_s=every_s,
        asks=asks,
        clock=lambda: server.now_s,
    )
    made.begin()
    return made


def pass_s(server: Clocked, following: Following, seconds: float) -> None:
    for _ in range(int(seconds * 4)):
        server.now_s += 0.25
        following.tolerant_step()


@pytest.mark.parametrize(("lasts_s", "asked"), [(2.0, 6), (15.0, 4)])
def test_one_test_at_a_time_and_each_so_long_after_the_one_before(lasts_s: float, asked: int) -> None:
    server = Clocked(lasts_s=lasts_s)
    following = follow(server)
    pass_s(server, following, 60)
    gaps_s = [later - sooner for sooner, later in zip(server.asked_s, server.asked_s[1:], strict=False)]
    assert len(server.asked_s) == asked
    assert min(gaps_s) >= 10
    assert following.sight.rounds == 1 + following.tests_ended  # the first is what was known


def test_paused_is_paused_and_an_hour_alone_ends_it() -> None:
    server = Clocked()
    following = follow(server)
    following.touch(pause=True)
    pass_s(server, following, 30)
    assert (server.asked_s, following.sight.doing) == ([], "paused")
    following.touch(pause=False)
    pass_s(server, following, UNTOUCHED_S + 60)
    assert server.asked_s[-1] - 1_030 < UNTOUCHED_S
    assert following.sight.doing.startswith("nobody touched it for an hour")
    following.touch()
    pass_s(server, following, 1)
    assert server.now_s - server.asked_s[-1] <= 1


def test_who_may_not_ask_looks_on_and_is_told_so() -> None:
    server = Clocked(error=DeniedError("Only from the server's own host"))
    following = follow(server)
    pass_s(server, following, 30)
    assert following.sight.doing == "only looking: no test is asked for"
    assert following.sight.trouble == "Only from the server's own host"


def test_what_cannot_be_had_now_is_asked_for_again() -> None:
    server = Clocked(error=RefusedError("pacs is not online"))
    following = follow(server)
    pass_s(server, following, 5)
    assert (following.asks, following.sight.trouble) == (True, "pacs is not online")
    server.error = None
    pass_s(server, following, 10)
    assert (len(server.asked_s), following.sight.trouble) == (1, "")


rounds_of_a_hop = st.lists(
    st.tuples(us, us, st.integers(1, 6)).map(lambda told: (*sorted(told[:2]), told[2])), min_size=1
)


@given(rounds_of_a_hop)
def test_a_hop_has_the_numbers_of_all_rounds(told: list[tuple[int, int, int]]) -> None:
    way = Way()
    for number, (low_us, high_us, answered) in enumerate(told):
        assert way.take(*round_of(number, low_us, high_us, answered))
        assert not way.take(*round_of(number, 1, 1, 6)), "a test counts once"
    (seen,) = way.seen()
    assert seen.sent == 6 * len(told)
    assert seen.answered == sum(answered for *_, answered in told)
    assert seen.rtt_min_us == min(low_us for low_us, *_ in told)
    assert seen.rtt_p95_us == max(high_us for _, high_us, _ in told)
    assert seen.rtt_min_us <= (seen.rtt_p50_us or 0) <= seen.rtt_p95_us


def round_of(number: int, low_us: int, high_us: int, answered: int) -> tuple[Reading, list[Hop]]:
    test = msgspec.structs.replace(reading(RADIOLOGIST, PACS), test=f"t{number}")
    hop = msgspec.structs.replace(
        hops(RADIOLOGIST, PACS)[0],
        rtt_min_us=low_us,
        rtt_p50_us=(low_us + high_us) // 2,
        rtt_p95_us=high_us,
        answered=answered,
        sent=6,
    )
    return test, [hop]


def test_another_route_is_counted_anew_and_a_shorter_one_ends_sooner() -> None:
    way, told = Way(), hops(RADIOLOGIST, PACS)
    known = reading(RADIOLOGIST, PACS)
    way.take(msgspec.structs.replace(known, test="1", route_id="a"), told)
    assert [hop.answered for hop in way.seen()] == [6, 6, 6, 0, 6, 6]
    changed = msgspec.structs.replace(
        known, test="2", route_id="b", route_change=RouteChange.CHANGED, ended_us=7
    )
    way.take(changed, told)
    assert (way.seen()[0].answered, way.changed_us) == (6, 7)
    sooner = [*told[:2], msgspec.structs.replace(told[5], ttl=3)]
    way.take(msgspec.structs.replace(known, test="3", route_id="b"), sooner)
    assert [hop.ttl for hop in way.seen()] == [1, 2, 3]
    silent = [msgspec.structs.replace(told[0], address="", answered=0, rtt_min_us=None)]
    way.take(msgspec.structs.replace(known, test="4", route_id="b"), silent)
    assert (way.seen()[0].address, way.seen()[0].answered) == ("192.168.7.1", 12)


def test_a_median_is_weighted_and_of_nothing_is_nothing() -> None:
    assert weighted_median([]) is None
    assert weighted_median([(9, 1), (1, 1), (5, 6)]) == 5


def test_noise_is_drawn_flat_and_what_was_not_reached_is_marked() -> None:
    assert live.bars([250_000, 251_000, None, 252_000]) == "▁▁x▁"
    assert live.bars([50_000, 90_000]) == "▁█"
    assert live.bars([None]) == "x"


@pytest.mark.parametrize("width", [80, 120, 170, 200])
@pytest.mark.parametrize("height", [8, 24, 60])
def test_the_screen_fills_the_terminal_and_no_more(width: int, height: int) -> None:
    following = follow(Clocked())
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(live.screen(following.sight, width), height=height, end="")
    lines = capture.get().split("\n")
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert lines[-1].startswith("1 round · next test in ")
    assert (height < 24) == any("more lines: make the window higher" in line for line in lines)


def test_a_report_is_made_of_its_own_rounds() -> None:
    core = MovingCore()
    with serve(core, core) as url:
        done = pathgrade("hops", "radiologist", "pacs", "--report", "--rounds", "1", url=url)
        told = pathgrade("hops", "radiologist", "pacs", "--report", "--rounds", "1", "--json", url=url)
    lines = [words(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("1 rounds in ")
    assert "hotel access 2 203.0.113.1 218.1 218.4 220.0 6/6 216.5 ◄ most" in lines
    assert lines.count("pacs → radiologist") == 1
    assert [hop["answered"] for hop in json.loads(told.stdout)["forward_hops"]] == [6, 6, 6, 0, 6, 6]
    assert len(core.asked) == 2


def test_a_report_that_may_not_be_made_is_one_clear_error() -> None:
    core = MovingCore(refuses="'pacs' is not online")
    with serve(core, core) as url:
        done = pathgrade("hops", "radiologist", "pacs", "--report", url=url)
    assert (done.returncode, done.stderr) == (65, "error: 'pacs' is not online\n  try: ask again\n")


@pytest.mark.parametrize("words_", [["--report", "--once"], ["--report", "--look"], ["--every", "1"]])
def test_what_does_not_go_together_is_refused(words_: list[str]) -> None:
    assert pathgrade("hops", "a", "b", *words_).returncode == 2


def test_in_a_terminal_it_stays_shows_rounds_and_ends_by_q() -> None:
    core = MovingCore()
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    before = termios.tcgetattr(end)
    with (
        serve(core, core) as url,
        subprocess.Popen(
            [sys.executable, "-m", "pathgrade", "hops", "radiologist", "pacs", "--url", url],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm"},
            stdin=end,
            stdout=end,
            stderr=subprocess.PIPE,
        ) as running,
    ):
        seen = b""
        for awaited, key in ((b"2 rounds", b"p"), (b"paused", b"p"), (b"next test in", b"q")):
            seen = b""
            while awaited not in seen:
                seen += os.read(screen, 65_536)
            os.write(screen, key)
        while b"\x1b[?1049l" not in seen:  # the screen of before is given back
            seen += os.read(screen, 65_536)
        errors = running.communicate(timeout=60)[1]
    assert (running.returncode, errors) == (0, b"")
    assert termios.tcgetattr(end) == before
    os.close(end)
    os.close(screen)
