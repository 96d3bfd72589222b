"""Collects every metric of one tenant: from the latest look for alerts, from the server's own readings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from analytics.clock import now_us
from analytics.overview import Metric
from server.alerts.model import Severity
from server.alerts.watcher import Watcher
from server.api.alert_door import AlertDoor, AlertList
from server.api.core import ReportCore, Status, default_profile
from server.metrics import fleet
from server.metrics.family import Family, Labels, family, labels
from server.metrics.own import READINGS, Own, readings

MOST_ALERTS: Final = 5_000
_OUTCOMES: Final = ("sent", "failed", "refused", "given_up", "dropped")
_STATUS: Final = {
    "paths_expected": "Directed paths of the agents that take part in the mesh",
    "paths_measured": "Of them, those with a reading",
    "paths_watched": "Directed paths that are tested between cycles, too",
    "paths_put_off": "Directed paths that wait for a later cycle",
    "paths_not_watched": "Directed paths that matter, but for which the budget has no room",
}


class Meter:
    """Of one tenant. ``own``: with the server's own readings, for who runs it. For worker threads."""

    def __init__(
        self,
        core: ReportCore,
        alerts: AlertDoor,
        watcher: Watcher,
        *,
        own: Own | None,
        pairs: bool,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._core = core
        self._alerts = alerts
        self._watcher = watcher
        self._own = own
        self._pairs = pairs
        self._clock = clock

    def families(self) -> list[Family]:
        """Everything there is to tell, in a fixed order."""
        status = self._core.status()
        return [
            family("pathgrade_info", "The running server", {labels(version=status.version): 1.0}),
            *_of_status(status),
            *self._of_fleet(),
            *self._of_alerts(),
            *(_of_own(self._own) if self._own is not None else ()),
        ]

    def _of_fleet(self) -> Iterable[Family]:
        seen, watcher = self._watcher.latest, self._watcher
        age_s = None if watcher.latest_us is None else max(0, self._clock() - watcher.latest_us) / 1e6
        yield family("pathgrade_look_age_seconds", "Since somebody last looked at the report", age_s)
        yield family("pathgrade_look_seconds", "How long that took", watcher.took_s)
        yield fleet.agents(self._core.members())
        yield from fleet.verdicts({name: one.overview for name, one in seen.items()})
        yield fleet.site_letters({name: one.letters for name, one in seen.items()})
        profile = default_profile(self._core)
        yield fleet.site_losses(self._core.matrix(profile, Metric.LOSS))
        yield from fleet.site_pairs(profile, self._core.sites(profile))
        if self._pairs:
            worst = self._core.worst(profile, limit=fleet.MOST_PATHS)
            yield from fleet.paths(profile, worst.rows, worst.paths)

    def _of_alerts(self) -> Iterable[Family]:
        yield family(
            "pathgrade_alerts",
            "Open alerts by severity and state",
            _alert_counts(self._alerts.alerts(None, MOST_ALERTS)),
        )
        found = self._alerts.receivers()
        told: dict[Labels, float] = {
            labels(receiver=one.name, outcome=outcome): getattr(one, outcome)
            for one in found
            for outcome in _OUTCOMES
        }
        yield family("pathgrade_notices", "What became of notices", told, kind="counter")
        waiting = {labels(receiver=one.name): float(one.waiting) for one in found}
        yield family("pathgrade_notices_waiting", "Notices that wait for a receiver", waiting)


def _alert_counts(found: AlertList) -> dict[Labels, float]:
    def state(acked: bool, silenced: bool) -> str:
        return "acknowledged" if acked else "silenced" if silenced else "new"

    counts = Counter((one.severity, state(one.acked_us is not None, bool(one.silence))) for one in found.open)
    return {
        labels(severity=severity.value, state=name): float(counts[severity, name])
        for severity in Severity
        for name in ("new", "acknowledged", "silenced")
    }


def _of_status(status: Status) -> Iterable[Family]:
    for name, help_ in _STATUS.items():
        yield family(f"pathgrade_{name}", help_, float(getattr(status, name)))
    rows = {labels(table=table): float(count) for table, count in status.rows.items()}
    yield family("pathgrade_rows", "Rows kept, by table", rows)
    yield family("pathgrade_start_time_seconds", "When the server started", status.started_us / 1e6)


def _of_own(own: Own) -> Iterable[Family]:
    for name, value in readings(own).items():
        reading = READINGS[name]
        yield family(f"pathgrade_server_{_in_seconds(name)}", reading.help, value, kind=reading.kind)


def _in_seconds(name: str) -> str:
    return f"{name.removesuffix('_s')}_seconds" if name.endswith("_s") else name
