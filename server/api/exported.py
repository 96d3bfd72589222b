"""Noting who takes rows away as a file: a route that hands one out sends it through ``TheExport``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from server.api.access import Noting, ThePart, TheVisitor

MOST_ASKED: Final = 500
"""Characters kept of what was asked for."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file on its way to somebody."""

    audit: Noting
    actor: str
    asked: str  # the query, as it came

    def sent(self, subject: str, body: bytes) -> bytes:
        """Note a file that goes out in one piece, and give it back."""
        self.audit.export(self.actor, subject, detail=self.asked, sent_bytes=len(body), whole=True)
        return body

    def counted(self, subject: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Send a file piece by piece, and note at its end how much of it went out."""
        size, whole = 0, False
        try:
            for piece in pieces:
                yield piece
                size += len(piece)
            whole = True
        finally:
            self.audit.export(self.actor, subject, detail=self.asked, sent_bytes=size, whole=whole)


async def _export(request: Request, part: ThePart, visitor: TheVisitor) -> Export:
    return Export(part.audit, visitor.name, request.url.query[:MOST_ASKED])


TheExport = Annotated[Export, Depends(_export)]
