"""Whole sentences of every profile, and of the awkward cases, verbatim."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from analytics.clauses import CANNOT, Told, causes
from analytics.findings import findings
from analytics.grammar import Clause, names, sentence, spoken
from analytics.measurement import CapacityTrust, Leg, LegKind, Reading, Rung
from analytics.paths import path_rows
from analytics.report import Member, PathRow, Service, Verdict
from analytics.rules.load import load_rules
from analytics.shapes import AddedLeg
from analytics.verdict import verdict
from tests.unit.analytics.facts import AT_US, MEMBERS, reading

RULES = load_rules()
SINCE_US = AT_US - 900_000_000  # 19:45 UTC
GONE = {"rung": Rung.NONE, "rungs_failed": "srflx: no answer", "rtt_n": 0}


def served(profile: str, name: str, members: list[Member] = MEMBERS) -> list[Member]:
    """The fleet with one service of the profile, on the first agent."""
    service = Service(name=name, profile=profile, agent="pacs", port=443)
    return [msgspec.structs.replace(members[0], services=[service]), *members[1:]]


def both(dst: str, **changes: Any) -> list[Reading]:
    there = reading("pacs", dst, **changes)
    return [there, msgspec.structs.replace(there, src=there.dst, dst=there.src)]


def judged(
    profile: str, members: list[Member], *tests: list[Reading], shared: bool = False, **row: Any
) -> Verdict:
    """The verdict of those tests; further keywords change the row of pacs -> radiologist."""
    readings = [one for test in tests for one in test]
    rows = path_rows(profile, readings, [], members, at_us=AT_US, rules=RULES)
    rows = [
        msgspec.structs.replace(one, **row) if (one.src, one.dst) == ("pacs", "radiologist") else one
        for one in rows
    ]
    return verdict(profile, members, rows, RULES, findings(rows, members) if shared else ())


def fleet(**radiologist: Any) -> list[list[Reading]]:
    return [both("radiologist", **radiologist), *(both(member.name) for member in MEMBERS[2:])]


ADDED = AddedLeg(kind=LegKind.DESTINATION_ACCESS, site="hotel", added_us=349_000, of_us=351_000)
SLOWER = {"usual_rtt_us": 49_000, "slower_since_us": SINCE_US, "added": ADDED}
WHERE = (
    "349 of 351 ms more than usual (49 ms) are added between the hotel's gateway and its provider, "
    "since 19:45 UTC."
)
USUAL = {"pacs": 6_000, "ehr": 52_000, "video": 88, "vdi": 52_000, "trading": 70, "generic": 52_000}


@pytest.mark.parametrize(
    ("profile", "service", "headline", "detail"),
    [
        (
            "pacs",
            "PACS",
            "4 of 5 workplaces can open a CT from the PACS right now.",
            "The radiologist (hotel) cannot read comfortably (D): "
            "a 50 MB CT takes about 44 s, usually 6.0 s. ",
        ),
        (
            "ehr",
            "health record",
            "4 of 5 workplaces can work in the health record right now.",
            "The radiologist (hotel) cannot work (F): "
            "one answer in twenty takes over 400 ms, usually 52 ms. ",
        ),
        (
            "video",
            "ward",
            "All 5 workplaces can hold a video visit with the ward right now.",
            "",
        ),
        (
            "vdi",
            "CAD pool",
            "4 of 5 workplaces can use a desktop of the CAD pool right now.",
            "The radiologist (hotel) cannot work (F): "
            "one in twenty round trips takes over 400 ms, usually 52 ms. ",
        ),
        (
            "trading",
            "exchange",
            "4 of 5 workplaces can trade over the exchange right now.",
            "The radiologist (hotel) cannot trade (F): the outcome is 0 of 100, usually 70 of 100. ",
        ),
        (
            "generic",
            "terminal",
            "4 of 5 workplaces can use the terminal right now.",
            "The radiologist (hotel) cannot work (F): "
            "one in twenty round trips takes over 400 ms, usually 52 ms. ",
        ),
    ],
)
def test_every_profile_says_what_it_means_for_the_work(
    profile: str, service: str, headline: str, detail: str
) -> None:
    members = served(profile, service)
    slow = {"rtt_us": 400_000, "capacity_kbps": 500_000}
    told = judged(profile, members, *fleet(**slow), usual_outcome=USUAL[profile], **SLOWER)
    assert told.headline == headline
    assert told.details == ([detail + WHERE] if detail else [])


def test_a_call_that_is_not_understood() -> None:
    told = judged(
        "video", served("video", "ward"), *fleet(rtt_us=700_000, received=270), usual_outcome=88, **SLOWER
    )
    assert told.details == [
        "The radiologist (hotel) cannot talk (F): a call rates 1.8 of 4.5, usually 4.3 of 4.5. "
        + WHERE
        + " 10 % of the packets to the radiologist are lost."
    ]


def test_what_is_usual_is_left_out_where_it_is_not_known_or_no_better() -> None:
    slow = fleet(rtt_us=400_000, capacity_kbps=500_000)
    for usual in (None, 44_400, 90_000):
        (told,) = judged("pacs", served("pacs", "PACS"), *slow, usual_outcome=usual).details
        assert "usually" not in told


def test_loss_is_said_since_when() -> None:
    slow = fleet(rtt_us=200_000, received=285, capacity_kbps=500_000)
    (told,) = judged("pacs", MEMBERS, *slow, lossy_since_us=SINCE_US).details
    assert told.endswith("5.0 % of the packets to the radiologist are lost, since 19:45 UTC.")


def test_a_change_of_an_earlier_day_says_the_day() -> None:
    old = {**SLOWER, "slower_since_us": AT_US - 86_400_000_000}
    (told,) = judged("pacs", MEMBERS, *fleet(rtt_us=400_000, capacity_kbps=500_000), **old).details
    assert told.endswith(", since 22 Nov 20:00 UTC.")


def test_where_the_samples_allow_a_c_that_is_said() -> None:
    (told,) = judged("pacs", MEMBERS, *fleet(rtt_us=170_000, capacity_kbps=28_000)).details
    assert told.startswith(
        "The radiologist (hotel) cannot read comfortably (D): a 50 MB CT takes about 34 s; "
        "the samples allow 30 s, which would do. "
    )


# --- several at once ----------------------------------------------------------------------------------------

ACCESS = [
    Leg(kind=LegKind.TRANSIT, site="", rtt_us=10_000),
    Leg(kind=LegKind.DESTINATION_ACCESS, site="office", rtt_us=250_000),
]


def test_a_cause_that_several_share_is_one_sentence() -> None:
    members = served("pacs", "PACS", [*MEMBERS, Member(name="office-3", site="office", label="the lab")])
    slow = {"rtt_us": 260_000, "capacity_kbps": 28_000}
    told = judged(
        "pacs",
        members,
        *(both(member.name, **(slow if member.site == "office" else {})) for member in members[1:]),
        shared=True,
    )
    assert told.headline == "3 of 6 workplaces can open a CT from the PACS right now."
    assert told.details == [
        "office-1 (office), office-2 (office) and the lab (office) cannot read comfortably (D): "
        "a 50 MB CT takes about 44 s at worst; "
        "the likeliest cause they share is the office's uplink (confidence 50 %)."
    ]


def test_a_site_that_is_cut_off_is_one_sentence() -> None:
    told = judged(
        "pacs", MEMBERS, *(both(m.name, **(GONE if m.site == "office" else {})) for m in MEMBERS[1:])
    )
    assert told.headline == "3 of 5 workplaces can open a CT from the PACS right now."
    assert told.details == ["Nobody at the office (2 workplaces) can connect to the PACS: srflx: no answer."]


def test_a_service_that_nobody_reaches_is_one_sentence() -> None:
    why = [{**GONE, "rungs_failed": f"srflx: {said}"} for said in ("refused", *["no answer"] * 4)]
    told = judged("pacs", MEMBERS, *(both(m.name, **of) for m, of in zip(MEMBERS[1:], why, strict=True)))
    assert told.headline == "None of the 5 workplaces can open a CT from the PACS right now."
    assert told.details == [
        "None of the 5 workplaces can connect to the PACS: srflx: no answer, and other reasons."
    ]


def test_half_is_not_known() -> None:
    few = {"sent": 20, "received": 20, "rtt_n": 5}
    told = judged(
        "pacs", MEMBERS, *(both(m.name, **(few if m.site == "office" else {})) for m in MEMBERS[1:5:3])
    )
    assert told.headline == "1 of 5 workplaces can open a CT from the PACS right now; 4 are not known."
    assert told.details == [
        "Not known for office-1 (office): only 5 round trips measured; 10 needed.",
        "Not known for the clinic, the home reader and office-2 (office): not measured yet.",
    ]


def test_many_reasons_are_bounded_and_the_rest_counted() -> None:
    members = [MEMBERS[0], *(Member(name=f"desk-{n}", site="ward") for n in range(9))]
    told = judged("pacs", members, *(both(f"desk-{n}", rtt_n=n, sent=20) for n in range(9)))
    assert len(told.details) == 6
    assert told.details[-1] == "Not known for 4 more."


def test_paths_that_share_a_cause_are_one_sentence_with_the_worst() -> None:
    members = [msgspec.structs.replace(member, services=[]) for member in MEMBERS]
    pairs = [(a.name, b.name) for a in members for b in members if a.name < b.name]
    tests = [
        [there, msgspec.structs.replace(there, src=b, dst=a)]
        for a, b in pairs
        for there in [reading(a, b, rtt_us=260_000 if "pacs" in (a, b) else 20_000)]
    ]
    told = judged("generic", members, *tests, shared=True)
    assert told.headline == "20 of 30 paths are good right now."
    assert told.details == [
        "10 paths share the hospital's uplink (confidence 50 %); the worst: "
        "clinic -> pacs (D): one in twenty round trips takes over 260 ms."
    ]


def test_the_two_directions_of_one_pair_share_no_cause() -> None:
    members = [msgspec.structs.replace(member, services=[]) for member in MEMBERS[:2]]
    told = judged("generic", members, both("radiologist", received=240), shared=True)
    assert told.headline == "None of the 2 paths are good right now."
    assert told.details[0] == (
        "pacs -> radiologist (F): one in twenty round trips takes over 30 ms. "
        "20 % of the packets to radiologist are lost."
    )


def test_one_path_is_said_in_the_singular() -> None:
    members = [msgspec.structs.replace(member, services=[]) for member in MEMBERS[:2]]
    one = [reading(rtt_us=900_000)]
    assert judged("pacs", members, one).headline == "The one path is not fast enough to open a CT right now."
    assert judged("pacs", members, [reading()]).headline == (
        "The one path is fast enough to open a CT right now."
    )
    assert judged("generic", members, [reading()]).headline == (
        "Whether the one path is good is not known right now."
    )


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("Dr. {service} O'Neil %s <b>", "Dr. {service} O'Neil %s <b> (hotel)"),
        ("the  night\n\treader.", "The night reader (hotel)"),
        ("\x1b[31mred\u202e", "[31mred (hotel)"),
        ("\u0000", "radiologist (hotel)"),
        ("the hotel", "The hotel"),
        ("R" * 300, "R" * 59 + "… (hotel)"),
    ],
)
def test_labels_are_made_fit_for_a_sentence(label: str, said: str) -> None:
    members = [MEMBERS[0], msgspec.structs.replace(MEMBERS[1], label=label), *MEMBERS[2:]]
    (told,) = judged("pacs", members, *fleet(**GONE)).details
    assert told == f"{said} cannot connect to the PACS: srflx: no answer."


def test_a_service_is_named_by_its_agent_where_its_name_says_nothing() -> None:
    told = judged("pacs", served("pacs", " {x} "), *fleet())
    assert told.headline == "All 5 workplaces can open a CT from the {x} right now."
    assert judged("pacs", served("pacs", "\n"), *fleet()).headline.startswith(
        "All 5 workplaces can open a CT from the pacs right"
    )


# --- clauses one by one -------------------------------------------------------------------------------------


def row(**changes: Any) -> PathRow:
    (there,) = path_rows("pacs", [reading(rtt_us=260_000)], [], MEMBERS, at_us=AT_US, rules=RULES)
    return msgspec.structs.replace(there, **changes)


def test_a_clause_that_knows_nothing_takes_its_joint_with_it() -> None:
    grammar = [Clause(lambda told: told["a"], ", "), Clause(lambda told: told["b"], "; ", " !")]
    assert sentence(grammar, {"a": "x", "b": "y"}) == "x; y !."
    assert sentence(grammar, {"a": "", "b": "y"}) == "y !."
    assert sentence(grammar, {"a": "", "b": ""}) == ""


def test_names_are_bounded() -> None:
    assert [names(list("abcde")[:n]) for n in (1, 2, 3, 5)] == [
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 2 more",
    ]


def test_text_of_others_is_one_line_without_a_stop() -> None:
    assert spoken(" a\nb . ", most=10) == "a b"
    assert spoken("abcdef", most=4) == "abc…"


def test_without_a_capacity_none_is_blamed() -> None:
    told = Told(row(capacity_kbps=None, capacity_trust=CapacityTrust.MEASURED.value), RULES.profile("pacs"))
    assert all("None" not in said for said in [sentence(CANNOT, told), *causes(told)])
