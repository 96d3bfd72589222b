"""Facts by hand, for tests of the analytics: only tests import this."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from analytics.batch import check_batch, pack_batch
from analytics.measurement import CapacityTrust, Flow, Hop, Reading, Rung, StampSource
from analytics.report import Member, Service
from analytics.store.store import Store

AT_US = 1_795_464_000_000_000  # 2026-11-23 20:00:00 UTC
CYCLE = AT_US // 1_000_000 - 60


def reading(src: str = "pacs", dst: str = "radiologist", *, rtt_us: int = 30_000, **changes: Any) -> Reading:
    """A clean reading of ``rtt_us``, 100 Mbit/s and no loss in 300 probes, 12 s old."""
    base = Reading(
        tenant="default",
        cycle=CYCLE,
        test="-".join(sorted((src, dst))),
        src=src,
        dst=dst,
        started_us=AT_US - 30_000_000,
        ended_us=AT_US - 12_000_000,
        rung=Rung.SRFLX,
        sent=300,
        received=300,
        rtt_n=300,
        rtt_min_us=rtt_us,
        rtt_p25_us=rtt_us,
        rtt_p50_us=rtt_us,
        rtt_p75_us=rtt_us,
        rtt_p90_us=rtt_us,
        rtt_p95_us=rtt_us,
        rtt_p99_us=rtt_us,
        capacity_kbps=100_000,
        capacity_trust=CapacityTrust.MEASURED,
        stamps=StampSource.KERNEL,
    )
    return msgspec.structs.replace(base, **changes)


def hop(ttl: int, address: str, rtt_us: int | None, *, end: bool = False, **changes: Any) -> Hop:
    base = Hop(
        tenant="default",
        cycle=CYCLE,
        test="pacs-radiologist",
        src="pacs",
        dst="radiologist",
        ttl=ttl,
        address=address,
        is_end=int(end),
        sent=6,
        answered=0 if rtt_us is None else 6,
        rtt_min_us=rtt_us,
        rtt_p50_us=rtt_us,
        rtt_p95_us=rtt_us,
    )
    return msgspec.structs.replace(base, **changes)


def trace(*told: tuple[str, int | None], **changes: Any) -> list[Hop]:
    """Hops from (address, us) pairs; the last one is the end."""
    return [
        hop(ttl, address, rtt_us, end=ttl == len(told), **changes)
        for ttl, (address, rtt_us) in enumerate(told, start=1)
    ]


def flow(agent: str = "pacs", **changes: Any) -> Flow:
    base = Flow(
        tenant="default",
        agent=agent,
        window_us=AT_US - 20_000_000,
        window_length_us=10_000_000,
        process="Orthanc",
        remote_address="203.0.113.20",
        service_port=4242,
    )
    return msgspec.structs.replace(base, **changes)


PACS = Service(name="PACS", profile="pacs", agent="pacs", port=4242)
MEMBERS = [
    Member(name="pacs", site="hospital", label="the PACS", services=[PACS]),
    Member(name="radiologist", site="hotel", label="the radiologist"),
    Member(name="home", site="home", label="the home reader"),
    Member(name="clinic", site="clinic", label="the clinic"),
    Member(name="office-1", site="office"),
    Member(name="office-2", site="office"),
]


def body(agent: str, batch: int, boot: str = "00c0ffee", **tables: list[Any]) -> bytes:
    return pack_batch(agent=agent, boot=boot, batch=batch, tables=tables)


def put(store: Store, *bodies: bytes, tenant: str = "default") -> list[bool]:
    """Append bodies at once, as a server with many senders does."""

    async def run() -> list[bool]:
        return await asyncio.gather(*(store.append(check_batch(b), b, tenant) for b in bodies))

    return asyncio.run(run())
