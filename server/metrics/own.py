"""The server's readings of itself: one table for ``/metrics``, for OTLP and for the rules of alerts.

READ FIRST: ``READINGS``. A reading that cannot be taken is None, never 0.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from analytics.clock import now_us
from analytics.errors import AnalyticsError
from analytics.store.shelf import StoreHealth
from server.alerts.receivers.courier import Tally
from server.door import ADDRESS, AGENT, FULL, LONGEST
from server.errors import ServerError
from server.stun import Counters

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
BUSY: Final = 503
"""Told to come again, which is no refusal."""
NOT_OURS: Final = frozenset({401, 408})
"""Whoever knocks without a credential, or breaks off, says nothing about our agents."""


class Stored(Protocol):
    """What is asked of the store."""

    def health(self) -> StoreHealth:
        """Say what happened to it."""

    def counts(self) -> dict[str, int]:
        """Count the rows that are kept, by table."""


@dataclass(slots=True)
class Failures:
    """What went wrong beside requests, counted where it is caught."""

    seal_failures: int = 0
    upkeep_failures: int = 0  # beside those that the store counts itself
    look_failures: int = 0
    otlp_failures: int = 0
    audit_failures: int = 0  # the audit chains were not signed: on disk, or broken


class Dropped(NamedTuple):
    """What found no room, of all tenants."""

    audit_rows: int
    too_slow: int  # connections of agents that did not read what they were sent


@dataclass(slots=True, kw_only=True)
class Own:
    """Where the readings come from."""

    data: Path
    store: Stored
    refused: Counter[int] = field(default_factory=Counter)  # HTTP status -> batches
    doors: Sequence[Sized] = ()  # of all listeners
    stun: Counters = field(default_factory=Counters)
    dropped: Callable[[], Dropped] = lambda: Dropped(0, 0)
    turned_away: Counter[str] = field(default_factory=Counter)  # at the agents' listener, by why
    failures: Failures = field(default_factory=Failures)
    tallies: Callable[[], list[Tally]] = list  # of all receivers
    oldest_waiting_us: Callable[[], int | None] = lambda: None  # since when the oldest notice waits
    clock: Callable[[], int] = now_us


class Reading(NamedTuple):
    """One reading."""

    kind: Literal["gauge", "counter"]
    help: str
    take: Callable[[Own], float | None]


def readings(own: Own) -> dict[str, float | None]:
    """Take all of them; runs in a worker thread."""
    return {name: _taken(reading, own) for name, reading in READINGS.items()}


def _taken(reading: Reading, own: Own) -> float | None:
    try:
        return reading.take(own)
    except (OSError, AnalyticsError, ServerError):
        return None


def _disk_free_percent(own: Own) -> float:
    usage = shutil.disk_usage(own.data)
    return round(100 * usage.free / usage.total, 2)


def _batches(own: Own, which: Callable[[int], bool]) -> float:
    return float(sum(count for status, count in dict(own.refused).items() if which(status)))


def _oldest_alert_waits_s(own: Own) -> float:
    since_us = own.oldest_waiting_us()
    return 0.0 if since_us is None else max(0.0, (own.clock() - since_us) / 1e6)


def _resident_bytes(_own: Own) -> float:
    return float(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES)


def _cpu_seconds(_own: Own) -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _health(name: str) -> Callable[[Own], float]:
    return lambda own: float(getattr(own.store.health(), name))


def _tallied(name: str) -> Callable[[Own], float]:
    return lambda own: float(sum(getattr(tally, name) for tally in own.tallies()))


def _turned_away(*why: str) -> Callable[[Own], float]:
    return lambda own: float(sum(own.turned_away[one] for one in why))


def _failed(name: str) -> Callable[[Own], float]:
    return lambda own: float(getattr(own.failures, name))


READINGS: Final[Mapping[str, Reading]] = {
    "disk_free_percent": Reading("gauge", "Free space where the data folder is", _disk_free_percent),
    "disk_free_bytes": Reading(
        "gauge", "The same in bytes", lambda own: float(shutil.disk_usage(own.data).free)
    ),
    "unsealed_rows": Reading("gauge", "Rows that are not Parquet yet", _health("unsealed_rows")),
    "unsealed_bytes": Reading("gauge", "Bytes of rows that are not Parquet yet", _health("unsealed_bytes")),
    "resident_memory_bytes": Reading("gauge", "Memory of the server's process", _resident_bytes),
    "cpu_seconds": Reading("counter", "CPU time of the server's process", _cpu_seconds),
    "batches_refused": Reading(
        "counter",
        "Batches of agents that will never be taken",
        lambda own: _batches(own, lambda status: 400 <= status < 500 and status not in NOT_OURS),
    ),
    "batches_not_stored": Reading(
        "counter",
        "Batches that the disk or the lake did not take",
        lambda own: _batches(own, lambda status: status >= 500 and status != BUSY),
    ),
    "batches_put_off": Reading(
        "counter", "Batches told to come again", lambda own: _batches(own, lambda status: status == BUSY)
    ),
    "agent_handshakes_failed": Reading(
        "counter",
        "TLS handshakes of agents that failed: another authority, another version, no TLS",
        _turned_away("handshake"),
    ),
    "agents_refused": Reading(
        "counter",
        "Requests of agents without a certificate that holds",
        _turned_away("no certificate", "certificate over", "unknown"),
    ),
    "agents_revoked_refused": Reading(
        "counter", "Requests of agents that were revoked", _turned_away("revoked")
    ),
    "enrolments_refused": Reading(
        "counter", "Enrolments refused: the token, or the name", _turned_away("enrolment")
    ),
    "enrolments_put_off": Reading(
        "counter", "Enrolments of an address that had failed too often", _turned_away("enrolment throttled")
    ),
    "audit_rows_dropped": Reading(
        "counter",
        "Audit rows that found no room while the disk took none",
        lambda own: float(own.dropped().audit_rows),
    ),
    "agents_too_slow": Reading(
        "counter",
        "Connections of agents that left too many messages unread",
        lambda own: float(own.dropped().too_slow),
    ),
    "stun_answered": Reading("counter", "STUN requests answered", lambda own: float(own.stun.answered)),
    "stun_refused": Reading(
        "counter", "STUN requests for what is not known here", lambda own: float(own.stun.refused)
    ),
    "stun_dropped": Reading(
        "counter", "Datagrams to STUN that are none", lambda own: float(own.stun.dropped)
    ),
    "connections": Reading(
        "gauge", "Open connections of all listeners", lambda own: float(sum(map(len, own.doors)))
    ),
    "connections_refused": Reading(
        "counter",
        "Connections turned away: too many in all, of one address or agent, or of strangers",
        _turned_away(FULL, ADDRESS, LONGEST, AGENT),
    ),
    "renewals_refused": Reading("counter", "Certificates that were not renewed", _turned_away("renewal")),
    "upkeep_failures": Reading(
        "counter",
        "Rolling up or compacting that failed",
        lambda own: own.store.health().upkeep_failures + float(own.failures.upkeep_failures),
    ),
    "seal_failures": Reading("counter", "Sealings that failed", _failed("seal_failures")),
    "torn_tails": Reading("counter", "Segments whose end was cut by a crash", _health("torn_tails")),
    "frames_set_aside": Reading(
        "counter", "Batches in the spool that did not read", _health("frames_set_aside")
    ),
    "files_set_aside": Reading("counter", "Parquet files that could not be read", _health("files_set_aside")),
    "look_failures": Reading("counter", "Looks for alerts that broke off", _failed("look_failures")),
    "otlp_failures": Reading("counter", "OTLP exports that were not taken", _failed("otlp_failures")),
    "audit_failures": Reading(
        "counter",
        "Times that audit rows were not signed: no disk, or rows changed",
        _failed("audit_failures"),
    ),
    "alerts_delivered": Reading("counter", "Notices that receivers took", _tallied("sent")),
    "alert_attempts_failed": Reading(
        "counter", "Attempts to deliver a notice that failed", _tallied("failed")
    ),
    "alerts_refused": Reading("counter", "Notices that a receiver will never take", _tallied("refused")),
    "alerts_given_up": Reading("counter", "Notices that were tried for too long", _tallied("given_up")),
    "oldest_alert_waits_s": Reading("gauge", "How long the oldest notice has waited", _oldest_alert_waits_s),
}
"""Name -> reading. Names are those of rules and, with ``pathgrade_server_`` before it, of metrics."""
