"""What surrounds every page: for which profile, at what moment, for whom; and links that keep the two.

A route takes ``TheFrame`` and hands it to ``server.pages.render.page``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import Depends, Request

from analytics.clock import now_us
from server.api.access import TheCore, TheVisitor, Visitor
from server.api.core import Status
from server.api.events import revision_of
from server.api.moments import At, read_moment
from server.api.problem import ProblemError
from server.api.routes import Profile, profile_of
from server.pages import text

AGO_S: Final = {"1 hour ago": 3_600, "1 day ago": 86_400, "1 week ago": 7 * 86_400}
"""Moments that the layout offers with one click."""
MOST_FIELDS: Final = 20
"""Of a page's own question that its links keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the layout shows around a page, and what the page's links keep."""

    status: Status
    visitor: Visitor
    path: str  # of this page, as a link has it
    fields: tuple[tuple[str, str], ...]  # of the question, but profile and moment
    profile: str
    asked: bool  # the profile was chosen: links keep it
    profiles: list[str]
    at_us: int | None  # the past moment that is shown; None = now
    now_us: int
    revision: str  # of what is shown: only what is newer is told; empty for the past

    def link(self, path: str, **fields: str) -> str:
        """Address another page for the chosen profile and moment; a field that is empty is left out."""
        return _address(path, {**self._kept(), **fields})

    def here(self, **fields: str) -> str:
        """Address this page with other fields; one that is empty is left out."""
        return _address(self.path, {**dict(self.fields), **self._kept(), **fields})

    def ago(self) -> list[tuple[str, str]]:
        """Offer moments of the past: each in words, and this page at it."""
        return [(words, self.here(at=text.iso(self.now_us - s * 1_000_000))) for words, s in AGO_S.items()]

    @property
    def moment(self) -> str:
        """The past moment as a link has it; empty for now."""
        if self.at_us is None:
            return ""
        return str(self.at_us) if self.at_us % 1_000_000 else text.iso(self.at_us)

    @property
    def events(self) -> str:
        """Where the changes of what this page shows are told."""
        return _address("/v1/events", {"profile": self.profile, "since": self.revision})

    def _kept(self) -> dict[str, str]:
        return {"profile": self.profile if self.asked else "", "at": self.moment}


def _address(path: str, fields: dict[str, str]) -> str:
    query = urlencode([(name, value) for name, value in fields.items() if value])
    return f"{path}?{query}" if query else path


def at_of(asked: str | None, now_us: int) -> int | None:
    """Read a past moment; None where none was asked for. Raises ``ProblemError`` (422)."""
    at_us = read_moment("at", asked)
    if at_us is not None and at_us > now_us:
        raise ProblemError(422, f"{asked!r} is yet to come", remedy="name a past moment; times are UTC")
    return at_us


def _frame(
    request: Request, core: TheCore, visitor: TheVisitor, profile: Profile = None, at: At = None
) -> Frame:
    now = now_us()
    at_us, graded_for, status = at_of(at, now), profile_of(core, profile or None), core.status()
    own = [item for item in request.query_params.multi_items() if item[0] not in {"profile", "at"}]
    return Frame(
        status=status,
        visitor=visitor,
        path=quote(request.scope["path"]),
        fields=tuple(own[:MOST_FIELDS]),
        profile=graded_for,
        asked=bool(profile),
        profiles=core.profiles(),
        at_us=at_us,
        now_us=now,
        # Read before what the page shows: what changes meanwhile is told again rather than never.
        revision=revision_of(core.revision(graded_for), status) if at_us is None else "",
    )


TheFrame = Annotated[Frame, Depends(_frame)]
