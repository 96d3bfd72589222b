"""Brings notices to one receiver, in order, until each is taken, refused or given up. One task a receiver."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from analytics.clock import HOUR_US, now_us
from server.alerts.book import Book, Delivery
from server.alerts.model import Notice, ReceiverStatus
from server.alerts.receivers.retry import wait_us
from server.alerts.receivers.send import Sender
from server.alerts.threads import to_the_end
from server.errors import DeliveryError, ServerError

log: Final = logging.getLogger("pathgrade.server.alerts")

TEST_S: Final = 20.0
"""For a test alert: somebody waits for it, and the command for no longer than 30 s."""
LOOK_S: Final = 30.0
"""Between looks at the queue while nothing is due and nobody says that something is new."""


@dataclass(slots=True)
class Tally:
    """What became of the notices for one receiver since the server started."""

    sent: int = 0
    failed: int = 0  # attempts
    refused: int = 0  # notices that it will never take
    given_up: int = 0  # notices that were tried for too long
    dropped: int = 0  # notices for which there was no room
    last_error: str = ""
    last_sent_us: int | None = None


class Courier:
    """Everything on the event loop, but for the reading and writing of the queue."""

    def __init__(
        self,
        book: Book,
        sender: Sender,
        *,
        clock: Callable[[], int] = now_us,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._book = book
        self.sender = sender
        self._clock = clock
        self._chance = chance
        self.tally = Tally()
        self.wake = asyncio.Event()
        self._still: Sequence[Notice] = ()

    @property
    def name(self) -> str:
        """As configured."""
        return self.sender.name

    def still(self, notices: Sequence[Notice]) -> None:
        """Tell a receiver that forgets what is open; nothing is kept, as there will be newer."""
        self._still = notices
        self.wake.set()

    async def run(self) -> None:
        """Deliver until cancelled. What is left is in the queue."""
        while True:
            try:
                wait_s = await self.once()
            except ServerError as error:  # the state cannot be read or written: not this receiver's fault
                log.error("queue of %s: %s", self.name, error)
                wait_s = LOOK_S
            except Exception:  # a mistake of ours must not end the server, nor the other receivers
                log.exception("queue of %s", self.name)
                wait_s = LOOK_S
            try:
                async with asyncio.timeout(wait_s):
                    await self.wake.wait()
            except TimeoutError:
                pass
            self.wake.clear()

    async def once(self) -> float:
        """Deliver all that is due; returns for how many seconds there is nothing to do."""
        while (found := await asyncio.to_thread(self._book.next, self.name)) is not None:
            due_us, delivery = found
            if (left_us := due_us - self._clock()) > 0:
                return min(LOOK_S, left_us / 1e6)
            await self._deliver(delivery)
        await self._say_still()
        return LOOK_S

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._send([delivery.notice], f"{self._book.tenant}-{delivery.number}")
        except DeliveryError as error:
            await self._failed(delivery, error)
        else:
            await to_the_end(self._book.done, delivery.number)

    async def _failed(self, delivery: Delivery, error: DeliveryError) -> None:
        at_us, tries = self._clock(), delivery.tries + 1
        late = at_us - delivery.made_us >= self.sender.receiver.give_up_h * HOUR_US
        if error.again and not late:
            due_us = at_us + wait_us(tries, self._chance(), asked_s=error.asked_s)
            return await to_the_end(self._book.later, delivery.number, tries, due_us)
        self.tally.given_up += error.again
        self.tally.refused += not error.again
        log.error("alert dropped receiver=%s tries=%d why=%r", self.name, tries, str(error))
        return await to_the_end(self._book.done, delivery.number)

    async def _say_still(self) -> None:
        told, self._still = self._still, ()
        if told:
            with contextlib.suppress(DeliveryError):  # counted and logged; told again in a minute
                await self._send(told, "")

    async def _send(self, notices: Sequence[Notice], delivery: str) -> None:
        try:
            await self.sender.send(notices, delivery, self._clock() // 1_000_000)
        except Exception as error:
            if not isinstance(error, ServerError):  # a mistake of ours: this notice waits, others go on
                log.exception("receiver=%s", self.name)
            self.tally.failed += 1
            self.tally.last_error = str(error)
            log.warning("alert not delivered receiver=%s why=%r", self.name, str(error))
            if isinstance(error, DeliveryError):
                raise
            raise DeliveryError(f"tell {self.name}: {error}", remedy=getattr(error, "remedy", "")) from error
        self.tally.sent += len(notices)
        self.tally.last_error = ""
        self.tally.last_sent_us = self._clock()

    async def test(self, notice: Notice) -> float:
        """Send a notice now, past the queue; returns seconds. Raises ``DeliveryError``."""
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(TEST_S):
                await self._send([notice], f"{self._book.tenant}-test-{notice.at_us}")
        except TimeoutError as error:
            raise DeliveryError(f"tell {self.name}: no answer within {TEST_S:g} s") from error
        return time.monotonic() - began_s

    def status(self, waiting: int) -> ReceiverStatus:
        """What became of its notices."""
        receiver, tally = self.sender.receiver, self.tally
        return ReceiverStatus(
            name=self.name,
            kind=receiver.__struct_config__.tag,  # type: ignore[arg-type]  # a tag of ours is text
            least=receiver.least.value,
            waiting=waiting,
            sent=tally.sent,
            failed=tally.failed,
            refused=tally.refused,
            given_up=tally.given_up,
            dropped=tally.dropped,
            last_error=tally.last_error,
            last_sent_us=tally.last_sent_us,
        )
