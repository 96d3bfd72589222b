"""Two moments beside each other: what changed, why, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from analytics.compare import MOST_CHANGES, What, compare
from analytics.measurement import Letter, Reading, Rung
from analytics.report import Report, build_report
from analytics.rules.load import load_rules
from analytics.shapes import Finding
from tests.unit.analytics.facts import AT_US, MEMBERS, reading

RULES = load_rules()
AFTER_US = AT_US + 300_000_000


def report(
    *readings: Reading, at_us: int = AT_US, findings: Sequence[Finding] = (), **changes: Any
) -> Report:
    made = build_report(
        tenant="default",
        profile=changes.pop("profile", "pacs"),
        readings=readings,
        hops=[],
        members=changes.pop("members", MEMBERS),
        at_us=at_us,
        rules=RULES,
    )
    return msgspec.structs.replace(made, findings=list(findings), **changes)


def later(*ends: str, **changes: Any) -> Reading:
    return reading(*ends, cycle=AFTER_US // 1_000_000 - 60, ended_us=AFTER_US - 12_000_000, **changes)


def finding(*explains: tuple[str, str], where: str = "hotel", percent: int = 98) -> Finding:
    return Finding(
        kind="uplink",
        where=where,
        explains=list(explains),
        bad=len(explains),
        through=9,
        confidence_percent=percent,
        since_us=None,
        sentence=f"The {where}'s uplink explains it.",
    )


def whats(before: Report, after: Report) -> dict[tuple[str, str], What]:
    told = compare(before, after)
    every = [*told.others, *(one for cause in told.causes for one in cause.changes)]
    return {(one.src, one.dst): one.what for one in every}


def test_the_worst_change_is_first_and_what_did_not_change_is_counted() -> None:
    before = report(
        reading("pacs", "home"),
        reading("pacs", "clinic"),
        reading("pacs", "office-1", rtt_us=160_000),
        reading("pacs", "radiologist"),
        reading("home", "clinic"),
    )
    after = report(
        later("pacs", "home", rtt_us=400_000),
        later("pacs", "clinic", rung=Rung.NONE, rungs_failed="srflx: no answer"),
        later("pacs", "office-1", rtt_us=5_000),
        later("pacs", "radiologist"),
        later("home", "office-2"),
        at_us=AFTER_US,
    )
    told = compare(before, after)
    assert [(one.src, one.dst, one.what) for one in told.others] == [
        ("pacs", "clinic", What.WORSE),
        ("pacs", "home", What.WORSE),
        ("home", "clinic", What.GONE),
        ("home", "office-2", What.NEW),
        ("pacs", "office-1", What.BETTER),
    ]
    assert told.others[0].after is Letter.UNREACHABLE
    assert told.others[0].reason == "cannot connect: srflx: no answer"
    assert (told.others[1].rtt_before_us, told.others[1].rtt_after_us) == (30_000, 400_000)
    assert told.counts["same"] == 1
    assert told.headline == "2 paths are worse; 1 path is better; 2 workplaces can no longer work."
    assert (told.lost, told.regained) == (["clinic", "home"], [])


def test_a_number_that_somebody_notices_is_a_change_of_the_same_letter() -> None:
    before = report(reading("pacs", "home", rtt_us=1_000), reading("pacs", "clinic"), profile="generic")
    for changes, moved in (
        ({"rtt_us": 1_900}, False),
        ({"rtt_us": 6_500}, True),
        ({"rtt_us": 1_000, "capacity_kbps": 90_000}, False),
        ({"rtt_us": 1_000, "capacity_kbps": 70_000}, True),
        ({"rtt_us": 1_000, "rung": Rung.IPV6}, True),
    ):
        after = report(
            later("pacs", "home", **changes), later("pacs", "clinic"), at_us=AFTER_US, profile="generic"
        )
        assert (("pacs", "home") in whats(before, after)) is moved, changes


def test_what_is_withheld_now_is_neither_better_nor_worse() -> None:
    known = report(reading("pacs", "home", rtt_us=400_000))
    withheld = report(later("pacs", "home", error="the peer hung up"), at_us=AFTER_US)
    assert whats(known, withheld) == {("pacs", "home"): What.UNKNOWN}
    assert whats(withheld, known) == {("pacs", "home"): What.KNOWN}


def test_changes_stand_under_the_cause_that_explains_them() -> None:
    slow = later("pacs", "radiologist", rtt_us=400_000)
    before = report(
        reading("pacs", "radiologist"),
        reading("pacs", "home", rtt_us=400_000),
        findings=[finding(("pacs", "home"), where="home"), finding(("pacs", "clinic"), where="clinic")],
    )
    after = report(
        slow,
        later("pacs", "home"),
        at_us=AFTER_US,
        findings=[
            finding(("pacs", "radiologist")),
            finding(("pacs", "clinic"), where="clinic"),
            finding(("pacs", "radiologist"), where="transit", percent=30),
        ],
    )
    told = compare(before, after)
    assert [(one.where, one.state, [change.dst for change in one.changes]) for one in told.causes] == [
        ("hotel", "appeared", ["radiologist"]),
        ("clinic", "stayed", []),
        ("home", "ended", ["home"]),
    ]
    assert told.others == []
    assert told.headline.endswith("1 workplace can work again; 1 cause appeared; 1 cause ended.")


def test_agents_that_came_and_went_are_named() -> None:
    told = compare(report(members=MEMBERS[:3]), report(members=MEMBERS[1:4], at_us=AFTER_US))
    assert (told.members_new, told.members_gone) == (["clinic"], ["pacs"])
    assert told.headline == "No path is worse or better."


def test_only_so_many_are_told_one_by_one() -> None:
    (row,) = report(later("pacs", "home", rtt_us=400_000), at_us=AFTER_US).paths
    many = [msgspec.structs.replace(row, src=f"a{number}") for number in range(MOST_CHANGES + 7)]
    told = compare(report(), report(at_us=AFTER_US, paths=many))
    assert (len(told.others), told.left_out, told.counts["new"]) == (MOST_CHANGES, 7, MOST_CHANGES + 7)


def test_the_same_report_twice_is_no_change() -> None:
    made = report(reading("pacs", "home"), reading("home", "pacs", rung=Rung.NONE))
    assert whats(made, made) == {}
