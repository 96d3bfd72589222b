"""Which pages there are, in the order of the navigation: one table."""

from __future__ import annotations

from typing import Final, NamedTuple

from server.api.access import Scope


class Entry(NamedTuple):
    """One page in the navigation."""

    key: str  # what a template sets as ``active``
    title: str
    path: str
    scope: Scope = Scope.READ  # whoever may not is not shown it


NAV: Final = (
    Entry("overview", "Overview", "/"),
    Entry("matrix", "Matrix", "/matrix"),
    Entry("map", "Map", "/map"),
    Entry("alerts", "Alerts", "/alerts"),
    Entry("agents", "Agents", "/agents"),
    Entry("services", "Services", "/services"),
    Entry("flows", "Flows", "/flows"),
    Entry("diff", "Changes", "/diff"),
    Entry("sla", "SLA", "/sla"),
    Entry("audit", "Audit", "/audit"),
    Entry("settings", "Settings", "/settings"),
)
