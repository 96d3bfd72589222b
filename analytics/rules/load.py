"""The rules: what a letter means, read from ``profiles.toml`` and checked."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from analytics.errors import RulesError

BUILT_IN: Final = Path(__file__).with_name("profiles.toml")

Positive = Annotated[int, msgspec.Meta(ge=1)]
Limits = Annotated[list[Positive], msgspec.Meta(min_length=4, max_length=4)]
"""The most that A, B, C and D may have, ascending; more is F."""


class Samples(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many samples a statement needs."""

    rtt_p50_n: Positive
    rtt_p95_n: Positive
    loss_n: Positive


class Study(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fetched to open a study, one image after the other (DIMSE)."""

    images: Positive
    image_bytes: Positive
    setup_round_trips: Positive
    setup_us: Positive
    server_us_per_image: Positive


class Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the verdict speaks of a profile."""

    able: str  # "open a CT from the {service}"
    paths_able: str  # "are fast enough to open a CT"
    cannot_d: str
    cannot_f: str
    outcome: str  # "a 50 MB CT takes about {time}"


class _Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    rule: str
    title: str
    about: str
    words: Words


class StudyProfile(_Profile, frozen=True, kw_only=True, tag="study"):
    """Graded by the predicted time to open a study."""

    most_ms: Limits
    study: Study


class ResponseProfile(_Profile, frozen=True, kw_only=True, tag="response"):
    """Graded by the 95th percentile of the round trip and by loss; the worse decides."""

    most_rtt_p95_us: Limits
    most_loss_bp: Limits


Profile = StudyProfile | ResponseProfile


class ApplicationsRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Graded by the median round trip of sessions and by segments sent again; the worse decides."""

    rule: str
    title: str
    about: str
    most_rtt_p50_us: Limits
    most_retransmit_bp: Limits
    held_up_percent: Annotated[int, msgspec.Meta(ge=1, le=100)]
    held_up_least_us: Positive


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that turns facts into letters."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    stale_after_s: Positive
    samples: Samples
    applications: ApplicationsRule
    profiles: dict[str, Profile]

    def profile(self, name: str) -> Profile:
        """Find a profile. Raises ``RulesError``."""
        try:
            return self.profiles[name]
        except KeyError:
            known = ", ".join(self.profiles)
            raise RulesError(f"no profile is called {name!r}", remedy=f"one of: {known}") from None


def load_rules(path: Path = BUILT_IN) -> Rules:
    """Read and check a rules file. Raises ``RulesError`` with the file and the line or key."""
    try:
        rules = msgspec.toml.decode(path.read_bytes(), type=Rules)
    except OSError as error:
        raise RulesError(f"reading {path}: {error.strerror}", remedy="name a file that exists") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RulesError(f"{path}: {error}", remedy="docs/grades.md describes every key") from error
    judged: dict[str, Judged] = {f"profiles.{name}": profile for name, profile in rules.profiles.items()}
    for where, rule in {**judged, "applications": rules.applications}.items():
        for key, limits in limits_of(rule).items():
            if any(after <= before for before, after in pairwise(limits)):
                raise RulesError(
                    f"{path}: {where}.{key}: {limits} does not rise from A to D",
                    remedy="write the most that A, B, C and D may have, in that order",
                )
    return rules


Judged = Profile | ApplicationsRule
LimitsKey = Literal["most_ms", "most_rtt_p95_us", "most_loss_bp", "most_rtt_p50_us", "most_retransmit_bp"]
_LIMITS: Final[dict[type, tuple[LimitsKey, ...]]] = {
    StudyProfile: ("most_ms",),
    ResponseProfile: ("most_rtt_p95_us", "most_loss_bp"),
    ApplicationsRule: ("most_rtt_p50_us", "most_retransmit_bp"),
}


def limits_of(rule: Judged) -> dict[LimitsKey, list[int]]:
    """The thresholds of a rule, by key."""
    return {key: getattr(rule, key) for key in _LIMITS[type(rule)]}
