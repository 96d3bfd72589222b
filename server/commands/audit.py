"""Which rows of the audit log are asked for, and how it is followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from server.api.core import AuditRow

LOOK_S: Final = 2.0

Fits = Callable[[AuditRow], bool]


def keep(*, actor: str | None, action: str | None, subject: str | None, since_us: int | None) -> Fits:
    """Tell which rows fit: ``actor`` and ``action`` exactly, ``subject`` if it stands anywhere in it."""

    def fits(row: AuditRow) -> bool:
        return (
            actor in (None, row.actor)
            and action in (None, row.action)
            and (subject is None or subject in row.subject)
            and (since_us is None or row.at_us >= since_us)
        )

    return fits


def news(before: Sequence[AuditRow], now: Sequence[AuditRow]) -> list[AuditRow]:
    """Give what came since, oldest first; both are newest first. Rows may be equal in everything."""
    if not before:
        return list(reversed(now))
    # Where the row that was newest stands now; if it is out of sight, all is news.
    places = [place for place, row in enumerate(now) if row == before[0]]
    same = sum(row == before[0] for row in before)
    return list(reversed(now[: places[-same] if len(places) >= same else len(now)]))


def follow_rows(
    look: Callable[[], list[AuditRow]],
    fits: Fits,
    line: Callable[[AuditRow], str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Print rows as they come, until Ctrl-C. Raises what ``look`` does."""
    before: list[AuditRow] = []
    with suppress(KeyboardInterrupt):  # the way out
        while True:
            now = look()
            for row in filter(fits, news(before, now)):
                print(line(row), flush=True)
            before = now
            sleep(LOOK_S)
