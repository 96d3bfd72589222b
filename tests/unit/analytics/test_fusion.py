"""Probes and sessions together: which number counts, what is said, and where nothing may be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from analytics.addresses import AddressBook, book_of
from analytics.calibrate import Calibration
from analytics.ends import held_up, times_of
from analytics.fetches import Waits, fetches_of, learnt
from analytics.fused import Origin
from analytics.fusion import NOTHING_SEEN, Passive, differs, judge, passive_of
from analytics.grade import grade
from analytics.histogram import bucket
from analytics.hysteresis import Held, Seen
from analytics.loss_change import Loss
from analytics.measurement import CapacityTrust, Direction, Flow, Hop, Letter, Reading, Rung
from analytics.mixing import as_graded
from analytics.paths import path_rows
from analytics.report import build_report
from analytics.rules.load import StudyProfile, load_rules
from analytics.sent import Sent
from analytics.shapes import Member
from analytics.tcp_rates import Sender
from analytics.usual import NOTHING_KNOWN, with_watched
from analytics.watched import Watched
from server.pages.fusion_words import fused_in_words
from tests.unit.analytics.facts import AT_US, MEMBERS, PACS, flow, reading

RULES = load_rules()
RULE = RULES.fusion
PROFILE = RULES.profile("pacs")
assert isinstance(PROFILE, StudyProfile)
STUDY = PROFILE.study
WINDOW_US = 10_000_000
RADIOLOGIST = "203.0.113.20"
S = 1_000_000


def book() -> AddressBook:
    members = [*MEMBERS]
    members[1] = msgspec.structs.replace(members[1], addresses=[RADIOLOGIST], site="hospital")
    return book_of(members, [])


def sent(number: int = 0, *, rtt_us: int = 30_000, srtt_us: int = 31_000, n: int = 2, **changes: Any) -> Flow:
    """One window of the PACS's sessions to the radiologist, with a short queue."""
    base = flow(
        "pacs",
        window_us=AT_US - (2 + number) * WINDOW_US,
        direction=Direction.IN,
        remote_address=RADIOLOGIST,
        segments_sent=1_000,
        bytes_sent=1_448_000,
        busy_us=2_000_000,
        rtt_min_us=rtt_us,
        srtt_us=srtt_us,
        srtt_histogram=(bucket(srtt_us), n),
        srtt_lasting_histogram=(bucket(srtt_us), n),
        congestion="cubic",
    )
    return msgspec.structs.replace(base, **changes)


def passive(*flows: Flow, **learnt_by: Waits) -> Passive:
    return passive_of(flows, book(), [PACS], rules=RULES, at_us=AT_US, learnt=learnt_by)


def judged(
    *flows: Flow, active: Reading | None = None, back: Reading | None = None, profile: str = "pacs"
) -> Any:
    return judge(active or reading(), back, profile, RULES, at_us=AT_US, passive=passive(*flows))


def origins(fused: Any) -> dict[str, str]:
    return {number.name: number.origin.value for number in fused.numbers}


# --- which flows ----------------------------------------------------------------------------------------


def test_without_a_session_it_is_the_grade_of_the_probes() -> None:
    assert judge(reading(), None, "pacs", RULES, at_us=AT_US) == (
        grade(reading(), None, "pacs", RULES, AT_US),
        None,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"service_port": 443},
        {"remote_address": "192.0.2.200"},
        {"direction": Direction.UNKNOWN},
        {"direction": Direction.OUT},  # then the radiologist would be the one who serves
        {"window_us": AT_US - 400 * S},
        {"window_us": AT_US + 60 * S},
    ],
)
def test_only_recent_sessions_of_a_tagged_service_with_an_agent_count(changes: dict[str, Any]) -> None:
    assert passive(sent(**changes)).sent == {}


