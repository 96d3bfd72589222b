"""Receipts of one test: this end signs its own reading, and the peer's if that agrees with what it saw.

What an end can tell of the other's direction, and holds it to (``why_not``): which test it was, and between
whom; how many probes were sent, and how many of them arrived, by its own count; the rung; that the least and
the median round trip are those it measured on the same link, within ``NEAR``; that no more capacity is
claimed than it saw arrive; and when it was. The rest is the word of the end that measured.

A refusal harms no test: the receipt then has one signature, and says why.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from agent.keyholder import KeyHolder
from agent.mesh.channel import Channel
from agent.mesh.packet import PART_BYTES, Counters, ReceiptPart, Witnessed
from agent.mesh.probe import RttSummary
from analytics import receipts
from analytics.batch import SCHEMA_VERSION
from analytics.errors import SealError
from analytics.measurement import Reading, Receipt, Rung
from analytics.trust import SIGNATURE_BYTES, key_text
from analytics.wire import TestOrder

LAYOUT: Final = SCHEMA_VERSION
"""What this end signs; with a peer that knows only earlier ones, the latest of those."""
WITHIN_S: Final = 5.0
"""How long the peer is asked; a host that is held up for longer gives no signature."""
CLOCKS_APART_US: Final = 600_000_000
"""Ten minutes: more than hosts that keep their time are ever apart. Who does not is given no signature."""


def common_layout(theirs: int) -> int:
    """Choose the layout of both ends' receipts; 0 where there is none that both know."""
    known = min(LAYOUT, theirs)
    return known if known >= receipts.OLDEST_LAYOUT else 0


class Reason(StrEnum):
    """Why a receipt has one signature only. What an end refuses to sign is counted by it."""

    MALFORMED = "malformed"
    FORGED = "signature"  # not by the key that the order names
    OTHER_TEST = "another-test"
    OTHER_ENDS = "other-ends"
    BROKE_OFF = "broke-off"
    COUNTS = "counts"
    RUNG = "rung"
    RTT = "rtt"
    CAPACITY = "capacity"
    TIMES = "times"
    # Nobody looked:
    NOT_CONNECTED = "not-connected"
    NO_RECEIPTS = "peer-too-old"
    SILENT = "peer-silent"
    NOT_ASKED = "not-asked-for"


class Near(NamedTuple):
    """How far two ends' figures of one link may be apart: so much, and a share of the greater one."""

    us: int
    share: float

    def holds(self, one: int | None, other: int | None) -> bool:
        """Whether two figures are so near; where one was not measured, nothing speaks against it."""
        return one is None or other is None or abs(one - other) <= self.us + self.share * max(one, other)


NEAR: Final = {"rtt_min_us": Near(1_000, 0.25), "rtt_p50_us": Near(5_000, 0.5)}
"""Both ends sample the same two ways at the same time, so that these differ by chance and by stamps only."""


