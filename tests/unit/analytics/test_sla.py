"""The SLA report's pieces: months, who uses a service, moments to look at, causes and owners."""

from __future__ import annotations

import msgspec
import pytest

from analytics.clock import DAY_US
from analytics.errors import RulesError
from analytics.measurement import LegKind, Letter
from analytics.paths import path_rows
from analytics.report import Finding, Report, Verdict
from analytics.rules.load import load_rules
from analytics.rules.sla import CauseKind, Owner, Side, load_sla_rules
from analytics.shapes import AddedLeg
from analytics.sla import NOT_KNOWN, month_at, month_of, users_of
from analytics.sla_causes import causes_of, moments
from analytics.stretches import Stretch
from tests.unit.analytics.facts import AT_US, MEMBERS, PACS, reading

RULES, SLA = load_rules(), load_sla_rules()


@pytest.mark.parametrize(
    ("text", "days"),
    [("2026-11", 30), ("2026-12", 31), ("2024-02", 29), ("2026-02", 28), ("1970-01", 31)],
)
def test_a_month_is_that_of_the_calendar(text: str, days: int) -> None:
    month = month_of(text)
    assert month is not None
    assert month.until_us - month.since_us == days * DAY_US
    assert (month_at(month.since_us), month_at(month.until_us - 1)) == (text, text)


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-00", "2026-13", "2026-1", "26-11", "20\N{FULLWIDTH DIGIT TWO}6-11"],
)
def test_what_is_no_month_is_none(text: str) -> None:
    assert month_of(text) is None


def test_who_offers_the_service_is_no_workplace_of_it() -> None:
    assert [member.name for member in users_of(PACS, MEMBERS, RULES)] == [
        *("radiologist", "home", "clinic", "office-1", "office-2"),
    ]
    with pytest.raises(RulesError):
        users_of(msgspec.structs.replace(PACS, profile="none"), MEMBERS, RULES)


def test_a_profile_of_some_sites_is_for_those_with_an_end_there() -> None:
    only = msgspec.structs.replace(RULES.profile("pacs"), sites=["home"])
    rules = msgspec.structs.replace(RULES, profiles={**RULES.profiles, "pacs": only})
    assert [member.name for member in users_of(PACS, MEMBERS, rules)] == ["home"]


def part(since: int, until: int) -> Stretch:
    return Stretch(since, until, Letter.F)


def test_few_moments_show_many_incidents() -> None:
    down = [("a", part(0, 100)), ("b", part(50, 90)), ("c", part(89, 200)), ("a", part(300, 310))]
    assert moments(down, 9) == [
        (89, [("b", part(50, 90)), ("a", part(0, 100)), ("c", part(89, 200))]),
        (309, [("a", part(300, 310))]),
    ]
    assert [at_us for at_us, _ in moments(down, 1)] == [89]
    assert moments([], 3) == []


def report(*findings: Finding, added: AddedLeg | None = None) -> Report:
    rows = path_rows("pacs", [reading("pacs", "home", rtt_us=900_000)], [], MEMBERS, at_us=AT_US, rules=RULES)
    return Report(
        tenant="default",
        profile="pacs",
        at_us=AT_US,
        rules_version="r1",
        verdict=Verdict(headline="", details=[], can=[], cannot=[], unknown=[]),
        findings=list(findings),
        paths=[msgspec.structs.replace(row, added=added) for row in rows],
        members=MEMBERS,
        missing=[],
    )


def finding(kind: str, where: str, percent: int = 90) -> Finding:
    return Finding(
        kind=kind,
        where=where,
        explains=[("home", "pacs")],
        bad=2,
        through=4,
        confidence_percent=percent,
        since_us=None,
        sentence=f"It is the {kind}.",
    )


@pytest.mark.parametrize(
    ("kind", "where", "side", "owner"),
    [
        ("host", "pacs", Side.SERVICE, Owner.OURS),
        ("host", "home", Side.WORKPLACE, Owner.CUSTOMER),
        ("uplink", "hospital", Side.SERVICE, Owner.OURS),
        ("uplink", "home", Side.WORKPLACE, Owner.CUSTOMER),
        ("transit", "home and hospital", Side.BETWEEN, Owner.PROVIDER),
        ("region", "north", Side.BETWEEN, Owner.PROVIDER),
        ("relay", "", Side.BETWEEN, Owner.OURS),
    ],
)
def test_a_finding_says_where_and_so_whose_it_is(kind: str, where: str, side: Side, owner: Owner) -> None:
    told = causes_of(report(finding(kind, where)), "pacs", ["home"])["home"]
    assert (told.side, told.sentence, told.confidence_percent) == (side, f"It is the {kind}.", 90)
    assert SLA.owner(told.kind, told.side) is owner


def test_without_a_likely_finding_the_paths_own_leg_tells() -> None:
    leg = AddedLeg(kind=LegKind.DESTINATION_ACCESS, site="home", added_us=212_000, of_us=260_000)
    told = causes_of(report(finding("relay", "", 20), added=leg), "pacs", ["home"])["home"]
    assert (told.kind, told.side, told.where) == (CauseKind.ACCESS, Side.WORKPLACE, "home")
    assert told.sentence == "The access of the workplace's site added 212 of 260 ms."


def test_where_nothing_tells_the_owner_is_not_known() -> None:
    told = causes_of(report(), "pacs", ["home", "clinic"])
    assert told["clinic"] == NOT_KNOWN
    assert told["home"].sentence == "Its hops do not tell where."
    assert SLA.owner(told["home"].kind, told["home"].side) is Owner.UNKNOWN


def test_every_cause_that_is_known_has_an_owner() -> None:
    ends = {CauseKind.HOST: (Side.SERVICE, Side.WORKPLACE), CauseKind.ACCESS: (Side.SERVICE, Side.WORKPLACE)}
    for kind in CauseKind:
        for side in ends.get(kind, (Side.BETWEEN,)):
            assert (SLA.owner(kind, side) is Owner.UNKNOWN) == (kind is CauseKind.UNKNOWN)
