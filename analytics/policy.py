"""Who may test whom, when, and how much: rules as data, and what follows from them. Pure, for both ends.

The first rule that fits decides; where none does, all is allowed inside the tenant. A rule fits where its
selectors do and while its hours last: outside its hours it is as if it was not there. One test measures both
ways of a pair, so a pair is tested only where both ways are allowed, and the narrower limit of the two holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec

from analytics.errors import PolicyError
from analytics.measurement import named, text, whole
from analytics.wire import ProbePlan

MOST_RULES: Final = 200
NOT_TESTED: Final = "not tested"
"""How the error of a reading begins that a policy, and no fault, is the reason of."""

_NAME: Final = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"  # as ``analytics.measurement.NAME_PATTERN``
SELECTOR: Final = rf"^(?:\*|{_NAME}|site:{_NAME}|tag:[^\s,](?:[^\x00-\x1f\x7f,]*[^\s,])?)\Z"
HOURS: Final = r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z"

PEER: Final = rf"^(?:\*|(?:site:)?{_NAME})\Z"

Selector = Annotated[str, msgspec.Meta(max_length=80, pattern=SELECTOR)]
"""``*``, an agent's name, ``site:NAME`` or ``tag:WORD``."""
PeerSelector = Annotated[str, msgspec.Meta(max_length=80, pattern=PEER)]
"""The same without tags: an agent is not told of them."""
HoursText = Annotated[str, msgspec.Meta(pattern=HOURS)]
"""``07:00-19:00``; ``22:00-06:00`` goes over midnight, and is of the day on which it begins."""
Zone = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
"""Of the IANA database, as in ``Europe/Berlin``."""


