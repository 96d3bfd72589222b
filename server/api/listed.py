"""A piece of the ranked list of paths: those that fit, from some place on. Pure."""

from __future__ import annotations

from collections.abc import Collection

from analytics.measurement import Letter
from analytics.report import PathRow, Report


class PathList(Report, frozen=True, kw_only=True):
    """A report whose ``paths`` are those that fit a question, cut to a piece; worst first."""

    fitting: int  # paths of the report that fit
    start: int  # place of the first of ``paths`` among them
    next: int | None  # where the next piece begins; None: there is none


def listed(
    report: Report,
    *,
    agents: Collection[str] | None = None,
    letters: Collection[Letter] = (),
    start: int = 0,
    limit: int | None = None,
) -> PathList:
    """Keep paths with one of ``agents`` at an end (None: all) and one of ``letters`` (none: all)."""
    fitting = [row for row in report.paths if _fits(row, agents, letters)]
    end = len(fitting) if limit is None else min(len(fitting), start + limit)
    told = {name: getattr(report, name) for name in report.__struct_fields__}
    return PathList(
        **{**told, "paths": fitting[start:end]},
        fitting=len(fitting),
        start=start,
        next=end if end < len(fitting) else None,
    )


def _fits(row: PathRow, agents: Collection[str] | None, letters: Collection[Letter]) -> bool:
    has_agent = agents is None or row.src in agents or row.dst in agents
    return has_agent and (not letters or row.grade.letter in letters)
