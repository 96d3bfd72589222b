"""How the audit log is followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from server.api.audits import AuditEntry
from server.pages import audit_words

LOOK_S: Final = 2.0


def printed(*, json: bool) -> Callable[[AuditEntry], str]:
    """Choose how a row is printed."""
    return (lambda row: msgspec.json.encode(row).decode()) if json else audit_words.line


def news(last_id: int, rows: Sequence[AuditEntry]) -> list[AuditEntry]:
    """Give the rows after one, oldest first."""
    return sorted((row for row in rows if row.id > last_id), key=lambda row: row.id)


def follow_rows(
    look: Callable[[], list[AuditEntry]],
    line: Callable[[AuditEntry], str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Print rows as they come, until Ctrl-C. Raises what ``look`` does."""
    last_id = -1
    with suppress(KeyboardInterrupt):  # the way out
        while True:
            for row in news(last_id, look()):
                print(line(row), flush=True)
                last_id = row.id
            sleep(LOOK_S)
