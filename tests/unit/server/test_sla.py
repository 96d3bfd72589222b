"""The SLA report through a store: counted once, filed, right after the readings are gone; and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from analytics.clock import DAY_US, HOUR_US
from analytics.grade import ended_us, grade
from analytics.graded import Way, graded
from analytics.measurement import Letter, Reading, Rung
from analytics.report import Member
from analytics.rules.load import load_rules
from analytics.rules.sla import CauseKind, Owner, Side
from analytics.sla import NOT_KNOWN, Cause, SlaReport, month_of
from analytics.store.store import Store
from server.blame import Blame
from server.pages.sla import sla_view
from server.sla import SlaBook, due_days, runs
from server.usual import UsualCache
from tests.unit.analytics.facts import MEMBERS, PACS, body, put, reading, trace
from tests.unit.analytics.many_readings import many
from tests.unit.analytics.signed import signed
from tests.unit.analytics.test_rollup import Clock

RULES = load_rules()
MONTH = month_of("2026-11")
assert MONTH is not None
STEP_US = 300_000_000
SINCE = MONTH.since_us + 2 * DAY_US + 10 * HOUR_US
USERS = [member for member in MEMBERS if member.name in ("home", "clinic")]
WAY = Way("default", "pacs", "pacs")
BROKEN = Cause(
    kind=CauseKind.ACCESS,
    side=Side.WORKPLACE,
    where="home",
    sentence="The home's uplink explains it.",
    at_us=SINCE,
)


def ended(at_us: int, src: str, dst: str, rtt_us: int = 30_000) -> Reading:
    return reading(
        src,
        dst,
        rtt_us=rtt_us,
        cycle=at_us // 1_000_000 - 60,
        test=f"{at_us}",
        started_us=at_us - 30_000_000,
        ended_us=at_us,
    )


def two_hours(name: str, slow: range) -> list[Reading]:
    """Both directions, every five minutes for two hours; the numbers in ``slow`` are slow."""
    return [
        ended(SINCE + n * STEP_US, *ends, rtt_us=900_000 if n in slow else 30_000)
        for n in range(24)
        for ends in (("pacs", name), (name, "pacs"))
    ]


class Asked:
    """Answers why, and counts how often it was asked."""

    def __init__(self) -> None:
        self.moments: list[int] = []

    def __call__(self, way: Way, at_us: int, workplaces: Sequence[str]) -> Mapping[str, Cause]:
        self.moments.append(at_us)
        return dict.fromkeys(workplaces, BROKEN)


class Setting:
    """A store with two hours of two workplaces, and a book over it."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.asked = Clock(), Asked()
        self.clock.now_us = SINCE + 3 * HOUR_US
        self.store = Store.open(folder, clock_us=self.clock)
        rows = [*two_hours("home", range(6, 12)), *two_hours("clinic", range(0))]
        for number, src in enumerate(("pacs", "home", "clinic")):
            put(self.store, body(src, number, readings=[one for one in rows if one.src == src]))
        self.folder = folder
        self.book = self.opened()

    def opened(self) -> SlaBook:
        return SlaBook(
            self.folder, "default", store=self.store, rules=RULES, causes=self.asked, clock=self.clock
        )

    def month(self) -> SlaReport:
        assert MONTH is not None
        return self.book.month(PACS, MONTH, USERS)

    def lose_readings(self) -> None:
        self.store.seal()
        self.store._shelf.swap(self.store.held("readings", "default").files)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    with closing(made.store):
        yield made


def us(report: SlaReport, name: str) -> dict[str, int]:
    (place,) = (one for one in report.workplaces if one.name == name)
    return {share.letter.value: share.us for share in place.shares if share.us}


def test_time_is_counted_by_letter_and_what_is_not_known_is_not_good(setting: Setting) -> None:
    told = setting.month()
    length_us = 2 * DAY_US + 13 * HOUR_US
    assert (told.since_us, told.until_us, told.complete) == (MONTH.since_us, SINCE + 3 * HOUR_US, False)  # type: ignore[union-attr]  # a month
    counted_us = 23 * STEP_US + 15 * 60_000_000
    assert us(told, "clinic") == {"B": counted_us, "?": length_us - counted_us}
    assert us(told, "home") == {
        "B": counted_us - 6 * STEP_US,
        "F": 6 * STEP_US,
        "?": length_us - counted_us,
    }
    (incident,) = told.incidents
    assert (incident.workplace, incident.since_us, incident.until_us) == (
        "home",
        SINCE + 6 * STEP_US,
        SINCE + 12 * STEP_US,
    )
    assert (incident.cause, incident.owner, incident.ongoing) == (BROKEN, Owner.CUSTOMER, False)
    assert setting.asked.moments == [incident.until_us - 1]