class Day(StrEnum):
    """Days of the week, as ``datetime.weekday`` counts them."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


Days = Annotated[list[Day], msgspec.Meta(max_length=7)]
"""None of them: every day."""


class Action(StrEnum):
    """What a rule does."""

    ALLOW = "allow"
    DENY = "deny"


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """One rule. The limits are those of an allowed test; None = none of its own."""

    id: Annotated[str, named("rule")]
    from_: Selector = "*"
    to: Selector = "*"
    action: Action = Action.ALLOW
    hours: HoursText | None = None
    days: Days = []
    zone: Zone = "UTC"
    tests_per_hour: Annotated[int, whole("tests of a pair in any 60 minutes", "", ge=1, le=3_600)] | None = (
        None
    )
    probes: Annotated[int, whole("probes of each end in a test", "", ge=1, le=10_000)] | None = None
    bytes: Annotated[int, whole("bytes that each end may send in a test", "bytes", ge=100_000)] | None = None
    note: Annotated[str, text("why it is there", most=200)] = ""


class PolicyRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file or a request sets: the rules, in order."""

    rules: Annotated[list[Rule], msgspec.Meta(max_length=MOST_RULES)] = []


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The policy of a tenant. Version 0 is that of one who never set any: all is allowed."""

    version: int = 0
    rules: list[Rule] = []
    by: str = ""  # who set it
    since_us: int | None = None


ALL_ALLOWED: Final = Policy()


class Who(NamedTuple):
    """What selectors know of an agent."""

    name: str
    site: str
    tags: frozenset[str] = frozenset()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a test may be; None = no limit of the policy."""

    tests_per_hour: int | None = None
    probes: int | None = None
    bytes: int | None = None


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy says of a pair at a moment."""

    allowed: bool
    rule: str  # id of the rule, or of both ways' with a + between them; empty: no rule fits
    limits: Limits = Limits()


UNRULED: Final = Ruling(allowed=True, rule="")


# --- one rule --------------------------------------------------------------------------------------------


def fits(selector: str, who: Who) -> bool:
    """Say whether a selector names an agent."""
    kind, _, value = selector.partition(":")
    if not value:
        return selector in ("*", who.name)
    return value == who.site if kind == "site" else value in who.tags


def lasts(hours: str | None, days: Sequence[Day], zone: str, at_us: int) -> bool:
    """Say whether a moment is in some hours of some days. Raises ``PolicyError`` for an unknown zone."""
    if hours is None and not days:
        return True
    local = datetime.fromtimestamp(at_us / 1e6, zone_of(zone))
    begin, end = (0, 24 * 60) if hours is None else _minutes(hours)
    now = local.hour * 60 + local.minute
    began = local if begin <= now else local - timedelta(days=1)
    within = begin <= now < end if begin < end else now >= begin or now < end
    return within and (not days or [*Day][began.weekday()] in days)


def zone_of(name: str) -> tzinfo:
    """Find a zone; raises ``PolicyError``."""
    if name == "UTC":
        return UTC  # needs no database of zones
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # an agent without hours of its own never loads it

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise PolicyError(f"no time zone is called {name!r}", remedy="as in Europe/Berlin, or UTC") from error


def _minutes(hours: str) -> tuple[int, int]:
    begin, end = (int(at[:2]) * 60 + int(at[3:]) for at in hours.split("-"))
    return begin, end


# --- a policy --------------------------------------------------------------------------------------------


def check(rules: Sequence[Rule]) -> None:
    """Raise ``PolicyError`` where rules do not hold together, although each of them reads."""
    counts = Counter(rule.id for rule in rules)
    if twice := [id_ for id_, count in counts.items() if count > 1]:
        raise PolicyError(f"two rules have the id {twice[0]!r}", remedy="give each rule an id of its own")
    for rule in rules:
        check_hours(rule.hours, rule.zone, f"rule {rule.id}")
        if rule.action is Action.DENY and limits_of(rule) != Limits():
            raise PolicyError(f"rule {rule.id} denies, and limits what it denies", remedy="drop its limits")


def check_hours(hours: str | None, zone: str, what: str) -> None:
    """Raise ``PolicyError`` for hours that never are, and for a zone that is none."""
    zone_of(zone)
    if hours is not None and len(set(_minutes(hours))) == 1:
        raise PolicyError(f"{what}: hours {hours} are none", remedy="leave hours out for the whole day")


def without_lost_zones(rules: Iterable[Rule]) -> tuple[list[Rule], list[str]]:
    """Do without hours that this host cannot tell, as it has lost their time zone; also names those rules.

    Such a rule denies at all hours, or allows at none.
    """
    kept, lost = [], []
    for rule in rules:
        if not has_hours([rule]) or _has_zone(rule.zone):
            kept.append(rule)
            continue
        lost.append(rule.id)
        if rule.action is Action.DENY:
            kept.append(msgspec.structs.replace(rule, hours=None, days=[], zone="UTC"))
    return kept, lost


def _has_zone(name: str) -> bool:
    try:
        zone_of(name)
    except PolicyError:
        return False
    return True


def limits_of(rule: Rule) -> Limits:
    """What a rule allows of a test."""
    return Limits(tests_per_hour=rule.tests_per_hour, probes=rule.probes, bytes=rule.bytes)


def one_way(rules: Iterable[Rule], src: Who, dst: Who, at_us: int) -> Rule | None:
    """Find the rule that decides one way; None where none fits."""
    return next(
        (
            rule
            for rule in rules
            if fits(rule.from_, src) and fits(rule.to, dst) and lasts(rule.hours, rule.days, rule.zone, at_us)
        ),
        None,
    )


def both_ways(rules: Sequence[Rule], one: Who, other: Who, at_us: int) -> Ruling:
    """Say what holds for a pair, whichever end is named first."""
    ends = (min(one, other, key=_order), max(one, other, key=_order))
    found = (one_way(rules, *ends, at_us), one_way(rules, *ends[::-1], at_us))
    deciding = [rule for rule in found if rule is not None]
    denying = next((rule for rule in deciding if rule.action is Action.DENY), None)
    if denying is not None:
        return Ruling(allowed=False, rule=denying.id)
    ids = dict.fromkeys(rule.id for rule in deciding)
    return Ruling(allowed=True, rule="+".join(ids), limits=narrower(map(limits_of, deciding)))


def _order(who: Who) -> tuple[str, str, list[str]]:
    return who.name, who.site, sorted(who.tags)


def narrower(limits: Iterable[Limits]) -> Limits:
    """Take the least of each; None is no limit."""
    told = [*limits]

    def least(name: str) -> int | None:
        return min((value for one in told if (value := getattr(one, name)) is not None), default=None)

    return Limits(**{name: least(name) for name in Limits.__struct_fields__})


def has_hours(rules: Iterable[Rule]) -> bool:
    """Say whether time changes what the rules say."""
    return any(rule.hours is not None or rule.days for rule in rules)


@dataclass(frozen=True, slots=True)
class Judged:
    """A policy at a moment, for many pairs: agents that no selector tells apart are judged once.

    For several threads: what is remembered is the same whoever finds it.
    """

    rules: Sequence[Rule]
    agents: Mapping[str, Who]
    at_us: int
    _classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _rulings: dict[tuple[tuple[str, ...], tuple[str, ...]], Ruling] = field(default_factory=dict)

    def of(self, one: str, other: str) -> Ruling:
        """What holds for two agents; of one that is not known, only its name is."""
        if not self.rules:
            return UNRULED
        first, second = sorted((one, other))
        key = (self._class(first), self._class(second))
        known = self._rulings.get(key)
        if known is None:
            known = both_ways(self.rules, self._who(first), self._who(second), self.at_us)
            self._rulings[key] = known
        return known

    def bars(self, one: str, other: str) -> str:
        """Name the rule that keeps two agents from testing each other; empty where none does."""
        ruling = self.of(one, other)
        return "" if ruling.allowed else ruling.rule

    def barred(self, names: Iterable[str]) -> int:
        """Count the pairs among some agents that may not test each other."""
        if not any(rule.action is Action.DENY for rule in self.rules):
            return 0
        one_of: dict[tuple[str, ...], list[str]] = {}
        for name in names:
            one_of.setdefault(self._class(name), []).append(name)
        groups = [*one_of.values()]
        found = 0
        for at, group in enumerate(groups):
            if len(group) > 1 and self.bars(group[0], group[1]):
                found += len(group) * (len(group) - 1) // 2
            found += sum(
                len(group) * len(after) for after in groups[at + 1 :] if self.bars(group[0], after[0])
            )
        return found

    def _who(self, name: str) -> Who:
        return self.agents.get(name) or Who(name, "")

    def _class(self, name: str) -> tuple[str, ...]:
        """The selectors that fit an agent."""
        known = self._classes.get(name)
        if known is None:
            who = self._who(name)
            selectors = dict.fromkeys(one for rule in self.rules for one in (rule.from_, rule.to))
            known = self._classes[name] = tuple(one for one in selectors if fits(one, who))
        return known


# --- how much a test sends -------------------------------------------------------------------------------

ASKS_BYTES: Final = 60_000
"""What the two say to each other, path MTU probes and the farewell: a tenth of it where nothing is lost."""
PROBE_BYTES: Final = 2 * 180  # a request and a reply, as DTLS records over TCP and IPv6
HOP_BYTES: Final = 2 * 120  # a probe of ours and a reply to one of the peer's
TRAIN_HEADERS: Final = 60
TRAIN_MOST_BYTES: Final = 190_000  # ``agent.mesh.train.MOST_BYTES``
TRAIN_LEAD_PACKETS: Final = 48  # short trains before the plan's own
TRAIN_TIMES: Final = 3  # one of the plan's on a slow path, two on a fast one
TRAIN_PROBES: Final = 20  # beside each train


def most_sent(plan: ProbePlan) -> int:
    """Bound what each end sends by a plan once they are connected, headers included."""
    hops = plan.hop_rounds * plan.max_ttl * HOP_BYTES
    return ASKS_BYTES + plan.probes * PROBE_BYTES + hops + (_trains(plan) if plan.trains else 0)


def _trains(plan: ProbePlan) -> int:
    packets = TRAIN_LEAD_PACKETS + plan.trains * TRAIN_TIMES * plan.train_packets
    trains = min(packets * (plan.train_bytes + TRAIN_HEADERS), plan.trains * TRAIN_MOST_BYTES)
    beside = (2 + plan.trains * TRAIN_TIMES) * TRAIN_PROBES * PROBE_BYTES
    return trains + beside


def within(plan: ProbePlan, limits: Limits) -> ProbePlan:
    """Cut a plan down to what is allowed: fewer probes, then no trains, no hops, and fewer probes again."""
    if limits.probes is not None:
        plan = msgspec.structs.replace(plan, probes=min(plan.probes, limits.probes))
    if limits.bytes is None or most_sent(plan) <= limits.bytes:
        return plan
    for less in ({"trains": 0}, {"hop_rounds": 0}):
        plan = msgspec.structs.replace(plan, **less)
        if most_sent(plan) <= limits.bytes:
            return plan
    fitting = max(1, (limits.bytes - ASKS_BYTES) // PROBE_BYTES)
    return msgspec.structs.replace(plan, probes=min(plan.probes, fitting))
