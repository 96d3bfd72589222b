"""What counts against a host's own limits outlives sessions with the server, and the process."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import health, run, spent
from agent import host as host_of
from agent.bounds import Bounds
from agent.config import Config
from agent.limits import Governor, Limits, Shed, Use
from agent.mesh.budget import Budget
from agent.outbox import Outbox
from agent.own_policy import MB, OwnPolicy, OwnRules
from agent.spent import FILE_NAME, LEASES, Clocks, Keeper, Spent
from analytics.measurement import Flow
from analytics.trust import Grant
from server.credentials import Gate
from server.errors import CredentialError

HOUR_NS = 3_600 * 10**9
LIMIT = 60_000_000
NOW = Clocks(10**15, 1_764_000_000_000_000)


def grant_of(most_bytes: int) -> Grant:
    return Grant(
        tenant="default", test="t", cycle=1, src="pacs", dst="b", src_fingerprint=bytes(32),
        dst_fingerprint=bytes(32), issued_us=0, expires_us=1, nonce=bytes(16), most_probes=1,
        most_bytes=most_bytes, most_s=60, src_site="", dst_site="", rule="",
    )  # fmt: skip


class Host:
    """The three budgets of one process on a host, and its clock."""

    def __init__(self, data: Path, *, rules: OwnRules | None = None, limit: int = LIMIT) -> None:
        self.now_ns = NOW.monotonic_ns
        self.governor = Governor(Limits(0, 0, limit))
        self.trains = Budget(LIMIT)
        self.own = OwnPolicy(
            rules or OwnRules(),
            "pacs",
            monotonic_ns=lambda: self.now_ns,
            wall_us=lambda: 1_764_000_000_000_000,
        )
        self.keeper = Keeper(data, governor=self.governor, trains=self.trains, own=self.own)

    def look(self, bytes_sent: int) -> bool:
        return self.governor.look(Use(self.now_ns, 0, 1, bytes_sent))


@pytest.fixture(autouse=True)
def stopped_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spent, "read_clocks", lambda: NOW)


def test_what_was_sent_is_still_over_the_limit_after_a_restart(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.look(0)
    assert host.look(LIMIT + LIMIT // 100)
    assert host.governor.shed is Shed.TRAINS
    host.keeper.close()
    later = Host(tmp_path)
    later.keeper.restore()
    assert (later.governor.shed, later.governor.why) == (Shed.TRAINS, host.governor.why)
    assert not later.look(0)  # the next step waits for its minute
    later.now_ns += 61 * 10**9
    assert later.look(0)
    assert later.governor.shed is Shed.TESTS
    later.now_ns += HOUR_NS
    for _ in range(3):
        later.now_ns += 301 * 10**9
        later.look(0)
    assert later.governor.shed is Shed.NOTHING  # nothing of it counts any more


def test_trains_and_the_own_policy_remember_too(tmp_path: Path) -> None:
    rules = OwnRules(tests_an_hour=2, mb_an_hour=3)
    host = Host(tmp_path, rules=rules)
    assert host.trains.take(host.now_ns, LIMIT - 5)
    host.trains.give_back(5)
    host.own.begin(grant_of(most_bytes=2 * MB))
    host.own.ended(sent_bytes=MB, cpu_us=7)
    host.keeper.close()
    later = Host(tmp_path, rules=rules)
    later.keeper.restore()
    assert later.trains.left(later.now_ns) == 10
    assert [(one.bytes, one.cpu_us) for one in later.own.took()] == [(MB, 7)]
    later.own.begin(grant_of(most_bytes=MB))
    with pytest.raises(Exception, match="2 tests an hour, and it had them"):
        later.own.judge(grant_of(most_bytes=MB), "b")


def test_a_process_that_is_killed_has_forgotten_nothing_and_it_is_written_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[Spent] = []
    write = Keeper._write

    def noted(self: Keeper, told: Spent) -> bool:
        writes.append(told)
        return write(self, told)

    monkeypatch.setattr(Keeper, "_write", noted)

    async def scenario() -> None:
        host = Host(tmp_path)
        step = LIMIT // LEASES // 8
        for sent in range(0, LIMIT, step):
            host.look(sent)
            await host.keeper.keep()
            known = Host(tmp_path)
            known.keeper.restore()
            assert not sent or known.governor.sent()[0][1] >= sent  # killed here, it knows at least as much
        assert LEASES // 2 < len(writes) <= LEASES + 1
        idle = Host(tmp_path / "idle")
        idle.look(0)
        await idle.keeper.keep()
        idle.keeper.close()
        assert len(writes) <= LEASES + 1  # who took nothing writes nothing

    asyncio.run(scenario())


def test_a_clock_that_was_set_back_makes_nothing_younger_than_now_and_nothing_forgotten(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    host.trains.take(host.now_ns, 1_000)
    host.keeper.close()
    for years, left in ((-50, LIMIT - 1_000), (0, LIMIT - 1_000), (1, LIMIT)):
        clocks = Clocks(NOW.monotonic_ns, 1_764_000_000_000_000 + years * 31_536_000_000_000)
        known = spent.read(tmp_path)
        assert known is not None
        later = Host(tmp_path)
        later.keeper._take(known, clocks)
        assert later.trains.left(NOW.monotonic_ns) == left


def test_what_was_sent_is_not_forgotten_where_the_clock_was_set_back(tmp_path: Path) -> None:
    """The least of the counts came first, as all moments were now: an hour's bytes began at one megabyte."""
    host = Host(tmp_path)
    for minute in range(30):
        host.now_ns = NOW.monotonic_ns - (30 - minute) * 60 * 10**9
        host.look(minute * 2_000_000)
    host.keeper.close()
    known = spent.read(tmp_path)
    assert known is not None
    for back_s in (0, 600, 3_600):
        later = Host(tmp_path)
        later.keeper._take(known, Clocks(NOW.monotonic_ns, 1_764_000_000_000_000 - back_s * 1_000_000))
        assert later.look(3_000_000)  # over the hour's limit, so something is left out


