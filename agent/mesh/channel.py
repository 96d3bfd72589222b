"""What the two ends say to each other on a connected link: probes, raw datagrams, and asks with answers.

Asks are repeated until they are answered, so every handler must give the same answer to a repetition.
Whatever does not read, is not expected, or comes from a stranger is refused and counted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from agent.errors import MeshError, PeerSilentError
from agent.mesh.packet import (
    Answer,
    Ask,
    Control,
    PacketError,
    Probe,
    Raw,
    RawKind,
    decode_message,
    decode_raw,
    encode_control,
)
from agent.mesh.refusals import Refusal, Refusals
from agent.mesh.stamps import Arrival, IcmpError, OnSent

ASK_FIRST_S: Final = 0.25  # until the first repetition; doubles
ASK_MOST_S: Final = 0.5
ASK_GIVE_UP_S: Final = 10.0  # 21 tries: one in a million fails at 30 % loss each way
MOST_RAW: Final = 4_096  # remembered to tell copies: eight trains, and then some

T = TypeVar("T")


class Link(Protocol):
    """What the channel needs of a secured link (``agent.mesh.ice.SecureLink``, or a test's)."""

    on_message: Callable[[bytes, Arrival, bool], None] | None
    on_raw: Callable[[bytes, Arrival], None] | None
    on_icmp: Callable[[IcmpError], None] | None
    on_closed: Callable[[], None] | None

    def send(self, message: bytes, on_sent: OnSent | None = None) -> bool:
        """Send one message; ``on_sent`` gets the kernel's transmit stamp if there is one."""


class Channel:
    """Dispatches what arrives on one link; owns the asks under way."""

    def __init__(self, link: Link) -> None:
        self.on_probe: Callable[[Probe, Arrival, bool], None] | None = None
        self.on_ask: Callable[[Ask], Answer] | None = None
        self.on_raw: dict[RawKind, Callable[[Raw, Arrival], bool]] = {}  # False: refused
        self.refused = 0
        self.refusals = Refusals()
        self._link = link
        self._numbers = itertools.count(1)
        self._last_number = 0
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._closed: MeshError | None = None
        self._raws: OrderedDict[tuple[RawKind, bytes, int, int], None] = OrderedDict()
        link.on_message = self._on_message
        link.on_raw = self._on_raw
        link.on_closed = self._on_closed

    def refuse(self, kind: Refusal) -> None:
        """Count a packet that is dropped."""
        self.refused += 1
        self.refusals[kind] += 1

    def send_probe(self, probe: Probe, on_sent: OnSent | None = None) -> bool:
        """Send a probe request or reply."""
        return self._link.send(probe.encode(), on_sent)

    async def ask(self, body: Ask, kind: type[T], *, within_s: float | None = None) -> T:
        """Ask until the answer comes. Raises ``PeerSilentError`` if none does in time."""
        within_s = ASK_GIVE_UP_S if within_s is None else within_s
        number = self._last_number = next(self._numbers)
        message = encode_control(Control(number, body))
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            async with asyncio.timeout(within_s):
                answer = await self._repeat(message, answered)
        except TimeoutError:
            raise PeerSilentError(
                f"the peer did not answer {type(body).__name__!r} within {within_s:.0f} s"
            ) from None
        finally:
            del self._asked[number]
        if not isinstance(answer, kind):
            raise PeerSilentError(f"the peer answered {type(body).__name__!r} with {type(answer).__name__!r}")
        return answer

    async def _repeat(self, message: bytes, answered: asyncio.Future[Answer]) -> Answer:
        pause_s = ASK_FIRST_S
        while True:
            if self._closed is not None:
                raise self._closed
            self._link.send(message)
            done, _ = await asyncio.wait([answered], timeout=pause_s)
            if done:
                return answered.result()
            pause_s = min(2 * pause_s, ASK_MOST_S)

    def _on_message(self, data: bytes, arrival: Arrival, copy: bool) -> None:
        try:
            message = decode_message(data)
        except PacketError:
            self.refuse(Refusal.FORGED)
            return
        if isinstance(message, Control):
            self._on_control(message)
        elif self.on_probe is not None:
            self.on_probe(message, arrival, copy)

    def _on_control(self, control: Control) -> None:
        if isinstance(control.body, Ask):
            if self.on_ask is not None:
                self._link.send(encode_control(Control(control.number, self.on_ask(control.body))))
            return
        asked = self._asked.get(control.number)
        if asked is not None and not asked.done():
            asked.set_result(control.body)
        elif control.number > self._last_number:
            self.refuse(Refusal.UNSOLICITED)
        # Else an answer to a repetition of an ask that was answered: the price of repeating.

    def _on_raw(self, data: bytes, arrival: Arrival) -> None:
        try:
            raw = decode_raw(data)
        except PacketError:
            self.refuse(Refusal.FORGED)
            return
        handler = self.on_raw.get(raw.kind)
        if handler is None:
            self.refuse(Refusal.UNSOLICITED)
        elif self._is_copy(raw):
            self.refuse(Refusal.REPLAYED)
        elif not handler(raw, arrival):
            self.refuse(Refusal.FORGED)

    def _is_copy(self, raw: Raw) -> bool:
        """Tell a datagram that came before. A hop probe is answered each time: its answer is no larger."""
        key = (raw.kind, raw.token, raw.sequence, raw.sent_ns)
        if raw.kind is RawKind.HOP_PROBE or key not in self._raws:
            self._raws[key] = None
            if len(self._raws) > MOST_RAW:
                self._raws.popitem(last=False)
            return False
        return True

    def _on_closed(self) -> None:
        self.give_up(PeerSilentError("the peer closed the connection"))

    def give_up(self, why: MeshError) -> None:
        """Ask nothing any more: what is asked now ends with ``why``."""
        self._closed = why
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(why)
