"""Down the ladder, rung by rung, until both ends hold a secured link.

Each rung that is tried is one exchange of offers, ICE and DTLS, and one exchange of results; it counts only
if both ends got through. All direct rungs gather alike, so an attempt whose rung is unfit serves the next.
Relayed rungs are made ready while the rungs above take their time (``agent.mesh.ahead``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from agent.errors import PeerCertificateError, RungError, SignallingError
from agent.identity import Identity
from agent.mesh.ahead import Ahead
from agent.mesh.ice import Attempt, SecureLink
from agent.mesh.ladder import MAX_REASON, Candidate, Ladder, parse_candidate, require_possible, unfit
from agent.mesh.servers import Means
from agent.mesh.times import Clock
from analytics.measurement import Rung
from analytics.wire import Abandon, RungOffer, RungResult, SignalBody, TestOrder

SIGNAL_S: Final = 10.0  # the peer's gathering (2.5 s), its way through the server, and a margin

GIVE_UP_S: Final = 0.1  # between two ends whose time is up at once

GAVE_UP_WITH_PEER: Final = "the peer did not get through"

T = TypeVar("T", RungOffer, RungResult)


class Signalling(Protocol):
    """The way to the peer through the server."""

    async def send(self, body: SignalBody) -> None:
        """Hand a message to the server for the peer."""

    async def receive(self) -> SignalBody:
        """The peer's next message."""


@dataclass(frozen=True, slots=True)
class Climbed:
    """A secured link and how it came about."""

    link: SecureLink
    rung: Rung
    theirs: Sequence[Candidate]
    connect_us: int  # this rung alone, from its first check
    connect_total_us: int  # from the order, the rungs that failed included


@dataclass(slots=True)
class _Round:
    """One gathered attempt and the peer's offer to it."""

    attempt: Attempt
    offer: RungOffer
    theirs: list[Candidate]