def test_each_end_tells_what_it_sends() -> None:
    members = [
        msgspec.structs.replace(m, site="x", addresses=[f"10.0.0.{at}"]) for at, m in enumerate(MEMBERS)
    ]
    there = sent(remote_address="10.0.0.1")
    back = sent(agent="radiologist", remote_address="10.0.0.0", direction=Direction.OUT)
    found = passive_of([there, back], book_of(members, []), [PACS], rules=RULES, at_us=AT_US).sent
    assert {pair: list(one.flows) for pair, one in found.items()} == {
        ("pacs", "radiologist"): [there],
        ("radiologist", "pacs"): [back],
    }


# --- which number ---------------------------------------------------------------------------------------


def test_sessions_that_carry_a_number_give_it() -> None:
    flows = [sent(n, srtt_us=32_000, segments_retransmitted=5, dsack_duplicates=1) for n in range(6)]
    made, fused = judged(*flows)
    assert origins(fused) == {"round trip": "passive", "loss": "passive", "capacity": "active"}
    rtt, loss, capacity = fused.numbers
    assert rtt.value == pytest.approx(32_000, rel=0.04)
    assert (rtt.n, loss.value, loss.n) == (12, 40, 6_000)
    assert capacity.value == 100_000
    assert fused.active.letter is Letter.B
    assert "24 of 6000 packets lost" in made.reason
    assert made.reason.endswith(
        "; round trip and loss by the application's own sessions, capacity by probes; sent with cubic"
    )


def test_with_too_few_samples_the_probes_number_counts() -> None:
    made, fused = judged(sent(segments_sent=299, n=9))
    assert origins(fused) == dict.fromkeys(("round trip", "loss", "capacity"), "active")
    assert made.letter is fused.active.letter
    assert "sessions" not in made.reason


def test_a_queue_of_its_own_says_the_rate_and_nothing_of_loss_and_delay() -> None:
    bulk = {"delivery_kbps": 19_300, "bytes_sent": 4_500_000, "segments_retransmitted": 100}
    pushed = [sent(n, srtt_us=90_000, n=5, **bulk) for n in range(6)]
    made, fused = judged(*pushed, active=reading(capacity_kbps=100_000))
    assert origins(fused) == {"round trip": "active", "loss": "active", "capacity": "passive"}
    assert fused.numbers[2].value == 19_300 * 1500 // 1448
    assert made.letter > fused.active.letter  # D > B: it is slower than the probes believed


def test_a_queue_of_others_is_a_round_trip_that_people_have() -> None:
    waited = [sent(n, srtt_us=90_000, n=5) for n in range(6)]  # never pushed: no rate of its own
    _, fused = judged(*waited)
    assert origins(fused)["round trip"] == "passive"
    assert origins(fused)["loss"] == "active"


@pytest.mark.parametrize(
    ("probed", "trust", "then"),
    [
        (100_000, CapacityTrust.MEASURED, (100_000, "active")),
        (100_000, CapacityTrust.AT_LEAST, (100_000, "active")),
        (10_000, CapacityTrust.MEASURED, (51_795, "passive")),
        (None, CapacityTrust.NONE, (51_795, "passive")),
    ],
)
def test_a_rate_without_a_queue_is_a_lower_bound(
    probed: int | None, trust: CapacityTrust, then: tuple[int, str]
) -> None:
    _, fused = judged(sent(delivery_kbps=50_000), active=reading(capacity_kbps=probed, capacity_trust=trust))
    assert (fused.numbers[2].value, fused.numbers[2].origin.value) == then


@pytest.mark.parametrize("changes", [{"bytes_sent": 1_400_000}, {"busy_us": 11_000_000}])
def test_a_rate_of_moments_or_of_one_session_among_several_is_a_lower_bound(changes: dict[str, Any]) -> None:
    bulk = {"srtt_us": 90_000, "delivery_kbps": 19_300, "bytes_sent": 26_000_000, "busy_us": 10_000_000}
    assert Sent((sent(**bulk),), RULE).rate[1] is CapacityTrust.MEASURED
    assert Sent((sent(**{**bulk, **changes}),), RULE).rate[1] is CapacityTrust.AT_LEAST


