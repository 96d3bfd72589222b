"""The ranking says of every path what the report says, from the files that the store sealed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from analytics.errors import RulesError
from analytics.measurement import Letter, Reading
from analytics.ranking.fleet import NOT_MEASURED, Fleet, spread
from analytics.ranking.ranking import Ranking
from analytics.report import Member, build_report
from analytics.rules.load import load_rules
from analytics.store.store import Store
from tests.unit.analytics.facts import AT_US, body, put
from tests.unit.analytics.many_readings import one

RULES = load_rules()
NAMES = [f"h{number:02d}" for number in range(12)]
MEMBERS = [Member(name=name, site=f"s{number % 3}") for number, name in enumerate(NAMES)]


def cycle(draw: random.Random, *, before_s: int = 0, missing: int = 0) -> list[Reading]:
    """Readings of all pairs but some, each of a test of both directions."""
    found = []
    for src in NAMES:
        for dst in NAMES:
            if src != dst and draw.randrange(100) >= missing:
                told = one(draw, src, dst, tidy=draw.random() < 0.7)
                test = f"{before_s}-{'-'.join(sorted((src, dst)))}"
                moved = {
                    name: getattr(told, name) - before_s * 1_000_000 for name in ("started_us", "ended_us")
                }
                found.append(msgspec.structs.replace(told, test=test, cycle=told.cycle - before_s, **moved))
    return found


class Sealer:
    """A store that turns readings into files."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder, self._batch = store, folder, 0

    def seal(self, readings: list[Reading]) -> list[Path]:
        before = set(self._folder.rglob("*.parquet"))
        for name in NAMES:
            self._batch += 1
            own = [reading for reading in readings if reading.src == name]
            assert put(self._store, body(name, self._batch, readings=own)) == [True]
        self._store.seal()
        return sorted(set(self._folder.rglob("*.parquet")) - before)


@pytest.fixture
def sealer(tmp_path: Path) -> Iterator[Sealer]:
    with closing(Store.open(tmp_path, clock_us=lambda: AT_US)) as store:
        yield Sealer(store, tmp_path)


@pytest.fixture
def ranking() -> Iterator[Ranking]:
    with closing(Ranking(Fleet.of(MEMBERS), RULES, tenant="default")) as made:
        yield made


def check(ranking: Ranking, readings: list[Reading]) -> None:
    """Compare with the report, profile by profile."""
    for profile in RULES.profiles:
        report = build_report(
            tenant="default",
            profile=profile,
            readings=readings,
            hops=[],
            members=MEMBERS,
            at_us=AT_US,
            rules=RULES,
        )
        expected = [
            (row.src, row.dst, row.grade.letter, row.grade.rule, row.grade.outcome, row.grade.outcome_low)
            for row in report.paths
        ]
        found = ranking.worst(profile, limit=len(NAMES) ** 2)
        assert [
            (row.src, row.dst, row.letter, row.rule, row.outcome, row.outcome_low) for row in found
        ] == expected
        for row, path in zip(found, report.paths, strict=True):
            assert (row.at_us, row.loss_bp, row.src_site, row.dst_site) == (
                *(path.at_us, path.loss_bp, path.src_site, path.dst_site),
            )
        letters = {(row.src, row.dst): row.grade.letter for row in report.paths}
        matrix = ranking.matrix(profile)
        assert [matrix.letter(a, b) for a in range(len(NAMES)) for b in range(len(NAMES))] == [
            letters.get((a, b), NOT_MEASURED) for a in NAMES for b in NAMES
        ]
        assert {(row.src, row.dst) for row in ranking.of_agent("h03", profile)} == {
            pair for pair in letters if pair[0] == "h03"
        }
        for sites in ranking.sites(profile):
            rows = [
                row
                for row in report.paths
                if (row.src_site, row.dst_site) == (sites.src_site, sites.dst_site)
            ]
            bad = [row for row in rows if row.grade.letter in (Letter.D, Letter.F, Letter.UNREACHABLE)]
            unknown = [row for row in rows if row.grade.letter is Letter.UNKNOWN]
            assert (sites.paths, sites.cannot, sites.unknown) == (len(rows), len(bad), len(unknown))


