"""One finding for many bad paths, named for what they share."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import permutations

import pytest

from analytics.tomography import Bad, Found, Kind, Pair, Part, causes, crosses, parts_of, region_of, through

SITES = {
    "pacs": "hospital",
    "ris": "hospital",
    "radiologist": "hotel",
    "home": "home",
    "clinic": "clinic",
    "office-1": "office",
    "office-2": "office",
}
ALL = [Pair(*pair) for pair in permutations(SITES, 2)]
RELAYED = frozenset(pair for pair in ALL if "clinic" in pair)


def explain(bad: list[Pair], points_at: Part | None = None, sites: dict[str, str] = SITES) -> list[Found]:
    measured = [Pair(*pair) for pair in permutations(sites, 2)]
    crossing = through(measured, sites, RELAYED)
    return causes([Bad(pair, 7, points_at) for pair in bad], crossing, sites, RELAYED)


def crossing_part(part: Part) -> list[Pair]:
    return [pair for pair in ALL if part in parts_of(pair, SITES, RELAYED)]


@pytest.mark.parametrize(
    "part",
    [
        Part(Kind.UPLINK, "hospital"),
        Part(Kind.UPLINK, "office"),
        Part(Kind.HOST, "pacs"),
        Part(Kind.HOST, "office-2"),
        Part(Kind.RELAY, ""),
        Part(Kind.TRANSIT, "hospital and office"),
    ],
)
def test_the_part_that_all_bad_paths_share_is_the_one_finding(part: Part) -> None:
    bad = crossing_part(part)
    (found,) = explain(bad, points_at=part if part.kind is Kind.RELAY else None)
    assert found.part == part
    assert found.explains == sorted(bad)
    assert found.through == len(bad)
    assert found.since_us == 7


def test_where_one_agent_is_all_of_its_site_the_hops_tell_host_from_uplink() -> None:
    bad = crossing_part(Part(Kind.HOST, "radiologist"))
    for part in (Part(Kind.HOST, "radiologist"), Part(Kind.UPLINK, "hotel")):
        (found,) = explain(bad, points_at=part)
        assert found.part == part
        assert found.confidence > 0.95
    (found,) = explain(bad)
    assert found.confidence == pytest.approx(0.5)  # and the sentence must not be sure


def test_two_faults_are_two_findings() -> None:
    bad = {*crossing_part(Part(Kind.UPLINK, "office")), *crossing_part(Part(Kind.HOST, "pacs"))}
    found = explain(sorted(bad))
    assert {one.part for one in found} == {Part(Kind.UPLINK, "office"), Part(Kind.HOST, "pacs")}
    assert sum(len(one.explains) for one in found) == len(bad)


def test_paths_that_share_nothing_are_no_finding() -> None:
    assert explain([]) == []
    assert explain([Pair("pacs", "home")]) == []


def test_a_few_good_paths_do_not_hide_a_cause() -> None:
    bad = crossing_part(Part(Kind.UPLINK, "hospital"))
    (found,) = explain(bad[2:])
    assert found.part == Part(Kind.UPLINK, "hospital")


REGIONS = {f"{region}{n}": f"{region}.s{n // 2}" for region in ("east", "west") for n in range(6)}


def test_a_region_that_is_cut_off_is_the_one_finding() -> None:
    sites = {**REGIONS, "far": "north.s9"}
    bad = [
        Pair(*pair)
        for pair in permutations(sites, 2)
        if (sites[pair[0]][0] == "w") is not (sites[pair[1]][0] == "w")
    ]
    (found,) = explain(bad, sites=sites)
    assert found.part == Part(Kind.REGION, "west")
    assert len(found.explains) == 2 * 6 * 7
    assert region_of("north.east.s1") == "north.east"
    assert region_of("hospital") == ""


def test_a_site_alone_in_its_region_is_an_uplink() -> None:
    sites = {"a": "east.s1", "b": "west.s1", "c": "west.s2", "d": "west.s3"}
    (found,) = explain([Pair(*pair) for pair in permutations(sites, 2) if "a" in pair], sites=sites)
    assert found.part.kind in (Kind.UPLINK, Kind.HOST)


def test_counting_is_the_same_as_looking_at_each_path() -> None:
    sites = {**SITES, **REGIONS}
    relayed = frozenset(pair for pair in permutations(sites, 2) if "clinic" in pair or "east1" in pair)
    measured = [Pair(*pair) for pair in permutations(sites, 2)]
    one_by_one = Counter(part for pair in measured for part in parts_of(pair, sites, relayed))
    assert through(iter(measured), sites, relayed) == one_by_one
    for pair in measured:
        parts = set(parts_of(pair, sites, relayed))
        assert {part for part in one_by_one if crosses(part, pair, sites, relayed)} == parts


def test_a_thousand_agents_in_two_seconds() -> None:
    sites = {f"a{n}": f"s{n // 10}" for n in range(1_000)}
    draw = random.Random(1)
    measured = [Pair(*pair) for pair in permutations(sites, 2)]
    crossing = through(measured, sites, frozenset())
    faulty = {"s3", "s40", "s77"}
    bad = [
        Bad(pair, 1)
        for pair in measured
        if len({sites[pair.src], sites[pair.dst]} & faulty) == 1 and draw.random() < 0.98
    ]
    began_s = time.process_time()
    found = causes(bad, crossing, sites, frozenset())
    took_s = time.process_time() - began_s
    assert [one.part for one in found[:3]] == sorted(Part(Kind.UPLINK, site) for site in faulty)[::-1] or {
        one.part for one in found[:3]
    } == {Part(Kind.UPLINK, site) for site in faulty}
    assert took_s < 10  # the bench says how long; this only excludes the square of it