def test_who_waits_for_the_peers_window_does_not_tell_the_rate_of_the_path() -> None:
    held = Sent((sent(srtt_us=90_000, delivery_kbps=9_000, rwnd_limited_us=1_500_000),), RULE)
    assert held.rate == (9_000 * 1500 // 1448, CapacityTrust.AT_LEAST)


def test_a_tail_is_never_better_than_the_probes_found_it() -> None:
    active = reading("pacs", rtt_p90_us=80_000, rtt_p95_us=110_000, rtt_p99_us=120_000)
    back = msgspec.structs.replace(active, src="radiologist", dst="pacs")
    flows = [sent(n, n=30) for n in range(3)]
    rules = msgspec.structs.replace(RULES, fusion=RULE)
    services = [msgspec.structs.replace(PACS, profile="generic")]
    seen = passive_of(flows, book(), services, rules=rules, at_us=AT_US)
    made, fused = judge(active, back, "generic", rules, at_us=AT_US, passive=seen)
    assert fused is not None
    assert fused.active.letter is made.letter is Letter.C
    assert made.outcome == 110_000


def test_the_senders_congestion_control_is_the_predictions() -> None:
    lossy = [sent(n, segments_retransmitted=10, congestion="bbr") for n in range(6)]
    with_bbr, fused = judged(*lossy)
    assert fused.congestion == "bbr"
    with_cubic, _ = judged(*(msgspec.structs.replace(one, congestion="cubic") for one in lossy))
    assert with_bbr.outcome < with_cubic.outcome
    _, mixed = judged(*lossy, sent(7))
    assert mixed.congestion == ""
    assert Sent(tuple(lossy), RULE).sender is Sender.BBR


def test_flows_told_twice_or_in_another_order_change_nothing() -> None:
    flows = [sent(n, srtt_us=31_000 + 400 * n, segments_retransmitted=n) for n in range(6)]
    assert judged(*flows) == judged(*reversed(flows), *flows)


# --- one path, or two -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probed_us", "used_us", "apart"),
    [
        (30_000, 35_000, False),
        (30_000, 36_001, True),
        (30_000, 23_999, True),
        (1_000, 6_000, False),
        (1_000, 6_001, True),
        (200_000, 239_999, False),
        (200_000, 241_000, True),
    ],
)
def test_least_round_trips_may_differ_by_5_ms_or_a_fifth(probed_us: int, used_us: int, apart: bool) -> None:
    assert differs(probed_us, used_us, RULE) is apart


def test_on_another_path_only_the_sessions_count() -> None:
    flows = [sent(n, rtt_us=120_000, srtt_us=121_000, delivery_kbps=200_000) for n in range(6)]
    made, fused = judged(*flows)
    assert fused.apart == (
        "the probe takes another path than the application: least round trip 30 ms by probes, "
        "120 ms by the application"
    )
    assert fused.apart_rule == "fusion.apart.v1"
    assert made.reason.endswith(fused.apart)
    assert {number.origin for number in fused.numbers} == {Origin.PASSIVE}
    assert fused.active.letter is Letter.B
    assert made.letter is Letter.C


def test_on_another_path_too_few_sessions_withhold_the_letter() -> None:
    made, fused = judged(sent(rtt_us=120_000, srtt_us=121_000, n=1))
    assert made.letter is Letter.UNKNOWN
    assert made.reason.startswith("only 1 round trips measured; 10 needed")
    assert fused.apart in made.reason
    assert fused.active.letter is Letter.B


def test_an_application_that_connects_is_not_unreachable() -> None:
    gone = reading(rung=Rung.NONE, rungs_failed="udp: blocked", rtt_min_us=None, rtt_p50_us=None, rtt_n=0)
    flows = [sent(n, delivery_kbps=200_000) for n in range(6)]
    made, fused = judged(*flows, active=gone)
    assert fused.active.letter is Letter.UNREACHABLE
    assert fused.apart == "probes cannot connect, the application can"
    assert made.letter is Letter.B