class Climber:
    """One end's way down the ladder."""

    def __init__(
        self,
        order: TestOrder,
        *,
        identity: Identity,
        signalling: Signalling,
        clock: Clock,
        means: Means,
    ) -> None:
        self.ladder = Ladder(order.rungs, order.first_rung)
        self._order = order
        self._identity = identity
        self._signalling = signalling
        self._clock = clock
        self._means = means
        self._begin_ns = clock.monotonic_ns()

    async def climb(self) -> Climbed:
        """Try the rungs in order. Raises ``RungError`` at the foot; the caller closes the link."""
        ahead = Ahead(self._gather, self._order.rungs)
        try:
            return await self._climb(ahead)
        finally:
            await ahead.close()

    async def _climb(self, ahead: Ahead[Attempt]) -> Climbed:
        round_: _Round | None = None
        direct: _Round | None = None  # the latest: what its offers rule out needs no new ones
        try:
            while (rung := self.ladder.current) is not None:
                if round_ is None:
                    if direct is not None and not rung.relayed and self._passes_over(rung, direct):
                        continue
                    round_ = await self._open(rung, ahead)
                    direct = direct if rung.relayed else round_
                if self._passes_over(rung, round_):
                    round_ = await self._keep_or_close(round_)
                    continue
                climbed = await self._try(rung, round_)
                if climbed is not None:
                    round_ = None
                    return climbed
                await round_.attempt.close()
                round_ = None
            raise RungError("no rung reached the peer: " + self.ladder.failed_text)
        finally:
            if round_ is not None:
                await round_.attempt.close()

    def _passes_over(self, rung: Rung, round_: _Round) -> bool:
        """Whether these offers rule ``rung`` out; the peer, who has the same two, agrees."""
        why = unfit(rung, round_.attempt.candidates, round_.theirs)
        if why:
            trouble = round_.attempt.trouble or round_.offer.trouble
            self.ladder.fail(rung, f"{why} ({trouble})" if trouble else why)
        return bool(why)

    async def _gather(self, rung: Rung) -> Attempt:
        return await Attempt.open(rung, controlling=self._order.controlling, means=self._means)

    async def _open(self, rung: Rung, ahead: Ahead[Attempt]) -> _Round:
        attempt = await ahead.take(rung)
        try:
            await self._signalling.send(attempt.offer(rung))
            offer = await self._expect(RungOffer, rung)
            theirs = [parse_candidate(sdp) for sdp in offer.candidates]
            require_possible(theirs, local=self._means.addresses)
            return _Round(attempt, offer, theirs)
        except BaseException:
            await attempt.close()
            raise

    async def _keep_or_close(self, round_: _Round) -> _Round | None:
        """An untried direct attempt serves the next direct rung as well."""
        following = self.ladder.current
        if following is not None and not following.relayed and not round_.offer.rung.relayed:
            return round_
        await round_.attempt.close()
        return None

    async def _try(self, rung: Rung, round_: _Round) -> Climbed | None:
        """Connect, and agree with the peer whether it worked; None if it did not."""
        connecting = asyncio.create_task(self._connect(rung, round_))
        hearing = asyncio.create_task(self._expect(RungResult, rung, within_s=None))
        try:
            await asyncio.wait([connecting, hearing], return_when=asyncio.FIRST_COMPLETED)
            if hearing.done() and not hearing.result().ok:
                # No use in waiting for a handshake that the peer is not part of; but an end that is about to
                # give up too has more to tell than that its peer did.
                await asyncio.wait([connecting], timeout=GIVE_UP_S)
                connecting.cancel()
            why = await self._outcome(connecting)
            await self._signalling.send(RungResult(rung=rung, ok=not why, why=why[:MAX_REASON]))
            theirs = await _result(hearing, rung)
        except BaseException:
            await _discard(connecting)
            raise
        finally:
            await _drop(hearing)
        if not why and theirs.ok:
            return connecting.result()
        await _discard(connecting)
        own = why if why != GAVE_UP_WITH_PEER else ""
        self.ladder.fail(rung, own or f"at the peer: {theirs.why}")
        return None

    async def _outcome(self, connecting: asyncio.Task[Climbed]) -> str:
        """Why this end did not get through; empty if it did."""
        try:
            await connecting
        except RungError as error:
            return str(error)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return GAVE_UP_WITH_PEER
        except PeerCertificateError as error:
            await self._signalling.send(Abandon(why=str(error)[:200]))
            raise
        return ""

    async def _connect(self, rung: Rung, round_: _Round) -> Climbed:
        begin_ns = self._clock.monotonic_ns()
        link = await round_.attempt.connect(rung, round_.offer, round_.theirs)
        await link.secure(self._identity, self._order.peer_fingerprint)
        now_ns = self._clock.monotonic_ns()
        return Climbed(
            link,
            rung,
            round_.theirs,
            connect_us=(now_ns - begin_ns) // 1000,
            connect_total_us=(now_ns - self._begin_ns) // 1000,
        )

    async def _expect(self, kind: type[T], rung: Rung, *, within_s: float | None = SIGNAL_S) -> T:
        """The peer's message of this kind for this rung. Raises ``SignallingError``."""
        try:
            async with asyncio.timeout(within_s):
                message = await self._signalling.receive()
        except TimeoutError:
            raise SignallingError(f"the peer sent nothing for {rung} within {within_s:.0f} s") from None
        if isinstance(message, Abandon):
            raise SignallingError(f"the peer gave up: {message.why}")
        if not isinstance(message, kind) or message.rung is not rung:
            raise SignallingError(f"the peer is out of step: {type(message).__name__} instead of {rung}")
        return message


async def _result(hearing: asyncio.Task[RungResult], rung: Rung) -> RungResult:
    try:
        async with asyncio.timeout(SIGNAL_S):
            return await hearing
    except TimeoutError:
        raise SignallingError(f"the peer sent no result for {rung} within {SIGNAL_S:.0f} s") from None


async def _drop(hearing: asyncio.Task[RungResult]) -> None:
    """End the wait for a result, whatever came of it."""
    hearing.cancel()
    await asyncio.wait([hearing])
    if not hearing.cancelled():
        hearing.exception()  # retrieved


async def _discard(connecting: asyncio.Task[Climbed]) -> None:
    """End an attempt whose link is of no use."""
    connecting.cancel()
    await asyncio.wait([connecting])
    if not connecting.cancelled() and connecting.exception() is None:
        await connecting.result().link.close()
