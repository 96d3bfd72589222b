"""Does what the server orders: pair tests, one at a time, each with its own way to the peer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agent import health
from agent.errors import ServerSilentError, SignallingError
from agent.outbox import Outbox
from analytics.measurement import Hop, Reading, Receipt, Rung
from analytics.memory import tidy
from analytics.wire import (
    FromAgent,
    FromServer,
    LocalOff,
    MeshSwitch,
    Notice,
    Signal,
    SignalBody,
    TestCancel,
    TestEnded,
    TestOrder,
    Welcome,
)

log: Final = logging.getLogger("pathgrade.agent.orders")

MOST_ORDERS: Final = 4
"""Accepted and not done: the server orders one at a time, but a cancelled one may still be clearing up."""
LOGGED: Final = 200
"""Of what a server says, in a line of this host's log."""
MOST_SIGNALS: Final = 64
"""From the peer, not read yet: a test needs some ten. More are dropped, and the test fails by itself."""


class Result(Protocol):
    """What this module needs of ``agent.mesh.pair.PairResult``."""

    @property
    def reading(self) -> Reading:
        """The direction that this end sent."""

    @property
    def hops(self) -> list[Hop]:
        """Its hops."""

    @property
    def refused(self) -> int:
        """Packets that were forged, damaged, or nobody's."""

    @property
    def receipt(self) -> Receipt | None:
        """What was signed of the reading; None where the order did not ask for it."""


class Link:
    """A test's way to its peer through the server: ``agent.mesh.pair.Signalling``."""

    def __init__(self, test: str, say: Callable[[FromAgent], Awaitable[None]]) -> None:
        self._test = test
        self._say = say
        self._inbox: asyncio.Queue[SignalBody] = asyncio.Queue(MOST_SIGNALS)

    async def send(self, body: SignalBody) -> None:
        """Hand a message to the server for the peer; raises ``SignallingError``."""
        try:
            await self._say(Signal(test=self._test, body=body))
        except ServerSilentError as error:
            raise SignallingError(f"signal to the peer: {error}") from error

    async def receive(self) -> SignalBody:
        """Wait for the peer's next message."""
        return await self._inbox.get()

    def deliver(self, body: SignalBody) -> bool:
        """Put a message from the peer in; False if there is no room."""
        try:
            self._inbox.put_nowait(body)
        except asyncio.QueueFull:
            return False
        return True


Tester = Callable[[TestOrder, Link], Awaitable[Result]]
"""``agent.mesh.pair.test_pair``, with everything that is the same for all tests filled in."""


@dataclass(slots=True)
class Ordered:
    """A test that was accepted and is not done."""

    link: Link
    task: asyncio.Task[None] = field(init=False)