def test_fresh_sessions_speak_where_the_test_is_old() -> None:
    old = reading(ended_us=AT_US - 3600 * S, started_us=AT_US - 3700 * S, cycle=AT_US // S - 3700)
    made, fused = judged(*[sent(n, delivery_kbps=200_000) for n in range(6)], active=old)
    assert fused.active.letter is Letter.UNKNOWN
    assert (made.letter, fused.apart) == (Letter.B, "")


def test_a_few_segments_do_not_say_that_the_path_is_another() -> None:
    made, fused = judged(sent(rtt_us=120_000, srtt_us=121_000, segments_sent=9))
    assert fused.apart == ""
    assert made.letter is fused.active.letter


# --- not the network ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule", "whose", "percent"),
    [
        ({"rwnd_limited_us": 1_400_000}, "path.peer-window.v1", "radiologist", 70),
        ({"sndbuf_limited_us": 1_000_000}, "path.send-buffer.v1", "pacs", 50),
        ({"opened": 1, "closed": 1, "duration_us": 8_000_000}, "path.application.v1", "pacs", 75),
    ],
)
def test_the_end_that_held_the_sessions_up_is_named(
    changes: dict[str, Any], rule: str, whose: str, percent: int
) -> None:
    found = held_up([sent(**changes)], "pacs", "radiologist", RULE)
    assert found is not None
    assert (found.rule, found.whose, found.percent) == (rule, whose, percent)
    is_network = rule == "path.application.v1"  # in part: round trips that a program waits for
    assert found.sentence.startswith("The wait is not the network's: ") is not is_network
    assert judged(sent(**changes))[1].held_up == found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rwnd_limited_us": 900_000},  # less than half
        {"busy_us": 900_000, "rwnd_limited_us": 900_000},  # too short to tell
        {"opened": 1, "closed": 0, "duration_us": 8_000_000},  # one is open
        {"opened": 1, "closed": 1, "duration_us": 60_000_000},  # older than what was seen
        {"opened": 1, "closed": 1, "duration_us": 8_000_000, "bytes_sent": 90_000},  # messages
    ],
)
def test_otherwise_no_end_is_blamed(changes: dict[str, Any]) -> None:
    assert held_up([sent(**changes)], "pacs", "radiologist", RULE) is None


def test_time_that_was_not_seen_is_not_idle() -> None:
    assert times_of([]).idle_us == 0
    assert times_of([sent(opened=1, closed=1, duration_us=1_000)]).idle_us == 0  # rounding of the kernel's


def test_the_verdict_of_a_bad_path_names_the_end_that_was_waited_for() -> None:
    slow = [reading(a.name, b.name, capacity_kbps=5_000) for a in MEMBERS for b in MEMBERS if a is not b]
    parts = {"readings": slow, "hops": [], "members": MEMBERS, "at_us": AT_US, "rules": RULES}

    def details(seen: Passive) -> list[str]:
        made = build_report(tenant="default", profile="pacs", **parts, passive=seen)  # type: ignore[arg-type]
        return made.verdict.details

    held = sent(rwnd_limited_us=1_400_000)
    before, after = details(NOTHING_SEEN), details(passive(held))
    assert after[:-1] == before
    assert after[-1] == (
        "The wait is not the network's: for 70 % of the time that pacs had something to send, the receive "
        "window of radiologist was full. The program there reads too slowly, or its receive buffer is too "
        "small for the path."
    )


def test_what_is_to_blame_is_told_by_the_numbers_that_the_letter_rests_on() -> None:
    """The probes lost nothing; the sessions lost one segment in twenty."""
    clean = [reading(a.name, b.name, rtt_us=60_000) for a in MEMBERS for b in MEMBERS if a is not b]
    lost = [sent(n, rtt_us=60_000, srtt_us=61_000, segments_retransmitted=50) for n in range(6)]
    made = build_report(
        tenant="default",
        profile="pacs",
        readings=clean,
        hops=[],
        members=MEMBERS,
        at_us=AT_US,
        rules=RULES,
        passive=passive(*lost),
    )
    row = next(row for row in made.paths if (row.src, row.dst) == ("pacs", "radiologist"))
    assert (row.grade.letter, row.loss_bp) == ("F", 0)
    assert any("5.0 % of the packets to the radiologist are lost" in said for said in made.verdict.details)
    assert not any("0.00 %" in said for said in made.verdict.details)


