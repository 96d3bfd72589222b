"""The rules of alerts, read from ``rules.toml`` and checked. Each kind of rule watches one thing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from analytics.errors import UNREADABLE
from server.alerts.model import Severity
from server.errors import SettingsError

BUILT_IN: Final = Path(__file__).with_name("rules.toml")
MOST_BYTES: Final = 1_000_000

Seconds = Annotated[int, msgspec.Meta(ge=0, le=30 * 86_400)]
Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a cause must be seen before the alert opens, by severity."""

    critical: Seconds
    warning: Seconds
    info: Seconds


class _Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="watches"):
    rule: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    about: str = ""
    hold_s: Seconds | Hold  # seen for so long: opened
    quiet_s: Seconds  # not seen for so long: closed
    forget_s: Seconds = 86_400  # nothing known of it for so long: closed
    enabled: bool = True

    def hold_us(self, severity: Severity) -> int:
        """How long a cause of this severity must be seen before its alert opens."""
        held_s = self.hold_s if isinstance(self.hold_s, int) else getattr(self.hold_s, severity.value)
        return int(held_s) * 1_000_000


class _Judged(_Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    profiles: list[str] = []  # graded for these; empty = those of the fleet's services
    services: list[str] = []  # only services of these names; empty = all
    critical_percent: Percent = 50


class CauseRule(_Judged, frozen=True, kw_only=True, tag="findings"):
    """An alert for each finding."""

    least_confidence_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0


class AloneRule(_Judged, frozen=True, kw_only=True, tag="workplaces"):
    """An alert for each service that workplaces cannot use and no finding explains."""


class AgentsRule(_Rule, frozen=True, kw_only=True, tag="agents"):
    """An alert for each site with agents that are away."""


class OwnRule(_Rule, frozen=True, kw_only=True, tag="own"):
    """An alert about the server itself, by one of its own readings: above, below, or rising."""

    reading: str
    severity: Severity
    above: int | None = None
    below: int | None = None
    rises_by: Annotated[int, msgspec.Meta(ge=1)] | None = None  # from one look to the next
    try_: str = msgspec.field(name="try", default="")


Rule = CauseRule | AloneRule | AgentsRule | OwnRule


class AlertRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that raises alerts."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    rules: dict[str, Rule]

    @property
    def enabled(self) -> dict[str, Rule]:
        """The rules that count, by name."""
        return {name: rule for name, rule in self.rules.items() if rule.enabled}


class OwnAlertRules(AlertRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of one's own: rules beside the built-in ones, or in their place."""


T = TypeVar("T")


def load_alert_rules(own: Path | None = None, *, readings: Mapping[str, object] | None = None) -> AlertRules:
    """Read the built-in rules, and one's own over them; raises ``SettingsError`` with file and key.

    ``readings``: the server's own readings by name, so that a rule about none of them is an error.
    """
    rules = _checked(BUILT_IN, read_toml(BUILT_IN, AlertRules), readings)
    if own is None:
        return rules
    added = _checked(own, read_toml(own, OwnAlertRules), readings)
    return AlertRules(version=f"{rules.version}+{added.version}", rules={**rules.rules, **added.rules})


def read_toml(path: Path, kind: type[T]) -> T:
    """Read a TOML file of a known shape; raises ``SettingsError``."""
    try:
        with path.open("rb") as file:
            told = file.read(MOST_BYTES + 1)
        if len(told) > MOST_BYTES:
            raise msgspec.ValidationError(f"over {MOST_BYTES} bytes")
        return msgspec.toml.decode(told, type=kind, dec_hook=_decoded)
    except OSError as error:
        raise SettingsError(f"read {path}: {error.strerror}", remedy="name a file that exists") from error
    except UNREADABLE as error:
        raise SettingsError(f"{path}: {error}", remedy="docs/alerts.md describes every key") from error


def _decoded(kind: type, value: object) -> object:
    """Read what msgspec does not know: paths."""
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise msgspec.ValidationError(f"{value!r} is no {kind.__name__}")


def _checked(path: Path, rules: AlertRules, readings: Mapping[str, object] | None) -> AlertRules:
    for name, rule in rules.rules.items():
        if isinstance(rule, OwnRule):
            _check_own(f"{path}: rules.{name}", rule, readings)
    return rules


def _check_own(where: str, rule: OwnRule, readings: Mapping[str, object] | None) -> None:
    if sum(limit is not None for limit in (rule.above, rule.below, rule.rises_by)) != 1:
        raise SettingsError(f"{where}: not one of above, below and rises_by", remedy="name exactly one")
    if readings is not None and rule.reading not in readings:
        raise SettingsError(
            f"{where}: no reading is called {rule.reading!r}", remedy=f"one of: {', '.join(sorted(readings))}"
        )