@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff" * 9_000, b'{"version":2,"sent":[],"trains":[],"tests":[]}', b'{"version":1}', b"[" * 10**5,
     b'{"version":1,"sent":[[-1,5]],"trains":[],"tests":[]}',
     b'{"version":1,"sent":[],"trains":[],"tests":[],"shed":9}'],
)  # fmt: skip
def test_a_damaged_file_is_one_line_and_an_hour_that_is_spent(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(damage)
    host = Host(tmp_path, rules=OwnRules(tests_an_hour=3, mb_an_hour=5))
    host.keeper.restore()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the hour counts as spent" in caplog.text
    assert host.trains.left(host.now_ns) == 0
    with pytest.raises(Exception, match="3 tests an hour"):
        host.own.judge(grant_of(most_bytes=1), "b")
    assert host.look(0)
    assert host.governor.shed is Shed.TRAINS
    host.keeper.close()
    assert spent.read(tmp_path) is not None  # mended, and the hour does not begin anew at the next start
    host.now_ns += HOUR_NS + 1
    assert host.trains.left(host.now_ns) == LIMIT
    host.own.judge(grant_of(most_bytes=1), "b")


def test_a_file_that_may_not_be_read_is_damaged_too_and_a_disk_that_takes_none_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).mkdir()
    host = Host(tmp_path)
    host.keeper.restore()
    assert host.trains.left(host.now_ns) == 0

    async def scenario() -> None:
        for sent in range(5):
            host.look(sent * LIMIT)
            await host.keeper.keep()

    asyncio.run(scenario())
    assert caplog.text.count(f"{FILE_NAME} not written") == 1


Numbers = st.integers(0, 2**62)


@given(
    sent=st.lists(st.tuples(Numbers, Numbers), max_size=80),
    tests=st.lists(st.tuples(Numbers, Numbers, Numbers), max_size=20),
    shed=st.sampled_from(Shed),
)
def test_whatever_is_in_a_whole_file_is_taken_in_and_written_again(
    sent: list[tuple[int, int]], tests: list[tuple[int, int, int]], shed: Shed
) -> None:
    known = Spent(sent=sent, trains=sent, tests=tests, shed=shed, why="x" * 200)
    host = Host(Path("/nowhere"), rules=OwnRules(tests_an_hour=1))
    host.keeper._take(msgspec.json.decode(msgspec.json.encode(known), type=Spent), NOW)
    host.look(0)
    told = host.keeper.spent(NOW, (1, 1, 0))
    assert len(told.sent) <= 61
    assert all(at <= NOW.wall(NOW.monotonic_ns) for at, _ in told.trains)
    assert len(told.tests) == len(tests)


def test_a_server_that_says_401_in_a_loop_resets_nothing_that_the_host_counts(
    place: Any, life_of: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A real server, which renews every certificate and takes none; each session sends the batch again."""
    monkeypatch.undo()  # the clocks go on
    caplog.set_level(logging.INFO)
    config: Config = place.config(token=place.token(), limit_mb_an_hour=1, limit_cpu_bp=0, limit_rss_mb=0)
    made: list[Bounds] = []

    class Noted(Bounds):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            made.append(self)

    def refuse(self: Gate, _scope: Any) -> Any:
        raise self._no("unknown", CredentialError("not today", remedy="none"))

    def batch_of_a_few_hundred_kb() -> None:
        outbox = Outbox(config.data / "outbox", "pacs")
        rows = [
            Flow(tenant="default", agent="pacs", window_us=n, window_length_us=1,
                 bytes_sent=random.getrandbits(60), bytes_received=random.getrandbits(60))
            for n in range(12_000)
        ]  # fmt: skip
        outbox.add("flows", rows)
        outbox.flush()

    async def scenario() -> None:
        monkeypatch.setattr(host_of, "Bounds", Noted)
        monkeypatch.setattr(run, "backoff_s", lambda attempt: 0.01)
        monkeypatch.setattr(Gate, "agent", refuse)
        async with place.serving():
            for lives in (1, 2):  # the second one is a restart
                life = asyncio.create_task(life_of(config))
                async with asyncio.timeout(60):
                    while len(made) < lives or not made[-1].thrift.governor.shed:
                        await asyncio.sleep(0.02)
                        assert not life.done(), life.exception()
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)

    config.data.mkdir(parents=True)
    batch_of_a_few_hundred_kb()
    one_batch = sum(path.stat().st_size for path in (config.data / "outbox").iterdir())
    asyncio.run(scenario())
    first, second = made
    assert one_batch < 1_000_000 < first.thrift.governor.bytes_sent  # it took several sessions
    assert caplog.text.count("credential refused") > 1
    assert first.thrift.governor.shed is second.thrift.governor.shed is Shed.TRAINS
    assert first.trains.held
    assert second.trains.held
    assert json.loads((config.data / FILE_NAME).read_bytes())["shed"] == Shed.TRAINS


def test_bounds_of_a_process_count_what_it_sends(place: Any) -> None:
    async def scenario() -> None:
        bounds = Bounds(place.config())
        bounds.sends(5)
        bounds.sends(7)
        assert bounds._used().bytes_sent == 12
        assert health.sent_bytes() is None  # a loop that does not count

    asyncio.run(scenario())