def test_a_lower_bound_is_told_as_one() -> None:
    rate = {"srtt_us": 31_000, "delivery_kbps": 200_000}
    fused = judged(*[sent(n, **rate) for n in range(6)])[1]
    assert fused.capacity_trust is CapacityTrust.AT_LEAST
    assert "capacity at least 207 Mbit/s (by sessions)" in fused_in_words(fused)[0]


def test_legs_of_the_probes_path_explain_nothing_of_another() -> None:
    other = sent(rtt_us=90_000, srtt_us=92_000, n=12)
    ends = [reading(), reading("radiologist", "pacs")]
    rows = path_rows("pacs", ends, [], MEMBERS, at_us=AT_US, rules=RULES, passive=passive(other))
    row = next(row for row in rows if row.src == "pacs")
    assert row.fused is not None
    assert row.fused.apart
    shown = as_graded(row)
    assert (shown.rtt_min_us, shown.legs) == (None, [])
    assert shown.rtt_p50_us == pytest.approx(92_000, rel=0.04)


# --- what a PACS takes for an image ---------------------------------------------------------------------


def fetched(number: int, *, images: int = 20, server_us: int = 12_000, **changes: Any) -> Flow:
    """A fetch that began and ended in one window."""
    busy_us = images * 70_000
    whole = {"opened": 1, "closed": 1, "bytes_sent": images * STUDY.image_bytes, "busy_us": busy_us}
    life_us = busy_us + images * server_us + 30_000
    return sent(number * 3, duration_us=life_us, **{**whole, **changes})


def test_a_pacs_is_learnt_from_what_its_fetches_took_beside_sending() -> None:
    found = learnt(fetches_of([fetched(n) for n in range(37)], port=4242), STUDY, RULE)
    own = Calibration(server_us_per_image=12_000, n=37, low=12_000, high=12_000)
    assert found == Waits(own, 0, 30_000, 30_000)
    made, fused = judge(reading(), None, "pacs", RULES, at_us=AT_US, passive=passive(pacs=found))
    assert fused is not None
    assert made.outcome == fused.active.outcome + 1_100  # 100 images, 11 ms more each
    assert "12 ms an image at the server, learnt from 37 fetches" in made.reason
    assert fused.rule == "fusion.learnt.v1"


def test_a_round_trip_that_is_waited_for_between_images_is_not_the_servers_time() -> None:
    """As measured with Orthanc and getscu; and over a path unlike any of theirs nothing is said."""
    seen = ((38_000, 92_000), (39_000, 94_000), (120_000, 178_000), (261_000, 337_000), (261_000, 330_000))
    flows = [fetched(n, rtt_us=rtt_us, server_us=idle_us) for n, (rtt_us, idle_us) in enumerate(seen)]
    waits = learnt(fetches_of(flows, port=4242), STUDY, RULE)
    assert waits is not None
    assert waits.round_trips == 1
    for rtt_us, idle_us in seen:
        told = waits.at(rtt_us)
        assert told is not None
        assert told.server_us_per_image == pytest.approx(idle_us, rel=0.1)
        assert told.low <= told.server_us_per_image <= told.high
    held_back = waits.at(261_000, nagle=True)
    assert held_back is not None
    assert held_back.server_us_per_image == waits.own.server_us_per_image
    assert waits.at(500) is waits.at(800_000) is waits.at(None) is None