def test_a_day_is_filed_once_it_is_over_and_stays_when_its_readings_are_gone(setting: Setting) -> None:
    setting.clock.now_us += DAY_US
    before = setting.month()
    setting.lose_readings()
    setting.clock.now_us += 9 * DAY_US
    setting.book = setting.opened()
    after = setting.month()
    assert us(after, "home")["F"] == us(before, "home")["F"] == 6 * STEP_US
    assert [one.cause for one in after.incidents] == [BROKEN]
    assert len(setting.asked.moments) == 1
    assert after.made_us >= before.made_us


def test_readings_that_both_ends_signed_are_counted_and_filed(setting: Setting) -> None:
    before = setting.month()
    assert (before.readings, before.readings_signed, sla_view(before, 0).signed) == (48, 0, "")
    rows = [one for one in two_hours("home", range(6, 12)) if one.src == "pacs"]
    made = [signed(one, both=n % 3 != 0) for n, one in enumerate(rows)]
    put(setting.store, body("pacs", 9, receipts=made[:20]), body("pacs", 10, receipts=made[:2]))
    setting.clock.now_us += DAY_US
    told = setting.month()
    assert (told.readings, told.readings_signed) == (48, 13)
    assert sla_view(told, 0).signed.startswith("13 of 48 readings from pacs to workplaces are signed")
    setting.lose_readings()
    setting.clock.now_us += 9 * DAY_US
    setting.book = setting.opened()
    assert (setting.month().readings, setting.month().readings_signed) == (48, 13)


def test_a_complete_month_is_the_same_document_every_time(setting: Setting) -> None:
    assert MONTH is not None
    setting.clock.now_us = MONTH.until_us + 20 * DAY_US
    first = setting.month()
    assert first.complete
    setting.clock.now_us += DAY_US
    again = setting.month()
    assert msgspec.structs.replace(again, made_us=0) == msgspec.structs.replace(first, made_us=0)


def test_what_comes_late_is_counted_the_next_time(setting: Setting) -> None:
    setting.clock.now_us += DAY_US
    assert us(setting.month(), "home")["F"] == 6 * STEP_US
    late = [ended(SINCE - STEP_US, *ends, rtt_us=900_000) for ends in (("pacs", "home"), ("home", "pacs"))]
    put(setting.store, body("pacs", 7, readings=late[:1]), body("home", 7, readings=late[1:]))
    assert us(setting.month(), "home")["F"] == 6 * STEP_US  # asked for again within the hour
    setting.clock.now_us += 2 * DAY_US
    assert us(setting.month(), "home")["F"] == 7 * STEP_US


def test_days_are_filed_with_causes_though_nobody_asks(setting: Setting) -> None:
    setting.clock.now_us += DAY_US
    setting.book.file([PACS], setting.clock.now_us)
    (file,) = setting.folder.glob("sla/tenant=default/pacs/pacs/*.json")
    filed = json.loads(file.read_bytes())
    assert file.name == "2026-11-03.json"
    assert [one["workplace"] for one in filed["causes"]] == ["home"]
    setting.lose_readings()
    assert [one.cause for one in setting.month().incidents] == [BROKEN]