class Orders:
    """Takes the server's messages.

    ``saved`` is called when a test's rows are on disk, ``switched`` when the server has said whether active
    tests are on. A connection begins with them on, whatever was said on the one before. ``local_off`` is what
    was switched on this host itself; the server's word does nothing against it.
    """

    def __init__(
        self,
        tester: Tester | None,
        outbox: Outbox,
        say: Callable[[FromAgent], Awaitable[None]],
        *,
        saved: Callable[[], None] = lambda: None,
        switched: Callable[[bool], None] = lambda on: None,
        cpu_us: Callable[[], int] = health.cpu_us,
        local_off: LocalOff | None = None,
    ) -> None:
        self._tester = tester
        self._outbox = outbox
        self._say = say
        self._saved = saved
        self._switched = switched
        self._cpu_us = cpu_us
        self._ordered: dict[str, Ordered] = {}
        self._one_at_a_time = asyncio.Lock()
        self._server_on = True
        self.local_off = local_off
        self._telling: set[asyncio.Task[None]] = set()
        self.packets_refused = 0
        self.signals_dropped = 0
        self._held = ""
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            TestOrder: self._on_order,
            TestCancel: self._on_cancel,
            Signal: self._on_signal,
            MeshSwitch: self._on_switch,
            Welcome: self._on_welcome,
            Notice: _on_notice,
        }

    def take(self, message: FromServer) -> None:
        """Act on one message."""
        self._handlers[type(message)](message)

    def cancel_all(self) -> None:
        """Stop every test: the connection to the server is gone, and with it the way to the peers."""
        for ordered in self._ordered.values():
            ordered.task.cancel()

    async def close(self) -> None:
        """Stop every test and wait until its sockets are closed."""
        self.cancel_all()
        tasks = [ordered.task for ordered in self._ordered.values()]
        await asyncio.gather(*tasks, *self._telling, return_exceptions=True)

    def hold(self, why: str) -> None:
        """Refuse every order from now on, and stop what runs, for this reason; empty: follow them again.

        The server is told of what is stopped: nobody else ended it, and it would wait for the deadline.
        """
        self._held = why
        if why:
            for test, ordered in self._ordered.items():
                if not ordered.task.cancelling():
                    self._refuse(test, why)
            self.cancel_all()

    # --- what the server may say -------------------------------------------------------------------------

    def _on_order(self, order: TestOrder) -> None:
        why = self._why_not(order)
        if why:
            self._refuse(order.test, why)
            return
        ordered = Ordered(Link(order.test, self._say))
        self._ordered[order.test] = ordered
        ordered.task = asyncio.create_task(self._run(order, ordered.link))
        ordered.task.add_done_callback(lambda _: self._ordered.pop(order.test, None))

    def _why_not(self, order: TestOrder) -> str:
        if self.local_off is not None:
            return "active tests are switched off on this agent's own host"
        if not self.on:
            return "active tests are off on this agent"
        if self._held:
            return self._held
        if order.test in self._ordered or len(self._ordered) >= MOST_ORDERS:
            return "busy with other tests"
        return ""

    def _on_cancel(self, message: TestCancel) -> None:
        ordered = self._ordered.get(message.test)
        if ordered is not None:
            log.info("test cancelled test=%s why=%r", message.test, message.why[:LOGGED])
            ordered.task.cancel()

    def _on_signal(self, message: Signal) -> None:
        ordered = self._ordered.get(message.test)
        if ordered is not None and not ordered.link.deliver(message.body):
            self.signals_dropped += 1
            log.warning("signal dropped test=%s: %d not read", message.test, MOST_SIGNALS)

    def _on_welcome(self, message: Welcome) -> None:
        log.info("welcome server_version=%s", message.server_version[:40])
        self._switch(on=True)

    def _on_switch(self, message: MeshSwitch) -> None:
        self._switch(on=message.on)
        log.info("active tests %s", "on" if self.on else "off")

    def _switch(self, *, on: bool) -> None:
        self._server_on = on
        self._obey()

    def switch_here(self, off: LocalOff | None) -> None:
        """Take what was switched on this host; None = on."""
        self.local_off = off
        self._obey()

    def _obey(self) -> None:
        if not self.on:
            self.cancel_all()
        self._switched(self.on)

    @property
    def on(self) -> bool:
        """Whether active tests are on here."""
        return self._server_on and self.local_off is None and self._tester is not None

    # --- one test ----------------------------------------------------------------------------------------

    async def _run(self, order: TestOrder, link: Link) -> None:
        assert self._tester is not None
        async with self._one_at_a_time:
            began_us = self._cpu_us()
            try:
                result = await self._tester(order, link)
            except Exception as fault:
                log.exception("test failed test=%s peer=%s", order.test, order.peer)
                await self._end(TestEnded(test=order.test, rung=Rung.NONE, error=f"fault: {fault!r}"[:500]))
                return
            await self._save(result)
        tidy()
        reading = result.reading
        log.info("test done peer=%s rung=%s rtt_p50_us=%s", order.peer, reading.rung, reading.rtt_p50_us)
        await self._end(_ended(reading, cpu_us=self._cpu_us() - began_us))

    async def _save(self, result: Result) -> None:
        self.packets_refused += result.refused
        self._outbox.add("readings", [result.reading])
        self._outbox.add("hops", result.hops)
        self._outbox.add("receipts", [result.receipt] if result.receipt else [])
        await asyncio.to_thread(self._outbox.flush)
        self._saved()

    async def _end(self, message: TestEnded) -> None:
        try:
            await self._say(message)
        except ServerSilentError:
            log.info("test end not told test=%s: no control connection", message.test)

    def _refuse(self, test: str, why: str) -> None:
        task = asyncio.create_task(self._end(TestEnded(test=test, rung=Rung.NONE, error=why)))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


def _on_notice(message: Notice) -> None:
    log.warning("server objects code=%r text=%r", message.code[:40], message.text[:LOGGED])


def _ended(reading: Reading, *, cpu_us: int) -> TestEnded:
    """Tell the server what it needs to plan the next cycle; all of the reading comes with the next batch."""
    lost = max(0, reading.sent - reading.received)
    return TestEnded(
        test=reading.test,
        rung=reading.rung,
        error=reading.error,
        rtt_p50_us=reading.rtt_p50_us,
        loss_bp=10_000 * lost // reading.sent if reading.sent else None,
        cpu_us=cpu_us,
        sent_bytes=reading.sent_bytes,
    )
