"""From what applications' own TCP sessions saw to a letter for a process and for a destination.

READ FIRST: ``applications`` and ``grade``. The letter is the worse of the median round trip and of the share
of segments sent again; thresholds are data (``rules/profiles.toml``). It is withheld where the samples do
not carry it; worse input never raises one. Pure; the moment is an argument.

* The round trip is the median over sessions of the kernel's smoothed round trip, those shorter than 0.5 s
  left out: theirs is that of the handshake. A session that is open for long counts once in each window of
  10 s in which it did something. The interval are the order statistics that hold the true median, 9 times
  in 10.
* Segments sent again that the peer had already (DSACK, RFC 2883) do not count: nothing was lost, a timer
  fired too early or segments overtook each other. The interval is Wilson's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import msgspec

from analytics import words
from analytics.clock import HOUR_US
from analytics.evidence import Z_90, Estimate, LossCount
from analytics.histogram import bounds, counts_of, middle, ranked
from analytics.letters import CANNOT, apart, letter_within, rank
from analytics.measurement import Direction, Flow, Grade, Letter
from analytics.paths import WORST_FIRST
from analytics.rules.load import ApplicationsRule, Rules
from analytics.usage import By, Usage, merged

HOURS: Final = 24
MOST_GROUPS: Final = 1_000
"""Graded at once, those with the most sessions: a host that many clients use has one group for each."""
PROFILE: Final = "applications"


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """A process, or a destination, as one agent's host saw it in ``HOURS`` hours, graded."""

    agent: str
    process: str  # empty = unknown, or graded by destination
    direction: Direction
    remote_address: str  # empty where graded by process
    service_port: int
    grade: Grade
    hours: list[Letter | None]  # oldest first, the last one still running; None = no session
    sessions: int  # established
    failed: int
    resets: int  # sent or received
    rtt_p50_us: int | None
    rtt_n: int
    retransmit_bp: int | None  # None = no segment sent
    segments_sent: int
    segments_lost: int  # sent again, those left out that the peer had already
    bytes_sent: int
    bytes_received: int
    rwnd_limited_percent: int | None  # of the time with something to send; None = none
    sndbuf_limited_percent: int | None
    held_up: str  # what held it up that is not the network; empty = nothing known