def test_a_file_of_no_use_is_counted_again(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    setting.clock.now_us += DAY_US
    before = setting.month()
    (file,) = setting.folder.glob("sla/tenant=default/pacs/pacs/*.json")
    file.write_bytes(b"{torn")
    assert setting.month().shares == before.shares
    assert "counted again" in caplog.text


def test_a_workplace_that_was_never_tested_is_not_known_all_the_time(setting: Setting) -> None:
    told = setting.book.month(PACS, MONTH, [*USERS, Member(name="new", site="new")])  # type: ignore[arg-type]  # a month
    assert us(told, "new") == {"?": told.until_us - told.since_us}


def test_days_next_to_each_other_are_counted_at_once() -> None:
    assert MONTH is not None
    days = due_days(MONTH, MONTH.since_us + 3 * DAY_US + HOUR_US)
    assert [day.over for day in days] == [True, True, True, False]
    assert days[-1].until_us - days[-1].since_us == HOUR_US
    assert [len(run) for run in runs([days[0], days[1], days[3]])] == [2, 1]
    assert runs([]) == []


def test_sql_gives_the_letters_that_python_gives(tmp_path: Path) -> None:
    """Every case that a grade knows, each as a test of its own workplace."""
    clock = Clock()
    own, backs = [], []
    for n, (one, back) in enumerate(many(150, 3)):
        own.append(msgspec.structs.replace(one, src="pacs", dst=f"w{n}", test=f"t{n}"))
        if back is not None:
            told = {"src": f"w{n}", "dst": "pacs", "test": f"t{n}", "cycle": one.cycle}
            backs.append(msgspec.structs.replace(back, **told))
    of = {one.src: one for one in backs}
    with closing(Store.open(tmp_path, clock_us=clock)) as store:
        put(store, body("pacs", 1, readings=own))
        put(store, *(body(back.src, n, readings=[back]) for n, back in enumerate(backs)))
        found = graded(store, WAY, RULES, clock.now_us - 3 * DAY_US, clock.now_us + DAY_US)
    letters = {dst: [(one.at_us, one.letter) for one in tests] for dst, tests in found.items()}
    assert letters == {
        one.dst: [(ended_us(one), grade(one, of.get(one.dst), "pacs", RULES, ended_us(one)).letter)]
        for one in own
    }
    assert {letter for tests in letters.values() for _, letter in tests} > {Letter.A, Letter.UNREACHABLE}


def test_the_cause_is_that_of_the_services_own_paths(tmp_path: Path) -> None:
    """Slow because of the hop behind the hotel's gateway: the hops of both ends say so."""
    at_us = SINCE + HOUR_US
    rows = [ended(at_us - 60_000_000, *ends, rtt_us=900_000) for ends in (("pacs", "home"), ("home", "pacs"))]
    hops = [
        msgspec.structs.replace(one, cycle=rows[0].cycle, test=rows[0].test)
        for one in (
            *trace(
                ("10.20.0.1", 300), ("198.51.100.1", 4_000), ("203.0.113.1", 890_000), ("192.0.2.1", 900_000)
            ),
            *trace(
                ("192.168.7.1", 600),
                ("203.0.113.1", 880_000),
                ("198.51.100.1", 890_000),
                ("192.0.2.9", 900_000),
                src="home",
                dst="pacs",
            ),
        )
    ]
    hops = [msgspec.structs.replace(one, dst="home") if one.src == "pacs" else one for one in hops]
    clock = Clock()
    clock.now_us = at_us - 30_000_000
    with closing(Store.open(tmp_path, clock_us=clock)) as store:
        for number, src in enumerate(("pacs", "home")):
            put(
                store,
                body(
                    src,
                    number,
                    readings=[one for one in rows if one.src == src],
                    hops=[one for one in hops if one.src == src],
                ),
            )
        blame = Blame(store, UsualCache(store, period_us=STEP_US), RULES)
        told = blame.causes(WAY, at_us, ["home", "clinic"], MEMBERS)
        earlier = blame.causes(WAY, at_us - HOUR_US, ["home"], MEMBERS)
    assert told["clinic"] == NOT_KNOWN
    assert (told["home"].kind, told["home"].side) == (CauseKind.ACCESS, Side.WORKPLACE)
    assert earlier["home"] == NOT_KNOWN


def test_who_cannot_connect_is_told_why_not(tmp_path: Path) -> None:
    at_us = SINCE + HOUR_US
    row = msgspec.structs.replace(
        ended(at_us - 60_000_000, "pacs", "home"), rung=Rung.NONE, rungs_failed="srflx: no answer"
    )
    clock = Clock()
    clock.now_us = at_us - 30_000_000
    with closing(Store.open(tmp_path, clock_us=clock)) as store:
        put(store, body("pacs", 1, readings=[row]))
        blame = Blame(store, UsualCache(store, period_us=STEP_US), RULES)
        told = blame.causes(WAY, at_us, ["home"], [])
    assert (told["home"].kind, told["home"].sentence) == (
        CauseKind.UNKNOWN,
        "Cannot connect: srflx: no answer.",
    )
