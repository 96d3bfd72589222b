"""Which pages there are, in the order of the navigation: one table."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """One page in the navigation."""

    key: str  # what a template sets as ``active``
    title: str
    path: str


NAV: Final = (
    Entry("report", "Report", "/"),
    Entry("alerts", "Alerts", "/alerts"),
    Entry("flows", "Flows", "/flows"),
)
