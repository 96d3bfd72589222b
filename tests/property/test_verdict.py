"""The verdict over all fleets: it never raises, its sentences are whole, and its counts add up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.findings import findings
from analytics.measurement import CapacityTrust, Grade, Leg, LegKind, Letter, Rung
from analytics.paths import WORST_FIRST
from analytics.rules.load import load_rules
from analytics.shapes import AddedLeg, Member, PathRow, Service
from analytics.verdict import verdict

RULES = load_rules()
AT_US = 1_795_464_000_000_000
NAMES = [f"a{n}" for n in range(6)]
SITES = st.sampled_from(["x", "y-1", "z.z"])
PLAIN = st.sampled_from(["", "the lab", "no answer", "front desk."])
ODD = st.text(max_size=90).filter(lambda text: not re.search("none|nan|inf", text, re.IGNORECASE))
US = st.one_of(st.none(), st.integers(0, 3_600_000_000))
BP = st.one_of(st.none(), st.integers(0, 10_000))
Fleet = tuple[str, list[Member], list[PathRow]]
FEWER = settings(max_examples=60)  # a fleet takes 20 ms to draw
OUTCOMES = st.one_of(st.none(), st.integers(0, 5_000_000))


@st.composite
def legs(draw: st.DrawFn) -> list[Leg]:
    kinds = draw(st.lists(st.sampled_from(LegKind), unique=True, max_size=5))
    return [
        Leg(kind=kind, site=draw(SITES), rtt_us=draw(st.integers(0, 10**9)), measured=draw(st.booleans()))
        for kind in sorted(kinds, key=list(LegKind).index)
    ]


ADDED = st.builds(
    AddedLeg,
    kind=st.sampled_from(LegKind),
    site=SITES,
    added_us=st.integers(0, 10**9),
    of_us=st.integers(0, 10**9),
    direction=st.sampled_from(["", "forward", "back"]),
)


@st.composite
def rows(
    draw: st.DrawFn, pair: tuple[str, str], profile: str, sites: dict[str, str], texts: st.SearchStrategy[str]
) -> PathRow:
    src, dst = pair
    since_us = draw(st.one_of(st.none(), st.integers(0, AT_US)))
    grade = Grade(
        profile=profile,
        letter=draw(st.sampled_from(Letter)),
        outcome=draw(OUTCOMES),
        outcome_low=draw(OUTCOMES),
        outcome_high=draw(OUTCOMES),
        reason=draw(texts),
    )
    lost, back = draw(BP), draw(BP)
    return PathRow(
        src=src,
        dst=dst,
        src_site=sites[src],
        dst_site=sites[dst],
        grade=grade,
        at_us=AT_US,
        age_s=0,
        rung=draw(st.sampled_from(Rung)),
        rungs_failed="",
        rtt_min_us=draw(US),
        rtt_p50_us=draw(US),
        rtt_p95_us=draw(US),
        rtt_n=300,
        loss_bp=lost,
        loss_back_bp=back,
        sent=300,
        received=300,
        ipdv_us=None,
        capacity_kbps=draw(st.one_of(st.none(), st.integers(1, 10**8))),
        capacity_trust=draw(st.sampled_from(CapacityTrust)).value,
        stamps="kernel",
        connect_us=None,
        error="",
        legs=draw(legs()),
        usual_rtt_us=draw(US),
        usual_outcome=draw(OUTCOMES),
        slower_since_us=since_us,
        added=draw(st.one_of(st.none(), ADDED)) if since_us is not None else None,
    )


@st.composite
def fleets(draw: st.DrawFn, texts: st.SearchStrategy[str] = PLAIN) -> tuple[str, list[Member], list[PathRow]]:
    profile = draw(st.sampled_from(list(RULES.profiles)))
    names = NAMES[: draw(st.integers(0, len(NAMES)))]
    members = [
        Member(
            name=name,
            site=draw(SITES),
            label=draw(texts),
            online=draw(st.booleans()),
            services=draw(services(name, profile, texts)),
        )
        for name in names
    ]
    sites = {member.name: member.site for member in members}
    pairs = [(src, dst) for src in names for dst in names if src != dst]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=9)) if pairs else []
    made = [draw(rows(pair, profile, sites, texts)) for pair in chosen]
    return profile, members, sorted(made, key=lambda row: WORST_FIRST.index(row.grade.letter))


def services(agent: str, profile: str, texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[Service]]:
    one = st.builds(Service, name=texts, profile=st.just(profile), agent=st.just(agent), port=st.just(104))
    return st.one_of(st.just([]), st.just([]), st.lists(one, max_size=2, unique_by=lambda s: s.name))


def numbers(text: str) -> list[int]:
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", text)]


@given(fleets(), st.booleans())
@FEWER
def test_every_sentence_is_whole(fleet: Fleet, shared: bool) -> None:
    assert not [said for said in said_of(fleet, shared) if re.search(r"[\s(]\s|\s[,;:.)]|\(\)|: \.", said)]


@given(fleets(ODD), st.booleans())
@FEWER
def test_every_sentence_is_whole_whatever_others_call_themselves(fleet: Fleet, shared: bool) -> None:
    assert said_of(fleet, shared)


def said_of(fleet: Fleet, shared: bool) -> list[str]:
    profile, members, paths = fleet
    told = verdict(profile, members, paths, RULES, findings(paths, members) if shared else ())
    for said in (told.headline, *told.details):
        assert said.endswith(".")
        assert not said.endswith("..")
        assert "  " not in said
        assert said == said.strip()
        assert said.isprintable()
        assert not re.search(r"\b(None(?! of)|nan|inf)\b", said)
    assert len(told.details) <= 27
    return [told.headline, *told.details]


@given(fleets(), st.booleans())
@FEWER
def test_workplaces_add_up(fleet: Fleet, shared: bool) -> None:
    profile, members, paths = fleet
    told = verdict(profile, members, paths, RULES, findings(paths, members) if shared else ())
    offered = [service for member in members for service in member.services]
    if len(members) < 2 or not paths or not offered:
        return
    providers = {service.agent for service in offered}
    workplaces = sorted(member.name for member in members if member.name not in providers)
    assert sorted([*told.can, *told.cannot, *told.unknown]) == workplaces
    letters = {(row.src, row.dst): row.grade.letter for row in paths}
    for name in told.can:
        assert all(letters[service.agent, name] in "ABC" for service in offered)
    if not told.cannot:
        assert all(said.startswith("Not known for ") for said in told.details)


@given(fleets(), st.booleans())
@FEWER
def test_paths_add_up(fleet: Fleet, shared: bool) -> None:
    profile, members, paths = fleet
    members = [msgspec.structs.replace(member, services=[]) for member in members]
    told = verdict(profile, members, paths, RULES, findings(paths, members) if shared else ())
    if len(members) < 2 or not paths:
        return
    assert in_headline(told.headline, RULES.profile(profile).words.paths_able) == counted(paths)
    bad = sum(row.grade.letter in "DFX" for row in paths)
    assert sum(map(paths_of, told.details)) == bad


def counted(paths: Sequence[PathRow]) -> tuple[int, int, int]:
    """All, good, not known."""
    letters = [row.grade.letter.value for row in paths]
    return len(letters), sum(letter in "ABC" for letter in letters), letters.count("?")


def in_headline(said: str, able: str) -> tuple[int, int, int]:
    total, *_ = [1] if "one path" in said else numbers(said)[said.split()[1] == "of" and said[0].isdigit() :]
    if said.startswith("Whether"):
        return total, 0, total
    unknown = numbers(said.partition(";")[2])
    good = (
        0 if said.startswith("None") or " not good" in said or "is not" in said.partition(";")[0] else total
    )
    if " of " in said and not said.startswith("None"):
        good = numbers(said)[0]
    return total, good, unknown[0] if unknown else 0


def paths_of(said: str) -> int:
    """How many paths a sentence is for."""
    shared = re.match(r"([\d,]+) paths share |([\d,]+) more path", said)
    return numbers(shared[0])[0] if shared else 1


def test_the_tests_own_reading_of_numbers() -> None:
    told: list[Any] = [numbers("1,204 of 20"), paths_of("3 paths share x"), paths_of("a -> b (D): x")]
    assert told == [[1204, 20], 3, 1]
