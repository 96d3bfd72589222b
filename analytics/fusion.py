"""Probes and applications together: the numbers that a path is graded by, and who measured each.

READ FIRST: ``judge``. Where the sessions of a service carried a number of the same path in the last minutes,
it counts instead of the probes': it is what people get (``analytics/mixing.py``). What the sessions do not
carry, the probes give, unless the two are not on one path: then only the sessions count, and the letter is
withheld where they are too few.

Order and repetition of flows do not matter. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from analytics import mixing, words
from analytics.addresses import AddressBook
from analytics.calibrate import Calibration, study_with
from analytics.ends import held_up
from analytics.fetches import Waits
from analytics.fused import Fused, Number, Origin
from analytics.grade import FAILED, NO_NUMBERS, STALE, grade
from analytics.measurement import Flow, Grade, Reading, Rung
from analytics.rules.load import FusionRule, Profile, Rules, StudyProfile
from analytics.sent import Pair, Sent, recent, sent_by_pair
from analytics.shapes import Service


@dataclass(frozen=True, slots=True)
class Passive:
    """What applications' sessions tell of a fleet's paths for one profile. Made by ``passive_of``."""

    sent: Mapping[Pair, Sent] = field(default_factory=dict)
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)  # names, by agent
    learnt: Mapping[str, Waits] = field(default_factory=dict)  # by agent that serves

    def knows(self, src: str, dst: str) -> bool:
        """True where anything is known of a directed path: of most of a large fleet's, nothing is."""
        return (src, dst) in self.sent or (dst, src) in self.sent or src in self.learnt


NOTHING_SEEN: Final = Passive()


def passive_of(
    flows: Iterable[Flow],
    book: AddressBook,
    services: Sequence[Service],
    *,
    rules: Rules,
    at_us: int,
    learnt: Mapping[str, Waits] | None = None,
) -> Passive:
    """Gather the recent flows of one profile's ``services`` by who sent to whom."""
    rule = rules.fusion
    now = recent(flows, at_us=at_us, within_us=rule.within_s * 1_000_000)
    pairs = sent_by_pair(now, book, {(service.agent, service.port) for service in services})
    names: dict[str, list[str]] = {}
    for service in services:
        names.setdefault(service.agent, []).append(service.name)
    return Passive(
        sent={pair: Sent(tuple(own), rule) for pair, own in pairs.items()},
        services=names,
        learnt=dict(learnt or {}),
    )


def judge(
    reading: Reading,
    back: Reading | None,
    profile: str,
    rules: Rules,
    *,
    at_us: int,
    passive: Passive = NOTHING_SEEN,
) -> tuple[Grade, Fused | None]:
    """Grade a directed path by probes and sessions together; None where no session said anything.

    ``back`` is the other direction of the same test. Raises ``RulesError`` for an unknown profile.
    """
    active = grade(reading, back, profile, rules, at_us)
    if not passive.knows(reading.src, reading.dst):
        return active, None
    path = _Path.of(reading, back, active, passive, rules)
    served = path.as_served(rules.profile(profile))
    if not path.is_seen and served is rules.profile(profile):
        return active, None
    mixed = path.mixed(served)
    with_served = msgspec.structs.replace(rules, profiles={**rules.profiles, profile: served})
    together = grade(mixed.reading, mixed.back, profile, with_served, at_us)
    fused = path.told(mixed, list(passive.services.get(reading.src) or passive.services.get(reading.dst, ())))
    reason = "; ".join([together.reason, *_provenance(fused)])
    return msgspec.structs.replace(together, reason=reason), fused


def differs(probed_us: int, used_us: int, rule: FusionRule) -> bool:
    """Whether two least round trips are too far apart for one path."""
    return abs(probed_us - used_us) > max(rule.apart_us, rule.apart_percent * probed_us / 100)


@dataclass(frozen=True, slots=True)
class _Mixed:
    """What is graded, and who measured each number of it."""

    reading: Reading
    back: Reading | None
    numbers: list[Number]
    learnt: Calibration | None


