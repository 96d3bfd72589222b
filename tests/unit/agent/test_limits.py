"""What the agent leaves out when it takes more of its host than it may, and that it comes back."""

from itertools import pairwise

import pytest

from agent.config import Config
from agent.limits import EASE_NS, LOOK_S, STEP_NS, Governor, Limits, Shed, Use
from agent.mesh.budget import Budget
from agent.thrift import HELD, Thrift

LOOK_NS = int(LOOK_S * 1e9)
LIMITS = Limits(cpu_bp=1_000, rss_kb=100_000, bytes_per_hour=1_000_000)


class Host:
    """An agent that takes what it is told to, on a clock of its own."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.governor = Governor(limits)
        self.use = Use(0, 0, 50_000, 0)
        self.steps: list[tuple[int, Shed]] = []

    def live(self, seconds: float, *, cpu_bp: int = 100, rss_kb: int = 50_000, bytes_s: int = 0) -> None:
        for _ in range(round(seconds / LOOK_S)):
            at_ns, cpu_us, _, sent = self.use
            self.use = Use(
                at_ns + LOOK_NS,
                cpu_us + round(LOOK_S * 1e6 * cpu_bp / 10_000),
                rss_kb,
                sent + round(bytes_s * LOOK_S),
            )
            if self.governor.look(self.use):
                self.steps.append((self.use.at_ns, self.governor.shed))


def test_trains_go_first_then_tests_then_detail_and_they_come_back_in_the_other_order() -> None:
    host = Host()
    host.live(300, cpu_bp=2_000)
    host.live(1_500)
    assert [shed for _, shed in host.steps] == [1, 2, 3, 2, 1, 0]
    at_ns = [at for at, _ in host.steps]
    apart_ns = [later - before for before, later in pairwise(at_ns)]
    assert min(apart_ns[:2]) >= STEP_NS
    assert min(apart_ns[2:]) >= EASE_NS
    assert (host.governor.times, host.governor.why) == (3, "")


@pytest.mark.parametrize(
    ("taking", "why"),
    [
        ({"cpu_bp": 2_000}, "CPU 20 % of a core, limit 10 %"),
        ({"rss_kb": 120_000}, "memory 120 MB, limit 100 MB"),
        ({"bytes_s": 60_000}, "1.2 MB sent in the last hour, limit 1.0 MB"),
    ],
)
def test_it_says_which_limit_it_was(taking: dict[str, int], why: str) -> None:
    host = Host()
    host.live(30, **taking)
    assert host.governor.shed is Shed.TRAINS
    assert host.governor.why == why
    assert Shed.TRAINS.words == "packet trains"


def test_no_limit_is_no_limit_and_what_is_within_it_changes_nothing() -> None:
    free, within = Host(Limits(0, 0, 0)), Host()
    free.live(600, cpu_bp=9_000, rss_kb=10**6, bytes_s=10**6)
    within.live(600, cpu_bp=900, rss_kb=99_000, bytes_s=200)
    assert (free.steps, within.steps) == ([], [])


def test_bytes_of_more_than_an_hour_ago_do_not_count() -> None:
    host = Host()
    host.live(60, bytes_s=20_000)
    assert host.governor.shed is Shed.TRAINS
    host.live(3_600 + 120)
    assert host.governor.shed > Shed.NOTHING  # every minute of that hour was over the limit
    host.live(3_600)
    assert host.governor.shed is Shed.NOTHING


def test_what_was_taken_before_the_first_look_does_not_count() -> None:
    host = Host()
    host.use = Use(0, 60_000_000, 50_000, 10**9)  # parts loaded, eBPF compiled
    host.live(300)
    assert host.steps == []


def test_memory_kept_stays_bounded() -> None:
    governor = Governor(LIMITS)
    for at in range(100_000):
        governor.look(Use(at * 1_000_000, 0, 1, 0))  # far more often than it is looked at
    assert len(governor._looks) <= 32


class Held:
    """Tests and watch that note what they are told."""

    def __init__(self) -> None:
        self.why = ""
        self.sparing = False

    def hold(self, why: str) -> None:
        self.why = why

    def spare(self, on: bool) -> None:
        self.sparing = on


def test_what_is_decided_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    host, trains, held, told = Host(), Budget(100), Held(), list[int]()
    thrift = Thrift(Governor(LIMITS), trains=trains, used=lambda: host.use)
    thrift.serve(held, lambda: told.append(1))
    thrift.watched(held)
    seen = []
    for rss_kb, looks in ((120_000, 40), (50_000, 200)):
        for _ in range(looks):
            host.live(LOOK_S, rss_kb=rss_kb)
            thrift.look()
            seen.append((trains.held, held.why.startswith(HELD), held.sparing))
    assert list(dict.fromkeys(seen)) == [
        (True, False, False),
        (True, True, False),
        (True, True, True),
        (False, False, False),
    ]
    assert seen[-1] == (False, False, False)
    assert len(told) == 6
    assert "leaves out active tests why='memory 120 MB, limit 100 MB'" in caplog.text
    assert "within its limits again, takes up packet trains" in caplog.text


def test_a_session_that_begins_is_held_as_the_one_before() -> None:
    host, trains = Host(), Budget(100)
    thrift = Thrift(Governor(LIMITS), trains=trains, used=lambda: host.use)
    for _ in range(40):
        host.live(LOOK_S, rss_kb=120_000)
        thrift.look()
    assert thrift.governor.shed is Shed.DETAIL
    for _ in range(2):
        held = Held()
        thrift.serve(held, lambda: None)
        assert held.why.startswith(HELD)
        assert not held.sparing
        thrift.watched(held)
        assert (trains.held, held.sparing) == (True, True)


def test_held_trains_say_why() -> None:
    budget = Budget(100)
    budget.held = True
    assert not budget.take(0, 1)
    assert budget.why_not == "held by the agent's own limits"
    budget.held = False
    assert budget.take(0, 100)
    assert not budget.take(0, 1)
    assert budget.why_not == "this hour's bytes for trains are spent"


def test_the_settings_are_the_limits() -> None:
    config = Config(
        server="https://192.0.2.1:1",
        name="a",
        site="b",
        data="/tmp",  # type: ignore[arg-type]  # as the TOML has it
        limit_cpu_bp=300,
        limit_rss_mb=64,
        limit_mb_an_hour=5,
    )
    assert config.limits == Limits(300, 64_000, 5_000_000)
