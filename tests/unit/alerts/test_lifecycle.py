"""How alerts begin, last and end."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.measurement import Letter
from server.alerts import lifecycle
from server.alerts.conditions import Look
from server.alerts.lifecycle import after, telling, worst_first
from server.alerts.matching import matches, says_something, silence_of
from server.alerts.model import Alert, Condition, Event, Matcher, Phase, Severity, Silence
from server.alerts.rules import load_alert_rules
from tests.unit.alerts.looks import AT_US, HOTEL, MEMBERS, S, condition, look

RULES = load_alert_rules()
HOLD_S, QUIET_S, STEP_S = 20, 120, 10


class History:
    """Looks every ten seconds."""

    def __init__(self) -> None:
        self.at_us = AT_US
        self.alerts: list[Alert] = []
        self.closed: list[Alert] = []
        self.told: list[tuple[Event, str]] = []
        self.first = True

    def look(self, *seen: Condition, step_s: float = STEP_S, at: Look | None = None) -> "History":
        self.at_us += int(step_s * S)
        elapsed_us = 0 if self.first else int(step_s * S)
        self.first = False
        there = (at or look())._replace(at_us=self.at_us)
        made = after(self.alerts, seen, RULES, there, elapsed_us=elapsed_us)
        self.alerts = []
        for one in made.alerts:
            told = telling(one, silenced=False)
            alert = told.alert if told is not None else one
            if told is not None:
                self.told.append((told.event, alert.id))
            (self.closed if alert.phase is Phase.CLOSED else self.alerts).append(alert)
        return self

    def restart(self) -> "History":
        """What is kept is encoded; what is not is forgotten."""
        kept = msgspec.json.encode(self.alerts)
        self.alerts = msgspec.json.decode(kept, type=list[Alert])
        self.first = True
        return self


def opened() -> History:
    history = History()
    for _ in range(4):
        history.look(condition())
    assert [alert.phase for alert in history.alerts] == [Phase.OPEN]
    return history


def open_alert() -> Alert:
    return opened().alerts[0]


def test_it_opens_after_the_hold_time_and_says_so_once():
    history = History().look(condition()).look(condition())
    assert history.alerts[0].phase is Phase.PENDING
    assert history.told == []
    for _ in range(10):
        history.look(condition())
    (alert,) = history.alerts
    assert alert.opened_us == alert.first_us + HOLD_S * S
    assert history.told == [(Event.OPENED, alert.id)]


def test_one_blip_opens_nothing_and_leaves_nothing():
    history = History().look().look(condition()).look().look()
    assert (history.alerts, history.told) == ([], [])


def test_flapping_keeps_it_open_and_quiet_closes_it():
    history = opened()
    for _ in range(20):
        history.look(step_s=100 / 3).look(condition())
    assert [event for event, _ in history.told] == [Event.OPENED]
    for _ in range(QUIET_S // STEP_S):
        history.look()
    assert history.alerts == []
    assert [event for event, _ in history.told] == [Event.OPENED, Event.CLOSED]
    assert history.closed[0].closed_why == "gone"


def test_it_comes_back_as_another_occurrence_of_the_same_id():
    history = opened()
    first = history.alerts[0]
    for _ in range(13):
        history.look()
    for _ in range(4):
        history.look(condition())
    assert history.alerts[0].id == first.id
    assert history.alerts[0].first_us > first.first_us


def test_a_restart_neither_repeats_nor_loses():
    history = opened().restart()
    for _ in range(5):
        history.look(condition())
    assert [event for event, _ in history.told] == [Event.OPENED]
    pending = History().look(condition()).look(condition()).restart().look(condition()).look(condition())
    assert [event for event, _ in pending.told] == [Event.OPENED]


def test_a_server_that_was_down_makes_nothing_older():
    history = opened().restart()
    history.look(step_s=3600)
    assert history.alerts[0].quiet_us == 0
    history.look(step_s=3600)
    assert history.alerts[0].quiet_us == lifecycle.MOST_STEP_US


def test_what_is_not_known_is_not_gone():
    history, nothing = opened(), look(otherwise=Letter.UNKNOWN)
    for _ in range(100):
        history.look(at=nothing)
    (alert,) = history.alerts
    assert (alert.phase, alert.known, alert.quiet_us) == (Phase.OPEN, False, 0)
    history.look(at=nothing, step_s=86_400)
    assert history.closed[0].closed_why == "not known any more"


def test_worse_is_told_better_is_not():
    history = opened()
    history.look(condition(severity=Severity.CRITICAL)).look(condition()).look(
        condition(severity=Severity.CRITICAL)
    )
    assert [event for event, _ in history.told] == [Event.OPENED, Event.WORSE]
    assert history.alerts[0].severity is Severity.CRITICAL


def test_one_cause_by_another_name_stays_one_alert():
    history = opened()
    before = history.alerts[0]
    other = condition("hospital and hotel", kind="transit", pairs=HOTEL[:3])
    for _ in range(30):
        history.look(other).look(condition())
    (alert,) = history.alerts
    assert alert.id == before.id
    assert len(history.told) == 1


def test_two_causes_at_once_are_two_alerts():
    history = opened()
    other = condition("home", pairs=[("pacs", "home"), ("home", "pacs")])
    for _ in range(5):
        history.look(condition(), other)
    assert {alert.where for alert in history.alerts} == {"hotel", "home"}


def test_a_rule_that_is_gone_closes_its_alerts():
    history = opened()
    gone = msgspec.structs.replace(
        RULES, rules={name: rule for name, rule in RULES.rules.items() if name != "cause"}
    )
    made = after(history.alerts, [], gone, look(at_us=history.at_us + S), elapsed_us=S)
    assert [alert.closed_why for alert in made.alerts] == ["its rule is gone"]


def test_what_is_silenced_is_told_when_the_silence_is_over_and_ends_untold_before():
    alert = msgspec.structs.replace(open_alert(), told=None)
    assert telling(alert, silenced=True) is None
    assert telling(alert, silenced=False).event is Event.OPENED
    closed = msgspec.structs.replace(alert, phase=Phase.CLOSED)
    assert telling(closed, silenced=False) is None
    told = msgspec.structs.replace(closed, told=Severity.WARNING)
    assert telling(told, silenced=True).event is Event.CLOSED


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 90)), max_size=60))
def test_the_laws_hold_whatever_is_seen(steps: list[tuple[bool, int]]) -> None:
    """Open only after having been seen for the hold time; closed only after the quiet time; told in order."""
    history, first = History(), True
    seen_s = quiet_s = 0.0
    for is_seen, step_s in steps:
        was_open = any(alert.phase is Phase.OPEN for alert in history.alerts)
        capped = 0 if first else min(step_s, lifecycle.MOST_STEP_US // S)
        seen_s += capped if is_seen else 0
        quiet_s = 0 if is_seen else quiet_s + capped
        history.look(*[condition()] * is_seen, step_s=step_s)
        is_open = any(alert.phase is Phase.OPEN for alert in history.alerts)
        first = False
        if is_open and not was_open:
            assert seen_s >= HOLD_S
            seen_s = 0
        if was_open and not is_open:
            assert quiet_s >= QUIET_S
            seen_s = 0
        assert len(history.alerts) <= 1
    events = [event for event, _ in history.told]
    assert all(event is (Event.OPENED if at % 2 == 0 else Event.CLOSED) for at, event in enumerate(events))


@pytest.mark.parametrize(
    ("matcher", "fits"),
    [
        (Matcher(), True),
        (Matcher(where="hotel"), True),
        (Matcher(where="hot*"), True),
        (Matcher(where="*"), True),
        (Matcher(where="*o*e*"), True),
        (Matcher(where="*oteles"), False),
        (Matcher(where="hotel*hotel"), False),
        (Matcher(where="h.tel"), False),
        (Matcher(where="hotel", kind="host"), False),
        (Matcher(agent="radiologist"), True),
        (Matcher(agent="nobody"), False),
        (Matcher(agent="home"), False),  # only the other end of a path
        (Matcher(profile="pacs", rule="cause", kind="uplink"), True),
    ],
)
def test_matchers(matcher: Matcher, fits: bool) -> None:
    assert matches(matcher, open_alert()) is fits


def test_a_pattern_costs_nothing_however_it_is_written():
    alert = msgspec.structs.replace(open_alert(), where="a" * 5_000)
    assert not matches(Matcher(where="*a" * 60 + "b"), alert)


def test_silences_end():
    alert = open_alert()
    short = Silence(id="s", matcher=Matcher(where="hotel"), until_us=AT_US + 5, made_us=AT_US, by="me")
    long = msgspec.structs.replace(short, id="l", until_us=AT_US + 9)
    assert silence_of(alert, [short, long], AT_US) == "l"
    assert silence_of(alert, [short], AT_US + 5) == ""
    assert not says_something(Matcher(where="*"))
    assert says_something(Matcher(where="hotel"))


def test_the_worst_is_first():
    warning = open_alert()
    critical = msgspec.structs.replace(warning, severity=Severity.CRITICAL)
    closed = msgspec.structs.replace(critical, phase=Phase.CLOSED)
    assert worst_first([closed, warning, critical]) == [critical, warning, closed]
    assert MEMBERS