class Applications(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, worst first."""

    by: By
    at_us: int
    since_us: int  # start of the first of ``HOURS`` hours
    rules_version: str
    rows: list[Application]
    is_cut: bool = False  # there are more


def since_us(at_us: int) -> int:
    """Start of the first hour that is graded: full hours (UTC), of which the last one is still running."""
    return max(0, at_us - at_us % HOUR_US - (HOURS - 1) * HOUR_US)


def applications(
    usages: Iterable[Usage], *, by: By, at_us: int, rules: Rules, limit: int = MOST_GROUPS
) -> Applications:
    """Grade processes or destinations by their sums by hour; keep the worst ``limit`` of them."""
    groups: dict[tuple[str, ...], list[Usage]] = {}
    for usage in usages:
        groups.setdefault(usage.key, []).append(usage)
    graded = sorted((_Graded.of(hours, rules) for hours in groups.values()), key=_Graded.worst_first)
    return Applications(
        by=by,
        at_us=at_us,
        since_us=since_us(at_us),
        rules_version=rules.version,
        rows=[_application(one, at_us, rules) for one in graded[:limit]],
        is_cut=len(groups) > limit or len(groups) >= MOST_GROUPS,
    )


def grade(usage: Usage, rules: Rules) -> Grade:
    """Grade sums over any time."""
    evidence = _evidence(usage, rules)
    letter, case = _judge(evidence, rules.applications)
    rtt = evidence.rtt
    return Grade(
        profile=PROFILE,
        letter=letter,
        outcome=round(rtt.value) if rtt else None,
        outcome_low=round(rtt.low) if rtt else None,
        outcome_high=round(rtt.high) if rtt else None,
        unit="us",
        reason=_REASONS[case](evidence),
        rule=rules.applications.rule,
        rules_version=rules.version,
    )


# --- evidence -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the sums support."""

    rtt: Estimate | None  # us; None with fewer samples than needed
    rtt_n: int
    rtt_n_needed: int
    again: LossCount
    failed: int
    connected: bool


def _evidence(usage: Usage, rules: Rules) -> _Evidence:
    counts = counts_of([usage.srtt_lasting_histogram])
    n, needed = sum(counts.values()), rules.samples.rtt_p50_n
    return _Evidence(
        rtt=median(counts) if n >= needed else None,
        rtt_n=n,
        rtt_n_needed=needed,
        again=lost(usage),
        failed=usage.failed,
        connected=usage.connected,
    )


def median(counts: Mapping[int, int]) -> Estimate:
    """Median of a histogram with samples, within the order statistics that hold the true one in 9 of 10."""
    n = sum(counts.values())
    half = Z_90 * math.sqrt(n) / 2
    low = ranked(counts, max(1, math.floor(n / 2 - half)))
    high = ranked(counts, min(n, math.ceil(n / 2 + half) + 1))
    return Estimate(middle(ranked(counts, (n + 1) // 2)), bounds(low)[0], bounds(high)[1])


def lost(usage: Usage) -> LossCount:
    """Count the segments sent again that the peer did not have, of all those sent."""
    again = max(0, usage.segments_retransmitted - usage.dsack_duplicates)
    return LossCount(lost=min(again, usage.segments_sent), sent=usage.segments_sent)


# --- judgement ----------------------------------------------------------------------------------------------


class _Case(Enum):
    """Which of the ways to a letter, or to none."""

    CANNOT_CONNECT = auto()
    NOTHING = auto()
    LOSS_ALONE = auto()
    TOO_SHORT = auto()
    TOO_FEW = auto()
    MEASURED = auto()


def _judge(evidence: _Evidence, rule: ApplicationsRule) -> tuple[Letter, _Case]:
    if not evidence.connected:
        return (Letter.UNREACHABLE, _Case.CANNOT_CONNECT) if evidence.failed else _WITHHELD[_Case.NOTHING]
    again = evidence.again.interval()
    if evidence.rtt is None:
        # The round trip can only make it worse: what segments sent again prove to be D or F is so already.
        least = letter_within(10_000 * again.low, rule.most_retransmit_bp)
        return (least, _Case.LOSS_ALONE) if rank(least) >= CANNOT else _WITHHELD[_Case.TOO_SHORT]
    best, central, worst = (
        _worse(rule, getattr(evidence.rtt, end), getattr(again, end)) for end in ("low", "value", "high")
    )
    return _WITHHELD[_Case.TOO_FEW] if apart(best, worst) else (central, _Case.MEASURED)


_WITHHELD: Final = {case: (Letter.UNKNOWN, case) for case in _Case}


def _worse(rule: ApplicationsRule, rtt_us: float, share: float) -> Letter:
    letters = (
        letter_within(rtt_us, rule.most_rtt_p50_us),
        letter_within(10_000 * share, rule.most_retransmit_bp),
    )
    return max(letters, key=rank)


def _told(evidence: _Evidence) -> str:
    rtt = words.ms(round(evidence.rtt.value)) if evidence.rtt else "?"
    return f"median round trip {rtt} ms, {_again_in_words(evidence.again)}"


def _again_in_words(again: LossCount) -> str:
    if not again.sent:
        return "no segment sent"
    share = f" ({words.percent(again.share)})" if again.lost else ""
    lost_count = f"{again.lost:,}" if again.lost else "none"
    return f"{lost_count} of {words.count(again.sent, 'segment')} sent again{share}"


def _too_short(evidence: _Evidence) -> str:
    seen = evidence.rtt_n or "no"
    return f"{seen} round trips of sessions that lasted 0.5 s; {evidence.rtt_n_needed} needed"


_REASONS: Final[dict[_Case, Callable[[_Evidence], str]]] = {
    _Case.CANNOT_CONNECT: lambda seen: (
        f"cannot connect: {words.count(seen.failed, 'attempt')} failed, none succeeded"
    ),
    _Case.NOTHING: lambda seen: "no session",
    _Case.LOSS_ALONE: lambda seen: f"{_again_in_words(seen.again)}; {_too_short(seen)}",
    _Case.TOO_SHORT: _too_short,
    _Case.TOO_FEW: lambda seen: f"too few samples for a letter: {_told(seen)}",
    _Case.MEASURED: _told,
}


# --- rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Graded:
    """A group's hours, their sum, and its grade."""

    hours: list[Usage]
    total: Usage
    grade: Grade

    @classmethod
    def of(cls, hours: list[Usage], rules: Rules) -> _Graded:
        total = merged(hours)
        return cls(hours, total, grade(total, rules))

    def worst_first(self) -> tuple[int, int, float, tuple[str, ...]]:
        """Order by letter, then round trip, then what was sent again."""
        place = WORST_FIRST.index(self.grade.letter)
        return place, -(self.grade.outcome or 0), -lost(self.total).share, self.total.key


def _application(graded: _Graded, at_us: int, rules: Rules) -> Application:
    total, again = graded.total, lost(graded.total)
    return Application(
        agent=total.agent,
        process=total.process,
        direction=total.direction,
        remote_address=total.remote_address,
        service_port=total.service_port,
        grade=graded.grade,
        hours=_timeline(graded.hours, at_us, rules),
        sessions=total.opened,
        failed=total.failed,
        resets=total.resets_sent + total.resets_received,
        rtt_p50_us=graded.grade.outcome,
        rtt_n=sum(total.srtt_lasting_histogram[1::2]),
        retransmit_bp=round(10_000 * again.share) if again.sent else None,
        segments_sent=total.segments_sent,
        segments_lost=again.lost,
        bytes_sent=total.bytes_sent,
        bytes_received=total.bytes_received,
        rwnd_limited_percent=percent_of_busy(total, total.rwnd_limited_us),
        sndbuf_limited_percent=percent_of_busy(total, total.sndbuf_limited_us),
        held_up=held_up(total, rules.applications),
    )


def _timeline(hours: list[Usage], at_us: int, rules: Rules) -> list[Letter | None]:
    """Give each hour its letter; None for one without a session or an attempt."""
    by_hour: dict[int, list[Usage]] = {}
    for usage in hours:
        by_hour.setdefault((usage.hour_us - since_us(at_us)) // HOUR_US, []).append(usage)
    letters = {place: _letter(merged(some), rules) for place, some in by_hour.items()}
    return [letters.get(place) for place in range(HOURS)]


def _letter(usage: Usage, rules: Rules) -> Letter | None:
    if not usage.connected and not usage.failed:
        return None
    return _judge(_evidence(usage, rules), rules.applications)[0]


def percent_of_busy(used: Usage | Flow, part_us: int) -> int | None:
    """Write a part of the time with something to send as a percentage; None where there was no such time."""
    return min(100, round(100 * part_us / used.busy_us)) if used.busy_us else None


def held_up(usage: Usage, rule: ApplicationsRule) -> str:
    """Say which end held the sending up for the share of time that the rule names; empty if neither did."""
    if usage.busy_us < rule.held_up_least_us:
        return ""
    part_us, whose = max((usage.rwnd_limited_us, _RECEIVER), (usage.sndbuf_limited_us, _SENDER))
    percent = percent_of_busy(usage, part_us) or 0
    return f"{percent} % of the sending time {whose}" if percent >= rule.held_up_percent else ""


_RECEIVER: Final = "waited for the peer's receive window: not the network"
_SENDER: Final = "waited for this host's send buffer: not the network"