def test_a_rebuilt_ranking_says_what_the_report_says(sealer: Sealer, ranking: Ranking) -> None:
    draw = random.Random(1)
    older, newer = cycle(draw, before_s=300), cycle(draw, missing=20)
    files = sealer.seal(older) + sealer.seal(newer)
    assert ranking.rebuild(files, at_us=AT_US) == len(older)
    latest: dict[tuple[str, str], Reading] = {}
    for reading in older + newer:
        pair = (reading.src, reading.dst)
        latest[pair] = max(latest.get(pair, reading), reading, key=lambda r: (r.cycle, r.ended_us))
    check(ranking, list(latest.values()))


def test_a_refresh_says_the_same_as_a_rebuild(sealer: Sealer, ranking: Ranking) -> None:
    draw = random.Random(2)
    files = sealer.seal(cycle(draw, before_s=300))
    ranking.rebuild(files, at_us=AT_US)
    late, again = cycle(draw, before_s=600), cycle(draw, missing=50)
    arrived = [sealer.seal(late), sealer.seal(again), sealer.seal(cycle(draw, missing=90))]
    for new in arrived:  # older than what is known; a part of the fleet; some paths twice in one cycle
        ranking.refresh(new, at_us=AT_US)
    with closing(Ranking(Fleet.of(MEMBERS), RULES, tenant="default")) as whole:
        whole.rebuild([*files, *(file for new in arrived for file in new)], at_us=AT_US)
        for profile in RULES.profiles:
            assert ranking.matrix(profile) == whole.matrix(profile)
            known = [row.usual_rtt_us for row in whole.worst(profile)]
            assert any(known)


def test_an_agent_that_is_not_enrolled_and_another_tenant_are_not_ranked(sealer: Sealer) -> None:
    files = sealer.seal(cycle(random.Random(3)))
    with closing(Ranking(Fleet.of(MEMBERS[:4]), RULES, tenant="default")) as few:
        assert few.rebuild(files, at_us=AT_US) == 12
    with closing(Ranking(Fleet.of(MEMBERS), RULES, tenant="another")) as other:
        assert other.rebuild(files, at_us=AT_US) == 0
        assert other.worst("pacs") == other.sites("pacs") == []
        assert set(other.matrix("pacs").letters.decode()) == {NOT_MEASURED}


def test_a_profile_for_some_sites_ranks_only_their_paths(sealer: Sealer) -> None:
    profiles = {"pacs": msgspec.structs.replace(RULES.profiles["pacs"], sites=["s1"])}
    rules = msgspec.structs.replace(RULES, profiles=profiles)
    with closing(Ranking(Fleet.of(MEMBERS), rules, tenant="default")) as ranking:
        ranking.rebuild(sealer.seal(cycle(random.Random(4))), at_us=AT_US)
        found = ranking.worst("pacs", limit=1_000)
        assert len(found) == 12 * 11 - 8 * 7
        assert all("s1" in (row.src_site, row.dst_site) for row in found)
        with pytest.raises(RulesError):
            ranking.worst("ehr")


def test_what_is_usual_is_the_median_of_medians(sealer: Sealer, ranking: Ranking) -> None:
    base = next(r for r in cycle(random.Random(5)) if r.rtt_p50_us is not None)
    files = [
        file
        for before_s, rtt_us in ((900, 10), (600, 21), (300, 1_000), (0, 20))
        for file in sealer.seal(
            [msgspec.structs.replace(base, cycle=AT_US // 1_000_000 - 60 - before_s, rtt_p50_us=rtt_us)]
        )
    ]
    ranking.rebuild(files, at_us=AT_US)
    assert [row.usual_rtt_us for row in ranking.worst("pacs")] == [
        20
    ]  # of 10, 20, 21, 1,000: 20.5, half to even


def test_letters_are_spread_over_their_positions() -> None:
    assert spread(b"ABC", [1, 2, 5], [1], 7) == b" AB  C "
    assert spread(b"", [], [], 2) == b"  "