class Told(NamedTuple):
    """What this end told the peer of the peer's probes."""

    received: int
    duplicated: int
    reordered: int
    bursts: int | None
    longest: int | None

    @classmethod
    def of(cls, counters: Counters) -> Told:
        """As the peer writes it into its reading."""
        longest = max((length for _, length in counters.runs), default=0)
        bursts = counters.bursts
        heard = (counters.received, counters.duplicated, counters.reordered)
        return cls(*heard, bursts, None if bursts is None else longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What this end knows of the direction that the peer measured."""

    told: Collection[Told]  # of all its probes; it asks again where it lacks a stamp
    rung: Rung
    rtt: RttSummary  # this end's own, over the same link
    most_kbps: int | None  # of the peer's trains
    now_us: int


def why_not(reading: Reading, order: TestOrder, tenant: str, me: str, seen: Seen) -> Reason | None:
    """Say why the peer's reading is not signed; None if it is."""
    lasted_us = reading.ended_us - reading.started_us
    apart_us = max(abs(seen.now_us - reading.started_us), abs(seen.now_us - reading.ended_us))
    checks = {
        Reason.OTHER_TEST: (reading.tenant, reading.test, reading.cycle) == (tenant, order.test, order.cycle),
        Reason.OTHER_ENDS: (reading.src, reading.dst) == (order.peer, me),
        Reason.BROKE_OFF: not reading.error,
        Reason.COUNTS: reading.sent == order.plan.probes and counts(reading) in seen.told,
        Reason.RUNG: reading.rung is seen.rung,
        Reason.RTT: is_near(reading, seen.rtt),
        Reason.CAPACITY: (reading.capacity_kbps or 0) <= (seen.most_kbps or 0),
        Reason.TIMES: 0 <= lasted_us <= order.deadline_us and apart_us <= CLOCKS_APART_US,
    }
    return next((reason for reason, holds in checks.items() if not holds), None)


def counts(reading: Reading) -> Told:
    """What a reading says that the other end told."""
    lost = (reading.loss_bursts, reading.loss_longest)
    return Told(reading.received, reading.duplicated, reading.reordered, *lost)


def is_near(reading: Reading, own: RttSummary) -> bool:
    """Whether the round trips of both ends are of one link; an end that has none cannot tell."""
    mine = {"rtt_min_us": own.min_us, "rtt_p50_us": own.percentiles_us.get(50)}
    return all(near.holds(getattr(reading, name), mine[name]) for name, near in NEAR.items())


def parts_of(whole: bytes) -> list[ReceiptPart]:
    """Cut what is signed into asks that the channel takes."""
    pieces = [whole[at : at + PART_BYTES] for at in range(0, len(whole), PART_BYTES)]
    return [ReceiptPart(part, len(pieces), data) for part, data in enumerate(pieces)]


class Signing:
    """Signs for this end of one test, and judges what the other signed. ``refused`` counts by ``Reason``."""

    def __init__(
        self,
        order: TestOrder,
        *,
        me: str,
        tenant: str,
        key: KeyHolder,
        wall_us: Callable[[], int],
    ) -> None:
        self.refused: Counter[str] = Counter()
        self._order = order
        self._me = me
        self._tenant = tenant
        self._key = key
        self._wall_us = wall_us
        self._parts: dict[int, ReceiptPart] = {}
        self._answer: Witnessed | None = None

    # --- this end's reading -------------------------------------------------------------------------------

    def sign(self, reading: Reading, why: Reason, layout: int = LAYOUT) -> Receipt | None:
        """Sign alone, and say why: what stands until the peer has signed. None if it cannot be laid out."""
        try:
            body = receipts.encode(reading, layout)
        except SealError:
            return None
        return Receipt(
            tenant=reading.tenant,
            cycle=reading.cycle,
            test=reading.test,
            src=reading.src,
            dst=reading.dst,
            layout=layout,
            signed_us=max(0, self._wall_us()),
            src_key=key_text(self._key.public_key),
            src_signature=receipts.signature_text(receipts.sign_sent(body, self._key)),
            why_not=why,
        )

    async def offer(self, reading: Reading, alone: Receipt, channel: Channel) -> Receipt:
        """Have the peer sign, too. Raises ``PeerSilentError``."""
        body = receipts.encode(reading, alone.layout)
        whole = receipts.signature_bytes(alone.src_signature) + body
        asks = [channel.ask(part, Witnessed, within_s=WITHIN_S) for part in parts_of(whole)]
        answers = await asyncio.gather(*asks, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        settled = [answer for answer in answers if isinstance(answer, Witnessed) and answer.settled]
        return self._countersigned(body, alone, settled[0] if settled else Witnessed(settled=True))

    def _countersigned(self, body: bytes, alone: Receipt, answer: Witnessed) -> Receipt:
        if answer.why:
            return msgspec.structs.replace(alone, why_not=f"refused: {answer.why}"[:40])
        try:
            receipts.check_seen(body, answer.signature, self._order.peer_identity_key)
        except SealError:
            self.refused[Reason.FORGED] += 1
            return msgspec.structs.replace(alone, why_not=Reason.FORGED)
        return msgspec.structs.replace(
            alone,
            dst_key=key_text(self._order.peer_identity_key),
            dst_signature=receipts.signature_text(answer.signature),
            why_not="",
        )

    # --- the peer's reading -------------------------------------------------------------------------------

    def witness(self, part: ReceiptPart, seen: Callable[[], Seen]) -> Witnessed:
        """Take a part of the peer's reading; the last one brings this end's signature, or why not.

        One reading a test: whatever comes after it is given the same answer.
        """
        if self._answer is not None:
            return self._answer
        self._parts.setdefault(part.part, part)
        if part.part >= part.parts or {one.parts for one in self._parts.values()} != {part.parts}:
            return self._refuse(Reason.MALFORMED)
        if len(self._parts) < part.parts:
            return Witnessed(settled=False)
        whole = b"".join(one.data for _, one in sorted(self._parts.items()))
        return self._judged(whole[:SIGNATURE_BYTES], whole[SIGNATURE_BYTES:], seen())

    def _judged(self, signature: bytes, body: bytes, seen: Seen) -> Witnessed:
        try:
            receipts.check_sent(body, signature, self._order.peer_identity_key)
        except SealError:
            return self._refuse(Reason.FORGED)
        try:
            reading, _ = receipts.decode(body)
        except SealError:
            return self._refuse(Reason.MALFORMED)
        wrong = why_not(reading, self._order, self._tenant, self._me, seen)
        if wrong is not None:
            return self._refuse(wrong)
        self._answer = Witnessed(settled=True, signature=receipts.sign_seen(body, self._key))
        return self._answer

    def _refuse(self, reason: Reason) -> Witnessed:
        self.refused[reason] += 1
        self._answer = Witnessed(settled=True, why=reason)
        return self._answer
