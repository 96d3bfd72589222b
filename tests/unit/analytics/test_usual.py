"""What is usual, from stored readings to the sentence: baselines, changes, findings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import msgspec
import pytest

from analytics.added import Place
from analytics.baseline import LEAST_SPAN_US
from analytics.findings import findings
from analytics.measurement import Reading, Rung
from analytics.paths import path_rows
from analytics.report import Member
from analytics.rules.load import load_rules
from analytics.shapes import PathRow
from analytics.store.store import Store
from analytics.usual import MOST_PAST, Known, Pair, Past, Usual, UsualHop, since_us, usual_hops_of, usual_of
from analytics.verdict import verdict
from tests.unit.analytics.facts import AT_US, CYCLE, MEMBERS, body, hop, put, reading
from tests.unit.analytics.test_verdict import SLOW, SLOW_HOPS

RULES = load_rules()
STEP_US = 300_000_000
DAY = 288
USUAL_US = 49_000


def past(count: int, *rtts_us: int, rung: Rung = Rung.SRFLX, until_us: int = AT_US) -> list[Past]:
    """``count`` readings of the usual round trip, then the given ones, one every five minutes."""
    all_us = [USUAL_US] * count + list(rtts_us)
    return [
        Past(
            src="pacs",
            dst="radiologist",
            at_us=until_us - left * STEP_US,
            rung=rung,
            rtt_min_us=us,
            rtt_p50_us=us,
        )
        for left, us in zip(range(len(all_us), 0, -1), all_us, strict=True)
    ]


def row(paths: Mapping[Pair, Known], hops: Mapping[Pair, Mapping[Place, int]] | None = None) -> PathRow:
    usual = Usual(paths, hops or {})
    rows = path_rows("pacs", [reading(**SLOW)], SLOW_HOPS, MEMBERS, at_us=AT_US, rules=RULES, usual=usual)
    return rows[0]


def test_a_path_knows_what_is_usual_and_since_when_it_is_slower() -> None:
    found = row(usual_of(past(2 * DAY, 260_000, 260_000, 260_000)))
    assert found.usual_rtt_us == USUAL_US
    assert found.slower_since_us == AT_US - 3 * STEP_US


def test_a_path_that_is_as_usual_is_slower_since_never() -> None:
    found = row(usual_of(past(2 * DAY)))
    assert (found.usual_rtt_us, found.slower_since_us) == (USUAL_US, None)


def test_before_a_day_is_known_nothing_is_usual() -> None:
    found = row(usual_of(past(DAY // 2, 260_000, 260_000)))
    assert (found.usual_rtt_us, found.slower_since_us) == (None, None)


def test_another_rung_is_another_path() -> None:
    before = past(2 * DAY, rung=Rung.RELAY_UDP, until_us=AT_US - 10 * STEP_US)
    known = usual_of([*before, *past(0, *[260_000] * 9)])
    assert known["pacs", "radiologist"].history.usual is None


def test_the_sentence_says_what_is_usual_and_since_when() -> None:
    known = usual_of(past(2 * DAY, 260_000, 260_000, 260_000))
    told = verdict("pacs", MEMBERS, [row(known)], RULES)
    assert told.details[0] == (
        "The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 44 s. "
        "212 of 260 ms is added between the hotel's gateway and its provider "
        "(usually 49 ms; slower since 19:45 UTC)."
    )


def usual_hops(src: str, dst: str, *rtts_us: tuple[str, int]) -> list[UsualHop]:
    return [
        UsualHop(src=src, dst=dst, ttl=ttl, address=address, rtt_min_us=rtt_us)
        for ttl, (address, rtt_us) in enumerate(rtts_us, start=1)
    ]


def test_with_the_usual_hops_the_sentence_names_what_was_added_and_where() -> None:
    there = usual_hops(
        "pacs", "radiologist", ("10.20.0.1", 300), ("198.51.100.1", 4_300), ("198.51.100.9", 9_000)
    )
    back = usual_hops("radiologist", "pacs", ("192.168.7.1", 1_600), ("203.0.113.1", 3_400))
    hops = usual_hops_of([*there, *back])
    found = row(usual_of(past(2 * DAY, 260_000, 260_000, 260_000)), hops)
    assert found.added is not None
    assert (found.added.kind, found.added.site) == ("destination-access", "hotel")
    told = verdict("pacs", MEMBERS, [found], RULES)
    assert told.details[0].endswith(
        "210 of 211 ms more than usual (49 ms) are added between the hotel's gateway and its provider, "
        "since 19:45 UTC."
    )


@pytest.mark.parametrize(
    ("there_us", "back_us", "said"),
    [
        (240_000, 20_000, "and its provider, on the way to radiologist, since"),
        (20_000, 240_000, "and its provider, on the way from radiologist, since"),
        (None, None, "and its provider, since"),
    ],
)
def test_clocks_that_agree_tell_the_direction(there_us: int | None, back_us: int | None, said: str) -> None:
    told = {"one_way_min_us": 20_000, "one_way_bound_us": 500}
    forth = [msgspec.structs.replace(one, **told) for one in past(2 * DAY, 260_000, 260_000, 260_000)]
    known = usual_of([*forth, *(msgspec.structs.replace(one, src=one.dst, dst=one.src) for one in forth)])
    hops = usual_hops_of(usual_hops("radiologist", "pacs", ("192.168.7.1", 1_600), ("203.0.113.1", 3_400)))
    there = reading(**SLOW, one_way_min_us=there_us, one_way_bound_us=500)
    back = msgspec.structs.replace(there, src="radiologist", dst="pacs", one_way_min_us=back_us)
    rows = path_rows(
        "pacs", [there, back], SLOW_HOPS, MEMBERS, at_us=AT_US, rules=RULES, usual=Usual(known, hops)
    )
    (from_pacs,) = (one for one in rows if one.src == "pacs")
    assert said in verdict("pacs", MEMBERS, [from_pacs], RULES).details[0]


@pytest.mark.parametrize(
    ("paths", "looks_back_us"),
    [(30, 14 * DAY * STEP_US), (200, MOST_PAST * STEP_US // 200), (5_000, None)],
)
def test_a_large_fleet_looks_back_less_far(paths: int, looks_back_us: int | None) -> None:
    since = since_us(AT_US, paths=paths, period_us=STEP_US)
    assert since == (None if looks_back_us is None else AT_US - looks_back_us)
    assert looks_back_us is None or looks_back_us >= LEAST_SPAN_US


def test_the_store_tells_the_past_of_all_paths_in_order_of_time(tmp_path: Path) -> None:
    store = Store.open(tmp_path, clock_us=lambda: AT_US)
    earlier: list[Reading] = []
    for n in range(3):
        at_us = AT_US - (3 - n) * STEP_US
        for dst in ("home", "clinic"):
            changes = {"cycle": at_us // 1_000_000, "ended_us": at_us, "rtt_p50_us": 1_000 * n}
            earlier.append(msgspec.structs.replace(reading("pacs", dst), **changes))
    earlier.append(msgspec.structs.replace(reading("pacs", "home"), rtt_p50_us=None, rung=Rung.NONE))
    put(store, body("pacs", 1, readings=earlier))
    found = store.past("default", since_us=AT_US - LEAST_SPAN_US)
    assert [(one.dst, one.rtt_p50_us) for one in found] == [
        *(("clinic", 1_000 * n) for n in range(3)),
        *(("home", 1_000 * n) for n in range(3)),
    ]
    assert store.past("default", since_us=AT_US) == []
    store.close()


def test_the_store_tells_the_usual_hops_of_the_paths_asked_for(tmp_path: Path) -> None:
    store = Store.open(tmp_path, clock_us=lambda: AT_US)
    traced = [hop(1, "10.20.0.1", rtt, cycle=CYCLE + n) for n, rtt in enumerate((900, 300, 400))]
    other = hop(1, "10.20.0.1", 5, dst="home")
    put(store, body("pacs", 1, hops=[*traced, other, hop(2, "", None), hop(3, "192.0.2.1", 9, end=True)]))
    span = {"since_us": AT_US - LEAST_SPAN_US, "until_us": AT_US}
    found = store.usual_hops("default", [("pacs", "radiologist"), ("radiologist", "pacs")], **span)
    assert found == usual_hops("pacs", "radiologist", ("10.20.0.1", 400))
    assert store.usual_hops("default", [], **span) == []
    store.close()


# --- findings -----------------------------------------------------------------------------------------------


def report_rows(members: list[Member], slow: str) -> list[PathRow]:
    """All paths between the members; those with an end at site ``slow`` take 700 ms."""
    sites = {member.name: member.site for member in members}

    def rtt_us(*ends: str) -> int:
        at = {sites[end] for end in ends}
        return 700_000 if slow in at and len(at) == 2 else 20_000

    readings = [reading(src, dst, rtt_us=rtt_us(src, dst)) for src, dst in permutations(sites, 2)]
    return path_rows("pacs", readings, [], members, at_us=AT_US, rules=RULES)


def test_one_finding_explains_all_bad_paths_of_a_site() -> None:
    (found,) = findings(report_rows(MEMBERS, "office"), MEMBERS)
    assert (found.kind, found.where, found.bad, found.through) == ("uplink", "office", 16, 16)
    assert found.sentence == "The office's uplink explains 16 of 16 bad paths (confidence 99 %)."
    assert found.since_us is None


def test_no_bad_path_no_finding() -> None:
    assert findings(report_rows(MEMBERS, "nowhere"), MEMBERS) == []
