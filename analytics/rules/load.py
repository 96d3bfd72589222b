"""The rules: what a letter means, read from ``profiles.toml`` and checked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from analytics.errors import UNREADABLE, RulesError
from analytics.measurement import Letter
from analytics.tcp_rates import Sender

BUILT_IN: Final = Path(__file__).with_name("profiles.toml")

DEFAULT_PROTOCOL: Final = "c_get"

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Limits = Annotated[list[Positive], msgspec.Meta(min_length=4, max_length=4)]
"""The most that A, B, C and D may have, ascending; or the least that they must have, descending."""


class Samples(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many samples a statement needs."""

    rtt_p50_n: Positive
    rtt_p95_n: Positive
    rtt_p99_n: Positive
    loss_n: Positive


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a protocol makes of a study: round trips, waits, connections. The defaults are DIMSE's."""

    said: str = "C-GET"
    setup_round_trips: Positive = 3
    connections: Positive = 1  # an image each at a time
    one_answer: bool = False  # all images in one answer; else an answer is an image
    nagle: bool = False  # both ends hold short segments back (RFC 896), as DCMTK does unless told otherwise
    setup_stalls: NotNegative = 0  # short writes that wait so before the first image and after the last


class Study(Exchange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fetched to open a study, and how: what it does not say of the exchange, its protocol says."""

    protocol: str = DEFAULT_PROTOCOL  # one of the table [protocols]
    images: Positive
    image_bytes: Positive
    setup_us: Positive
    server_us_per_image: Positive
    sender: Sender | None = None  # congestion control of the end that sends; None = not known


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
    sites: list[str] = []  # only paths with an end at one of these; empty = all


class StudyProfile(_Profile, frozen=True, kw_only=True, tag="study"):
    """Graded by the predicted time to open a study."""

    most_ms: Limits
    study: Study


class ResponseProfile(_Profile, frozen=True, kw_only=True, tag="response"):
    """Graded by the 95th percentile of the round trip and by loss; the worse decides."""

    most_rtt_p95_us: Limits
    most_loss_bp: Limits


class InteractionProfile(_Profile, frozen=True, kw_only=True, tag="interaction"):
    """Graded by R95: how long a person waits for an answer, 95 times in 100."""

    most_us: Limits
    packets: Positive  # of an interaction, each way


class LossCap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With more loss than this the letter is no better than that."""

    above_bp: Positive
    letter: Letter


class CallProfile(_Profile, frozen=True, kw_only=True, tag="call"):
    """Graded by the E-model's R of the worse direction, capped by loss and by rate."""

    least_r: Limits
    least_kbps: Limits
    loss_caps: list[LossCap]
    codec_impairment: NotNegative
    codec_robustness: Positive


class ObjectiveProfile(_Profile, frozen=True, kw_only=True, tag="objective"):
    """Graded by Quality of Outcome against what was agreed for the path."""

    least_score: Limits
    perfect_rtt_p99_us: Positive
    useless_rtt_p99_us: Positive
    perfect_loss_bp: NotNegative
    useless_loss_bp: Positive


Profile = StudyProfile | ResponseProfile | InteractionProfile | CallProfile | ObjectiveProfile


class ApplicationsRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Graded by the median round trip of sessions and by segments sent again; the worse decides."""

    rule: str
    title: str
    about: str
    most_rtt_p50_us: Limits
    most_retransmit_bp: Limits
    held_up_percent: Annotated[int, msgspec.Meta(ge=1, le=100)]
    held_up_least_us: Positive


class FusionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How what applications' own sessions saw counts beside the probes (``analytics/fusion.py``)."""

    rule: str
    apart_rule: str
    learnt_rule: str
    title: str
    about: str
    within_s: Positive
    least_segments: Positive
    queue_percent: Annotated[int, msgspec.Meta(ge=101)]
    filled_percent: Annotated[int, msgspec.Meta(ge=1, le=100)]
    apart_us: Positive
    apart_percent: Positive
    held_percent: Annotated[int, msgspec.Meta(ge=1, le=100)]
    held_least_us: Positive
    transfer_bytes: Positive
    fetch_least_images: Positive
    fetch_most_idle_us: Positive
    fetch_within_s: Positive


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that turns facts into letters."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    stale_after_s: Positive
    samples: Samples
    applications: ApplicationsRule
    protocols: dict[str, Exchange]
    fusion: FusionRule
    profiles: dict[str, Profile]

    def profile(self, name: str) -> Profile:
        """Find a profile. Raises ``RulesError``."""
        try:
            return self.profiles[name]
        except KeyError:
            known = ", ".join(self.profiles)
            raise RulesError(f"no profile is called {name!r}", remedy=f"one of: {known}") from None


class OwnProfiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rules file of a fleet's own: profiles and protocols beside the built-in ones, or in their place."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    protocols: dict[str, Exchange] = {}
    profiles: dict[str, Profile]


T = TypeVar("T")


def load_rules(path: Path = BUILT_IN, own: Path | None = None) -> Rules:
    """Read and check a rules file, and one of the fleet's own profiles over it.

    The version of the two together names both. Raises ``RulesError`` with the file and the line or key.
    """
    rules = _read(path, Rules, {})
    _check(path, {"applications": rules.applications, **_named(rules.profiles)})
    if own is None:
        return rules
    added = _read(own, OwnProfiles, rules.protocols)
    _check(own, _named(added.profiles))
    return msgspec.structs.replace(
        rules,
        version=f"{rules.version}+{added.version}",
        protocols={**rules.protocols, **added.protocols},
        profiles={**rules.profiles, **added.profiles},
    )


def _read(path: Path, kind: type[T], protocols: Mapping[str, Exchange]) -> T:
    try:
        told = msgspec.toml.decode(path.read_bytes())
        known = {name: msgspec.to_builtins(exchange) for name, exchange in protocols.items()}
        return msgspec.convert(_with_protocols(told, known), type=kind)
    except OSError as error:
        raise RulesError(f"reading {path}: {error.strerror}", remedy="name a file that exists") from error
    except UNREADABLE as error:
        raise RulesError(f"{path}: {error}", remedy="docs/grades.md describes every key") from error


def _with_protocols(told: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Give every study what its protocol says and the study itself does not. Raises ``DecodeError``."""
    protocols = {**known, **_table(told, "protocols")}
    profiles = {
        name: _with_protocol(name, profile, protocols) for name, profile in _table(told, "profiles").items()
    }
    return {**told, "profiles": profiles} if "profiles" in told else told


def _table(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Find a table; what is none is for the types to refuse."""
    found = told.get(key)
    return found if isinstance(found, dict) else {}


def _with_protocol(name: str, profile: Any, protocols: Mapping[str, Any]) -> Any:
    study = _table(profile, "study") if isinstance(profile, dict) else {}
    if not study:
        return profile
    protocol = study.get("protocol", DEFAULT_PROTOCOL)
    if protocol not in protocols:
        known = ", ".join(protocols)
        raise msgspec.ValidationError(
            f"no protocol is called {protocol!r} (known: {known}) - at `$.profiles.{name}.study.protocol`"
        )
    return {**profile, "study": {**protocols[protocol], **study}}


def _named(profiles: Mapping[str, Profile]) -> dict[str, Judged]:
    return {f"profiles.{name}": profile for name, profile in profiles.items()}


def _check(path: Path, judged: Mapping[str, Judged]) -> None:
    for where, rule in judged.items():
        for key, limits in limits_of(rule).items():
            rising = key.startswith("most_")
            if any((after <= before) if rising else (after >= before) for before, after in pairwise(limits)):
                what = "the most that A, B, C and D may have" if rising else "the least that they must have"
                raise RulesError(
                    f"{path}: {where}.{key}: {limits} does not {'rise' if rising else 'fall'} from A to D",
                    remedy=f"write {what}, in that order",
                )


Judged = Profile | ApplicationsRule


def limits_of(rule: Judged) -> dict[str, list[int]]:
    """The thresholds of a rule, by key: ``most_*`` rise from A to D, ``least_*`` fall."""
    return {
        field: value
        for field in rule.__struct_fields__
        if field.startswith(("most_", "least_")) and isinstance(value := getattr(rule, field), list)
    }
