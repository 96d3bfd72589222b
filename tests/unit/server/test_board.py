"""A large fleet's board says of the same facts what its report would, letter for letter, and is bounded."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analytics import board as boards_made
from analytics import cut
from analytics.batch import pack_batch
from analytics.fusion import NOTHING_SEEN
from analytics.measurement import Reading
from analytics.overview import PACKINGS, Metric
from analytics.ranking.dense import FORMATS
from analytics.report import Member, Report, build_report
from analytics.rules.load import load_rules
from analytics.store.store import Store
from analytics.then import when
from analytics.usual import with_watched
from analytics.watched import with_latest_tests
from server.board import Boards, Pace, Ready, Sight
from server.lately import Lately
from server.schedule import Pair
from server.sessions import Sessions
from server.usual import UsualCache
from tests.unit.analytics.facts import AT_US, PACS, body, put, reading, trace
from tests.unit.analytics.many_readings import one
from tests.unit.analytics.test_fusion import sent
from tests.unit.server import test_core as core_facts

RULES = load_rules()
NAMES = ["pacs", "radiologist", *(f"h{number:02d}" for number in range(10))]
MEMBERS = [
    Member(
        name=name,
        site=f"east.s{number % 4}" if number % 4 else "hub",
        addresses=["203.0.113.20"] if name == "radiologist" else [],
        services=[PACS] if name == "pacs" else [],
    )
    for number, name in enumerate(NAMES)
]
MEMBERS[1] = msgspec.structs.replace(MEMBERS[1], site="hub")  # beside the PACS: its address means the same
WATCHED = Pair("h03", "h04")


def cycle(draw: random.Random, *, before_s: int = 0, missing: int = 0) -> list[Reading]:
    """Readings of all pairs but some, each of a test of both directions; more than enough of them bad."""
    found = []
    for src in NAMES:
        for dst in NAMES:
            if src != dst and draw.randrange(100) >= missing:
                told = one(draw, src, dst, tidy=draw.random() < 0.7)
                moved: dict[str, Any] = {
                    name: getattr(told, name) - before_s * 1_000_000 for name in ("started_us", "ended_us")
                }
                test = f"{before_s}-{'-'.join(sorted((src, dst)))}"
                began_s = random.Random(test).choice([60] * 8 + [800, 2_000])  # as both ends are told
                moved |= {
                    "test": test,
                    "cycle": AT_US // 1_000_000 - began_s - before_s,
                    "rtt_min_us": told.rtt_p25_us,
                }
                found.append(msgspec.structs.replace(told, **moved))
    return found


@dataclass
class World:
    """A store with facts, and the boards over it."""

    store: Store
    lately: Lately
    boards: Boards
    members: list[Member]
    batch: int = 0

    def put(self, readings: list[Reading], **more: dict[str, list[Any]]) -> None:
        for name in NAMES:
            tables: dict[str, list[Any]] = {
                "readings": [told for told in readings if told.src == name],
                **{table: rows.get(name, []) for table, rows in more.items()},
            }
            self.batch += 1
            put(self.store, body(name, self.batch, **{name: rows for name, rows in tables.items() if rows}))

    def watch(self) -> None:
        """Tests between cycles, which hold another letter than the last of them has."""
        for number in range(12):
            test = f"w{number}"
            self.lately.began(test, WATCHED)
            rtt_us = 900_000 if number == 11 else 20_000
            self.lately.take(
                reading(*way, test=test, rtt_us=rtt_us) for way in (tuple(WATCHED), tuple(WATCHED)[::-1])
            )

    def report(self, profile: str, **more: str) -> Report:
        """As ``server.core`` makes a small fleet's."""
        latest = self.store.readings_latest("default")
        watched = self.lately.told(AT_US)
        usual = UsualCache(self.store, period_us=300_000_000).of("default", latest, AT_US, now=True)
        return build_report(
            tenant="default",
            profile=profile,
            readings=with_latest_tests(latest, watched),
            hops=self.store.hops_of("default", [told.test for told in latest]),
            members=self.members,
            at_us=AT_US,
            rules=RULES,
            usual=with_watched(usual, watched),
            passive=Sessions(self.store, RULES, "default").of(
                profile, self.members, latest, AT_US, now=False
            ),
            **more,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store.open(tmp_path, clock_us=lambda: AT_US)
    lately, members = Lately(RULES, clock=lambda: AT_US), list(MEMBERS)
    boards = Boards(
        tenant="default",
        store=store,
        lately=lately,
        usual=UsualCache(store, period_us=300_000_000),
        sessions=Sessions(store, RULES, "default"),
        sight=lambda at_us: Sight(list(members), RULES, lambda one, other: False),
        clock=lambda: AT_US,
    )
    yield World(store, lately, boards, members)
    boards.close()
    store.close()


def facts(world: World, seed: int) -> None:
    """Two cycles, a trace of every test from one end, sessions of the PACS, a watched pair."""
    draw = random.Random(seed)
    older, newer = cycle(draw, before_s=300), cycle(draw, missing=20)
    hops = {
        told.src: [
            hop
            for own in newer
            if own.src == told.src and own.rtt_p50_us
            for hop in trace(
                ("192.168.1.1", 500),
                ("198.51.100.1", own.rtt_p50_us // 2),
                test=own.test,
                src=own.src,
                dst=own.dst,
                cycle=own.cycle,
            )
        ]
        for told in newer
    }
    world.put(older)
    world.store.seal()
    world.put(newer, hops=hops, flows={"pacs": [sent(1), sent(2)]})
    world.watch()


def check(world: World, kept: Ready, profile: str, *, whole: bool, **more: str) -> None:
    report, found = world.report(profile, **more), kept.board
    expected = cut.overview_of(report)
    told = found.profiles[profile].overview
    row_of = {(row.src, row.dst): row for row in report.paths}
    for row in found.profiles[profile].rows:
        assert msgspec.structs.asdict(row) == msgspec.structs.asdict(row_of[row.src, row.dst])
    for metric in Metric:
        cells, wanted = found.cells(profile, metric), cut.cells_of(report, metric)
        assert (cells.agents, cells.sites, cells.packing) == (wanted.agents, wanted.sites, wanted.packing)
        assert _numbers(cells.cells, metric) == _numbers(wanted.cells, metric), metric
    same = ("letters", "bad", "paths", "expected", "relayed", "places_of", "members")
    for name in same:
        assert getattr(told, name) == getattr(expected, name), name
    assert told.verdict.headline == expected.verdict.headline
    if not kept.watched:  # held letters of watched paths are not counted by pair of sites
        assert list(found.profiles[profile].sites) == cut.site_paths_of(report)
    for agent in ("pacs", "h03"):
        mine, theirs = found.agent_paths(agent, profile), cut.agent_paths_of(report, agent)
        assert {(b.src, b.dst): b for b in (*mine.out, *mine.into)} == {
            (b.src, b.dst): b for b in (*theirs.out, *theirs.into)
        }
        assert (mine.out_letters, mine.into_letters) == (theirs.out_letters, theirs.into_letters)
        assert [b.letter for b in mine.out] == [b.letter for b in theirs.out]
    if whole:
        assert told.verdict == expected.verdict
        assert told.findings == expected.findings
        assert told.worst == expected.worst
        assert told.places == expected.places


def _numbers(cells: bytes, metric: Metric) -> list[int]:
    return memoryview(cells).cast(FORMATS[PACKINGS[metric].cell_bytes]).tolist()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_board_that_has_rows_for_all_says_what_the_report_says(world: World, seed: int) -> None:
    facts(world, seed)
    kept = world.boards.refresh()
    for profile in RULES.profiles:
        check(world, kept, profile, whole=True)
    pacs = {(row.src, row.dst): row for row in kept.board.profiles["pacs"].rows}
    assert pacs["pacs", "radiologist"].fused is not None
    assert pacs["h03", "h04"].watched
    assert any(row.legs for row in pacs.values())


def test_with_few_rows_it_counts_all_paths_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.board.BAD_ROWS", 3)
    monkeypatch.setattr(boards_made, "SERVICE_ROWS", 2)
    facts(world, 3)
    kept = world.boards.refresh()
    for profile in RULES.profiles:
        check(world, kept, profile, whole=False)
        told, report = kept.board.profiles[profile], world.report(profile)
        assert len(told.rows) < len(report.paths) / 2
        assert [*told.rows[: told.listed]] == report.paths[: told.listed]
        assert told.listed >= 3
        assert told.overview.looked_at < told.overview.bad
        for finding in told.overview.findings:
            assert f"worst of {told.overview.bad}" in finding.sentence
    assert kept.board.report("pacs").paths_of == len(world.report("pacs").paths)


def test_what_came_since_is_taken_in_and_another_fleet_begins_anew(world: World) -> None:
    draw = random.Random(4)
    world.put(cycle(draw, before_s=300, missing=30))
    before = world.boards.refresh().board.revision("generic")
    assert world.boards.refresh().board.revision("generic") == before
    world.put(cycle(draw, missing=60))
    kept = world.boards.refresh()
    assert kept.board.revision("generic") != before
    check(world, kept, "generic", whole=True)
    gone = world.members.pop()
    kept = world.boards.refresh()
    assert gone.name not in kept.board.dense.agents
    check(world, kept, "generic", whole=True)


def test_the_past_is_what_had_arrived_by_then(world: World) -> None:
    world.put(cycle(random.Random(5)))
    assert world.boards.at(AT_US - 60_000_000).board.dense.measured() == 0
    then = world.boards.at(AT_US)
    assert world.boards.at(AT_US) is then
    check(world, then, "generic", whole=True, when=when(AT_US))


def test_an_empty_fleet_has_a_board_too(world: World) -> None:
    kept = world.boards.refresh()
    assert kept.board.profiles["pacs"].overview.paths == 0
    assert kept.board.agent_paths("nobody", "pacs").out == []
    assert kept.passive["generic"] is NOTHING_SEEN
    assert kept.board.report("pacs").missing[:1] == [("h03", "h07")] or kept.board.report("pacs").missing


def test_a_board_is_due_when_something_came_but_not_all_the_time() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.is_due("a")
    pace.made("a", took_s=3)
    now[0] = 11.9
    assert not pace.is_due("b")
    now[0] = 12.0
    assert pace.is_due("b")
    assert not pace.is_due("a")
    now[0] = 60.0
    assert pace.is_due("a")


def test_a_server_answers_for_a_large_fleet_as_for_a_small_one(
    with_server: Callable[[Callable[[Any], Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(site: Any) -> None:
        now_us = time.time_ns() // 1000
        for src, dst, received in (("a", "b", 300), ("b", "a", 270)):
            reply = await site.enrol(src, f"site-{src}")
            told = core_facts.reading(src, dst, received, ended_us=now_us)
            hop = msgspec.structs.replace(core_facts.hop(src, dst), cycle=told.cycle)
            tables: dict[str, list[Any]] = {"readings": [told], "hops": [hop]}
            body_sent = pack_batch(agent=src, boot="6f1c0a2b9d3e4f50", batch=0, tables=tables)
            assert (await site.send(reply, body_sent)).status_code == 200
        core = site.running.core
        small = await asyncio.to_thread(_answers, core)
        monkeypatch.setattr("server.roster.SMALL_AGENTS", 1)
        await asyncio.to_thread(core.keep_ready)
        assert await asyncio.to_thread(_answers, core) == small
        await asyncio.to_thread(core._boards.refresh)
        before = await asyncio.to_thread(core.overview, "generic", now_us - 60_000_000)
        assert (before.paths, before.at_us) == (0, now_us - 60_000_000)
        assert core.detail("a", "nobody", "generic") is None
        assert core.explain("b", "a", "generic", now_us - 60_000_000) is None

    with_server(scenario)


def _answers(core: Any) -> dict[str, Any]:
    """All but moments and ages, which go on."""
    detail, why = core.detail("a", "b", "generic"), core.explain("a", "b", "generic")
    told, report = core.overview("generic"), core.report("generic")
    status = core.status()
    return {
        "status": (status.paths_measured, status.paths_expected, status.agents_enrolled, status.rows),
        "detail": [
            msgspec.structs.replace(detail.forward, age_s=0),
            msgspec.structs.replace(detail.back, age_s=0),
            *(detail.forward_reading, detail.forward_hops, detail.back_hops, detail.flows),
        ],
        "why": (why.grade, why.hops, why.legs, why.findings, why.inputs),
        "overview": (told.verdict, told.findings, told.letters, told.bad, told.paths, told.members),
        "rows": [msgspec.structs.replace(row, age_s=0) for row in told.worst],
        "report": (report.verdict, report.missing, len(report.paths)),
        "letters": core.matrix("generic", Metric.LETTER).cells,
        "agent": [(b.src, b.dst, b.letter, b.loss_bp) for b in core.agent_paths("a", "generic").into],
        "sites": core.sites("generic"),
        "worst": [(row.src, row.dst) for row in core.worst("generic", 1).rows],
    }