def test_a_fetch_over_several_windows_is_one() -> None:
    parts = [
        sent(4, opened=1, bytes_sent=6 * STUDY.image_bytes, busy_us=3_000_000),
        sent(3, bytes_sent=6 * STUDY.image_bytes, busy_us=3_000_000),
        sent(2, closed=1, bytes_sent=8 * STUDY.image_bytes, busy_us=4_000_000, duration_us=10_430_000),
    ]
    (one,) = fetches_of([*reversed(parts), *parts], port=4242)
    assert (one.images(STUDY.image_bytes), one.busy_us, one.duration_us) == (20, 10_000_000, 10_430_000)


@pytest.mark.parametrize(
    "flows",
    [
        [sent(1, closed=1, duration_us=5_000_000)],  # its beginning was not seen
        [sent(1, opened=1)],  # it is open
        [fetched(1, direction=Direction.OUT)],
        [fetched(1, service_port=8042)],
        [fetched(1, source="inet_diag")],  # whose times are polled
    ],
)
def test_what_is_no_whole_fetch_from_the_service_teaches_nothing(flows: list[Flow]) -> None:
    assert fetches_of(flows, port=4242) == []


@pytest.mark.parametrize(
    "flows",
    [
        [fetched(n) for n in range(4)],
        [fetched(n, images=9) for n in range(20)],  # too few for a mean
        [fetched(n, server_us=3_000_000) for n in range(20)],  # a person pages through it
        [fetched(n, bytes_sent=0) for n in range(20)],
    ],
)
def test_what_does_not_tell_is_not_learnt_from(flows: list[Flow]) -> None:
    assert learnt(fetches_of(flows, port=4242), STUDY, RULE) is None


# --- in the report --------------------------------------------------------------------------------------


def test_a_report_grades_by_both_and_keeps_what_the_probes_measured() -> None:
    readings = [reading(a.name, b.name) for a in MEMBERS for b in MEMBERS if a is not b]
    flows = [sent(n, segments_retransmitted=40) for n in range(6)]

    def report(seen: Passive) -> Any:
        made = build_report(
            tenant="default",
            profile="pacs",
            readings=readings,
            hops=[],
            members=MEMBERS,
            at_us=AT_US,
            rules=RULES,
            passive=seen,
        )
        return {(row.src, row.dst): row for row in made.paths}

    alone, both = report(NOTHING_SEEN), report(passive(*flows))
    row = both.pop(("pacs", "radiologist"))
    before = alone.pop(("pacs", "radiologist"))
    assert row.fused.active == before.grade
    assert row.grade != before.grade
    assert (row.loss_bp, row.rtt_p50_us) == (before.loss_bp, before.rtt_p50_us)
    assert row.grade.rules_version == RULES.version
    back = both.pop(("radiologist", "pacs"))
    assert back.fused is not None  # its round trips are the same
    alone.pop(("radiologist", "pacs"))
    assert alone == both


def test_a_letter_that_holds_for_probes_does_not_hold_sessions_back() -> None:
    held = Held(letter=Letter.A, since_us=AT_US - 9 * S, began_us=0, seen=(Seen(AT_US, Letter.A, Letter.A),))
    known = Watched(reading("pacs", "radiologist"), {"pacs": held}, {}, Loss(), ())
    usual = with_watched(NOTHING_KNOWN, {("pacs", "radiologist"): known})

    def row(seen: Passive) -> Any:
        readings, hops = [reading("pacs", "radiologist")], list[Hop]()
        rows = path_rows("pacs", readings, hops, MEMBERS, at_us=AT_US, rules=RULES, usual=usual, passive=seen)
        return rows[0]

    alone, both = row(NOTHING_SEEN), row(passive(*(sent(n) for n in range(6))))
    assert (alone.grade.letter, alone.letter_since_us) == (Letter.A, AT_US - 9 * S)
    assert both.fused.passive == ["round trip", "loss"]
    assert both.grade.letter is both.fused.active.letter is Letter.B
    assert both.grade.reason.startswith("a 50 MB CT")
    assert (both.letter_since_us, both.watched) == (None, True)


def test_members_need_no_addresses() -> None:
    assert Member(name="a", site="b").addresses == []
