"""Who did what to whom, and when: written in the background, in order, within half a second.

Enrolments, logins and changes of accounts are not written here but with what they change, in one transaction.
All of them go through ``server.ledger``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from analytics.clock import now_us
from analytics.wire import LocalOff, TestEnded
from server.api.audits import AuditRow
from server.errors import StateError
from server.state import State

log: Final = logging.getLogger("pathgrade.server.audit")

FLUSH_S: Final = 0.5
MOST_WAITING: Final = 50_000
"""Rows kept while the disk does not take them; then the oldest are dropped, and a row says how many."""
MEASURED: Final = ("rung", "rtt_p50_us", "loss_bp", "sent_bytes")
"""What an audit row has of a test, of each end: the actor's value, a comma, the subject's."""
POLICY_MOST: Final = 500
"""Of the rules' ids that a row names."""


class Audit:
    """Collects a tenant's audit rows on the event loop and writes them from a thread."""

    def __init__(self, state: State, tenant: str, *, clock: Callable[[], int] = now_us) -> None:
        self._state = state
        self._tenant = tenant
        self._clock = clock
        self._waiting: list[AuditRow] = []
        self._lock = threading.Lock()  # who exports is in a thread
        self._lost = 0  # of ``dropped``, those that no row tells of yet
        self.dropped = 0

    def test(self, actor: str, subject: str, *, test: str, cycle: int) -> None:
        """Note that ``actor`` and ``subject`` are told to test each other."""
        self._add("test", actor, subject, f"test={test} cycle={cycle}")

    def tested(
        self, actor: str, subject: str, *, test: str, ends: Mapping[str, TestEnded], why: str = ""
    ) -> None:
        """Note what was measured, by each end's own word, or why a test ended without."""
        told = [ends.get(actor), ends.get(subject)]
        words = [f"test={test}", *(f"{name}={_both(told, name)}" for name in MEASURED)]
        faults = dict.fromkeys(filter(None, [why, *(end.error for end in told if end is not None)]))
        self._add("tested", actor, subject, " ".join([*words, *(f"error={fault!r}" for fault in faults)]))

    def export(self, actor: str, subject: str, *, detail: str, sent_bytes: int, whole: bool) -> None:
        """Note that somebody took a file of rows away, or a part of it."""
        words = [detail, f"bytes={sent_bytes}", "" if whole else "broken off"]
        self._add("export", actor, subject, " ".join(filter(None, words)))

    def switch(self, actor: str, subject: str, *, on: bool) -> None:
        """Note that somebody switched active tests on or off."""
        self._add("switch", actor, subject, f"mesh={'on' if on else 'off'}")

    def own_switch(self, agent: str, switch: str, off: LocalOff | None) -> None:
        """Note what an agent says was switched on its own host, by whoever it says did."""
        by = "" if off is None else f" by={off.by!r} since_us={off.since_us} note={off.note!r}"
        self._add("switch", agent, agent, f"{switch}={'on' if off is None else 'off'} on its own host{by}")

    def tags(self, actor: str, agent: str, *, put: Set[str], taken: Set[str]) -> None:
        """Note that somebody put tags on an agent or took some off."""
        changes = [*(f"+{tag}" for tag in sorted(put)), *(f"-{tag}" for tag in sorted(taken))]
        self._add("tags", actor, agent, ", ".join(changes))

    def budget(self, actor: str, subject: str, *, cpu_bp: int | None, bytes_per_hour: int | None) -> None:
        """Note that somebody set what active tests may take; None: as the wider reach."""
        told = {"cpu_bp": cpu_bp, "bytes_per_hour": bytes_per_hour}
        detail = " ".join(f"{name}={'unset' if value is None else value}" for name, value in told.items())
        self._add("budget", actor, subject, detail)

    def policy(self, actor: str, *, version: int, rules: Sequence[str]) -> None:
        """Note that somebody set who may test whom."""
        told = " ".join(rules)[:POLICY_MOST]
        self._add("policy", actor, f"version {version}", f"rules={len(rules)} {told}".strip())

    def demand(self, actor: str, subject: str, *, run: str, pairs: int) -> None:
        """Note that somebody asked for tests now."""
        self._add("run", actor, subject, f"run={run} pairs={pairs}")

    def mark(self, actor: str, subject: str, *, important: bool) -> None:
        """Note that somebody said what matters."""
        self._add("mark", actor, subject, f"important={'yes' if important else 'no'}")

    def tag(self, actor: str, subject: str, *, service: str) -> None:
        """Note that somebody said what a port serves; empty: nothing."""
        self._add("tag", actor, subject, f"service={service or 'none'}")

    def acknowledge(self, actor: str, subject: str, *, title: str, by: str, note: str) -> None:
        """Note that somebody has seen an alert."""
        self._add("ack", actor, subject, f"alert={title!r} by={by!r} note={note!r}")

    def silence(self, actor: str, subject: str, *, on: bool, matcher: str, note: str) -> None:
        """Note that somebody kept alerts quiet, or no longer."""
        self._add("silence" if on else "unsilence", actor, subject, f"{matcher} note={note!r}" if on else "")

    def test_receiver(self, actor: str, subject: str) -> None:
        """Note that somebody sent a receiver of alerts a test."""
        self._add("alert-test", actor, subject, "")

    async def run(self) -> None:
        """Write rows until cancelled; what is left then is written before it ends."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await asyncio.to_thread(self._write, self._take())
        finally:
            self._write(self._take())

    def _take(self) -> list[AuditRow]:
        with self._lock:
            rows, self._waiting = self._waiting, []
        return rows

    def _write(self, rows: list[AuditRow]) -> None:
        """Write rows, first how many were lost before them; put them back if the state cannot take them now.

        The row that tells of the lost is never put back: as the oldest it would be the next to be lost.
        """
        with self._lock:
            lost, self._lost = self._lost, 0
        told = [self._row("lost", "server", "audit", f"rows={lost}")] if lost else []
        if not (told or rows):
            return
        try:
            self._state.add_audit(self._tenant, [*told, *rows])
        except StateError as error:
            log.error("audit rows kept rows=%d why=%s", len(rows), error)
            with self._lock:
                self._waiting[:0] = rows
                self._lost += lost

    def _add(self, action: str, actor: str, subject: str, detail: str) -> None:
        row = self._row(action, actor, subject, detail)
        with self._lock:
            self._waiting.append(row)
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[0]
                self.dropped += 1
                self._lost += 1

    def _row(self, action: str, actor: str, subject: str, detail: str) -> AuditRow:
        return AuditRow(at_us=self._clock(), actor=actor, action=action, subject=subject, detail=detail)


def _both(ends: Sequence[TestEnded | None], name: str) -> str:
    """Write a value of both ends; what an end did not say or measure is a dash."""
    values = [getattr(end, name, None) for end in ends]
    return ",".join("-" if value is None else str(value) for value in values)