@dataclass(frozen=True, slots=True)
class _Path:
    """One directed path: the test, and the sessions each way as their sender's kernel has them."""

    reading: Reading
    back_reading: Reading | None
    active: Grade
    there: Sent
    back: Sent
    waits: Waits | None
    rules: Rules

    @classmethod
    def of(
        cls, reading: Reading, back: Reading | None, active: Grade, passive: Passive, rules: Rules
    ) -> _Path:
        nothing = Sent((), rules.fusion)
        return cls(
            reading,
            back,
            active,
            passive.sent.get((reading.src, reading.dst), nothing),
            passive.sent.get((reading.dst, reading.src), nothing),
            passive.learnt.get(reading.src),
            rules,
        )

    @property
    def is_seen(self) -> bool:
        return bool(self.there.flows or self.back.flows)

    @property
    def rtt(self) -> Sent:
        """Whose round trips count: the sender's; the other end's where the sender's host tells none."""
        return self.there if self.there.rtt_min_us is not None else self.back

    def learnt(self, profile: Profile) -> Calibration | None:
        """What an image takes the server over a path like this one."""
        used_us = self.rtt.rtt_min_us
        if self.waits is None or not isinstance(profile, StudyProfile):
            return None
        rtt_us = self.reading.rtt_min_us if used_us is None else used_us
        return self.waits.at(rtt_us, nagle=profile.study.nagle)

    def as_served(self, profile: Profile) -> Profile:
        """The profile with the sender's congestion control and the PACS's own time as they were seen."""
        if not isinstance(profile, StudyProfile):
            return profile
        study = study_with(profile.study, self.learnt(profile))
        if self.there.sender is not None:
            study = msgspec.structs.replace(study, sender=self.there.sender)
        return profile if study is profile.study else msgspec.structs.replace(profile, study=study)

    def apart(self) -> str:
        """Say why the probes' path is not the application's; empty where nothing says so."""
        used_us = self.rtt.rtt_min_us
        if used_us is None or self.active.rule in (STALE, FAILED):
            return ""
        if self.reading.rung is Rung.NONE:
            return "probes cannot connect, the application can"
        ends = (end.rtt_min_us for end in (self.reading, self.back_reading) if end is not None)
        probed_us = min((rtt_us for rtt_us in ends if rtt_us is not None), default=None)
        if probed_us is None or not differs(probed_us, used_us, self.rules.fusion):
            return ""
        return (
            "the probe takes another path than the application: least round trip "
            f"{words.ms(probed_us)} ms by probes, {words.ms(used_us)} ms by the application"
        )

    def mixed(self, profile: Profile) -> _Mixed:
        """Put the sessions' numbers in place of the probes', or of nothing where the probes do not count."""
        reading, back, samples = self.reading, self.back_reading, self.rules.samples
        alone = self.rtt.rtt_min_us is not None and bool(self.apart() or self.active.rule in NO_NUMBERS)
        if alone:
            until_us = max(self.there.until_us, self.back.until_us)
            reading = mixing.without_probes(reading, until_us)
            back = None if back is None else mixing.without_probes(back, until_us)
        changes = (
            mixing.round_trip(reading, self.rtt, profile, samples, alone=alone),
            mixing.loss(self.there, samples, alone=alone),
            mixing.rate(reading, self.there),
        )
        passive = frozenset(name for name, change in zip(mixing.NAMES, changes, strict=True) if change)
        if back is not None:
            of_back = mixing.loss(self.back, samples, alone=alone) | mixing.rate(back, self.back)
            back = msgspec.structs.replace(back, **of_back)
        for change in changes:
            reading = msgspec.structs.replace(reading, **change)
        return _Mixed(reading, back, mixing.numbers(reading, passive), self.learnt(profile))

    def told(self, mixed: _Mixed, services: list[str]) -> Fused:
        """Keep what was mixed, and what the sessions say beside it."""
        rule, learnt, apart = self.rules.fusion, mixed.learnt, self.apart()
        return Fused(
            services=services,
            active=self.active,
            numbers=mixed.numbers,
            rtt_p95_us=mixed.reading.rtt_p95_us,
            loss_back_bp=None if mixed.back is None else mixing.share_bp(mixed.back),
            capacity_trust=mixed.reading.capacity_trust,
            sessions=self.there.sessions,
            until_us=max(self.there.until_us, self.back.until_us),
            congestion=self.there.congestion,
            apart=apart,
            apart_rule=rule.apart_rule if apart else "",
            held_up=held_up(self.there.flows, self.reading.src, self.reading.dst, rule),
            server_us_per_image=learnt.server_us_per_image if learnt else None,
            learnt_from=learnt.n if learnt else 0,
            rule=rule.rule if self.is_seen else rule.learnt_rule,
        )


def _provenance(fused: Fused) -> list[str]:
    """Say 'round trip by the application's own sessions, loss by probes', and what was learnt."""
    told = []
    if fused.passive:
        active = [one.name for one in fused.numbers if one.origin is Origin.ACTIVE and one.value is not None]
        probed = f", {_and(active)} by probes" if active else ""
        told.append(f"{_and(fused.passive)} by the application's own sessions{probed}")
    if fused.congestion:
        told.append(f"sent with {fused.congestion}")
    if fused.server_us_per_image is not None:
        took = words.ms(fused.server_us_per_image)
        told.append(f"{took} ms an image at the server, learnt from {fused.learnt_from:,} fetches")
    return [*told, fused.apart] if fused.apart else told


def _and(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
