"""What pages ask of a whole fleet, answered from a large one's board, or from a small one's report."""

from __future__ import annotations

from abc import ABC, abstractmethod

from analytics import cut
from analytics.overview import (
    AGENT_PATHS_SHOWN,
    WORST_SHOWN,
    AgentPaths,
    MatrixCells,
    Metric,
    Overview,
    SitePaths,
    Worst,
)
from analytics.report import Report
from server.board import Ready


class Showing(ABC):
    """The part of ``server.core.Core`` that answers these. For several threads."""

    @abstractmethod
    def _ready(self, at_us: int | None = None) -> Ready | None:
        """The board; None for a small fleet, which has none."""

    @abstractmethod
    def report(self, profile: str, at_us: int | None = None) -> Report:
        """As ``ReportCore``."""

    def revision(self, profile: str) -> str:
        """As ``ReportCore``."""
        kept = self._ready()
        return cut.revision_of(self.report(profile)) if kept is None else kept.board.revision(profile)

    def overview(self, profile: str, at_us: int | None = None) -> Overview:
        """As ``ReportCore``."""
        kept = self._ready(at_us)
        if kept is None:
            return cut.overview_of(self.report(profile, at_us))
        return kept.board.profiles[profile].overview

    def sites(self, profile: str, at_us: int | None = None) -> list[SitePaths]:
        """As ``ReportCore``."""
        kept = self._ready(at_us)
        if kept is None:
            return cut.site_paths_of(self.report(profile, at_us))
        return list(kept.board.profiles[profile].sites)

    def matrix(self, profile: str, metric: Metric, at_us: int | None = None) -> MatrixCells:
        """As ``ReportCore``."""
        kept = self._ready(at_us)
        if kept is None:
            return cut.cells_of(self.report(profile, at_us), metric)
        return kept.board.cells(profile, metric)

    def agent_paths(
        self, agent: str, profile: str, at_us: int | None = None, limit: int = AGENT_PATHS_SHOWN
    ) -> AgentPaths:
        """As ``ReportCore``."""
        kept = self._ready(at_us)
        if kept is None:
            return cut.agent_paths_of(self.report(profile, at_us), agent, limit)
        return kept.board.agent_paths(agent, profile, limit)

    def worst(
        self, profile: str, limit: int = WORST_SHOWN, start: int = 0, at_us: int | None = None
    ) -> Worst:
        """As ``ReportCore``."""
        kept = self._ready(at_us)
        if kept is None:
            return cut.worst_of(self.report(profile, at_us), limit, start)
        return kept.board.worst(profile, limit, start)
