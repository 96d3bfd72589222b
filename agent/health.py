"""What the agent costs its host, and what it lost."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.limits import Governor
from agent.mesh.refusals import Refusals
from analytics.wire import Health, LocalOff
from ebpf.events import Counters

EVERY_S: Final = 30.0
_STATM: Final = Path("/proc/self/statm")  # proc(5): pages; the second is resident
_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


def cpu_us() -> int:
    """CPU time of this process since it started."""
    return time.process_time_ns() // 1_000


def rss_kb() -> int:
    """Resident memory of this process."""
    return int(_STATM.read_text().split()[1]) * _PAGE_KB


def sent_bytes() -> int | None:
    """Count what was sent over UDP so far: tests, and the search for what is in front of this host.

    None where the loop does not count (``agent.mesh.stamps`` has the one that does).
    """
    sent: int | None = getattr(asyncio.get_running_loop(), "sent_bytes", None)
    return sent


def health(
    counters: Counters | None,
    *,
    batches_waiting: int,
    packets_refused: int,
    mesh: bool | None = None,
    local_off: LocalOff | None = None,
    passive_off: LocalOff | None = None,
    bytes_sent: int | None = None,
    refusals: Refusals | None = None,
    grants_refused: Mapping[str, int] | None = None,
    receipts_refused: Mapping[str, int] | None = None,
    governor: Governor | None = None,
    dropped: Mapping[str, int] | None = None,
    servers_refused: int = 0,
) -> Health:
    """Take stock; ``counters`` of the source of sessions, None where there is none."""
    by_kind: dict[str, Any] = {f"packets_{kind}": count for kind, count in (refusals or {}).items()}
    seen, lost, missed = counters or Counters(seen=(), lost=(), missed=0)
    return Health(
        cpu_us=cpu_us(),
        rss_kb=rss_kb(),
        events_seen=sum(seen),
        events_lost=sum(lost),
        events_missed=missed,
        lost_by_cpu=list(lost),
        batches_waiting=batches_waiting,
        packets_refused=packets_refused,
        mesh=mesh,
        local_off=local_off,
        passive_off=passive_off,
        bytes_sent=bytes_sent,
        grants_refused={str(reason): count for reason, count in (grants_refused or {}).items()},
        receipts_refused={str(reason): count for reason, count in (receipts_refused or {}).items()},
        **_shed(governor),
        dropped={what: count for what, count in (dropped or {}).items() if count},
        servers_refused=servers_refused,
        **by_kind,
    )


def line(now: Health) -> str:
    """Put it into one line of the log. Losses are named by CPU, where there are any."""
    by_cpu = ",".join(f"{cpu}:{lost}" for cpu, lost in enumerate(now.lost_by_cpu) if lost)
    return (
        f"health cpu_us={now.cpu_us} rss_kb={now.rss_kb} waiting={now.batches_waiting}"
        f" seen={now.events_seen} lost={now.events_lost} missed={now.events_missed}"
        + (f" lost_by_cpu={by_cpu}" if by_cpu else "")
        + (" mesh=off-here" if now.local_off else "")
        + (" passive=off-here" if now.passive_off else "")
        + (f" packets_refused={_kinds(now)}" if _kinds(now) else "")
        + (f" grants_refused={_counts(now.grants_refused)}" if now.grants_refused else "")
        + (f" receipts_refused={_counts(now.receipts_refused)}" if now.receipts_refused else "")
        + (f" dropped={_counts(now.dropped)}" if now.dropped else "")
        + (f" shed={now.shed!r} why={now.shed_why!r}" if now.shed else "")
        + (f" servers_refused={now.servers_refused}" if now.servers_refused else "")
    )


def _shed(governor: Governor | None) -> dict[str, Any]:
    if governor is None:
        return {}
    return {"shed": governor.shed.words, "shed_why": governor.why, "shed_times": governor.times}


def _kinds(now: Health) -> str:
    kinds = ("forged", "replayed", "unsolicited", "late")
    return _counts({kind: getattr(now, f"packets_{kind}") for kind in kinds})


def _counts(counts: Mapping[str, int]) -> str:
    return ",".join(f"{what}:{count}" for what, count in sorted(counts.items()) if count)
