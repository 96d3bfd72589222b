"""Whether to follow an order: the server signed it for this test, and the peer is who it was.

Three things come with a ``TestOrder``. The *grant*, signed by the key of the server this agent enrolled at:
who tests whom, with which certificates, until when. The peer's *binding*, signed by the peer's identity key:
which certificate is its own. And that identity key, which must be the anchored or pinned one of the peer's
name (``agent.mesh.peers``). Nothing is sent before all hold; the certificate itself is checked in the DTLS
handshake.

Then how much: a plan of more than the grant says is refused, and so is what this host's own ``[policy]``
(``agent.own_policy``) does not have, whoever signed it.

So whoever passes the orders on can withhold tests, but not lead this agent to another peer than the one it
has met before, nor repeat an order.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.errors import TrustError
from agent.mesh.peers import CHANGED, FULL, NOT_ANCHORED, KnownPeers
from agent.own_policy import OwnPolicy, OwnReason
from analytics.errors import SealError, SealVersionError
from analytics.policy import most_sent
from analytics.trust import Binding, Grant, ServerTime, fingerprint_bytes, unseal
from analytics.wire import NONCE_BYTES, TestOrder, Welcome

MOST_NONCES: Final = 4_096
"""Of grants that are still valid: a grant is valid for a minute or five, a test takes seconds."""
DRIFT: Final = 5_000
"""Two hosts' clocks part by less than one part in so many (200 ppm), where nobody corrects them."""


class Reason(StrEnum):
    """What refused orders are counted by."""

    MISSING = "no-grant"
    NO_TIME = "no-server-time"
    FORGED = "grant-forged"
    VERSION = "grant-version"
    STALE = "grant-expired"
    REPLAYED = "grant-replayed"
    OTHERS = "grant-for-others"
    EXCEEDED = "grant-exceeded"
    BINDING = "binding"
    CHANGED = CHANGED
    NOT_ANCHORED = NOT_ANCHORED
    FULL = FULL
    OWN_PEER = OwnReason.PEER
    OWN_HOURS = OwnReason.HOURS
    OWN_TESTS = OwnReason.TESTS
    OWN_BYTES = OwnReason.BYTES
    OWN_CPU = OwnReason.CPU


@dataclass(frozen=True, slots=True)
class Me:
    """Who this agent is."""

    name: str
    tenant: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ServerClock:
    """The server's time: what it signed once a connection, carried on by this host's monotonic clock."""

    began_us: int
    heard_ns: int

    def now_us(self, monotonic_ns: int) -> int:
        """Now, on the server, or up to the way of one message and the drift earlier."""
        since_us = (monotonic_ns - self.heard_ns) // 1_000
        return self.began_us + since_us - since_us // DRIFT


class Guard:
    """Admits orders, each once. ``refused`` counts the others by ``Reason``."""

    def __init__(
        self,
        me: Me,
        server_key: bytes,
        peers: KnownPeers,
        *,
        monotonic_ns: Callable[[], int],
        draw: Callable[[int], bytes] = os.urandom,
        own: OwnPolicy | None = None,  # None: whatever the server may order
    ) -> None:
        self.refused: Counter[str] = Counter()
        self._me = me
        self._server_key = server_key
        self._peers = peers
        self._monotonic_ns = monotonic_ns
        self._draw = draw
        self._own = own
        self._challenge = b""
        self._clock: ServerClock | None = None
        self._why_no_time = "the server has not told its time yet"
        self._nonces: dict[bytes, int] = {}  # of grants that were used, and when each expires

    def challenge(self) -> bytes:
        """Begin a connection: draw what the server must sign together with its time."""
        self._challenge, self._clock = self._draw(NONCE_BYTES), None
        return self._challenge

    def on_welcome(self, welcome: Welcome) -> None:
        """Take the server's time, if it is signed; without it, no order is followed."""
        try:
            time = ServerTime.decode(unseal(welcome.time, self._server_key))
        except SealError as error:
            self._why_no_time = f"the server does not prove to be the one enrolled at: {error}"
            return
        if time.challenge != self._challenge:
            self._why_no_time = "the server's time is an answer to something else"
            return
        self._clock = ServerClock(time.now_us, self._monotonic_ns())

    def admit(self, order: TestOrder) -> Grant:
        """Give the grant of an order that is to be followed, else raise ``TrustError``.

        Pins the key of a new peer.
        """
        try:
            grant, now_us = self._check(order)
            if self._own is not None:
                self._own.judge(grant, order.peer)
            self._peers.check(order.peer, order.peer_identity_key, now_us=now_us)
        except TrustError as error:
            self.refused[error.reason] += 1
            raise
        if self._own is not None:
            self._own.begin(grant)
        self._nonces[grant.nonce] = grant.expires_us
        return grant

    def _check(self, order: TestOrder) -> tuple[Grant, int]:
        clock = self._clock
        if clock is None:
            raise TrustError(
                f"{self._why_no_time}: nothing it orders is followed",
                reason=Reason.NO_TIME,
                remedy="if the server was set up anew, remove credential.json and enrol again",
            )
        now_us = clock.now_us(self._monotonic_ns())
        grant = read_grant(order, self._server_key)
        check_grant(grant, order, self._me)
        check_amount(grant, order)
        check_time(grant, now_us=now_us, connected_us=clock.began_us)
        self._check_nonce(grant, now_us)
        check_binding(order, self._me.tenant, now_us=now_us)
        return grant, now_us

    def _check_nonce(self, grant: Grant, now_us: int) -> None:
        self._nonces = {nonce: until_us for nonce, until_us in self._nonces.items() if until_us > now_us}
        if grant.nonce in self._nonces:
            raise TrustError("the server's grant for this test was used before", reason=Reason.REPLAYED)
        if len(self._nonces) >= MOST_NONCES:
            raise TrustError(f"{MOST_NONCES} grants are in use already", reason=Reason.REPLAYED)


def read_grant(order: TestOrder, server_key: bytes) -> Grant:
    """Check the server's signature. Raises ``TrustError``."""
    if not order.grant:
        raise TrustError(
            "the server sent no grant for this test", reason=Reason.MISSING, remedy="upgrade the server"
        )
    try:
        return Grant.decode(unseal(order.grant, server_key))
    except SealVersionError as error:
        raise TrustError(
            f"the grant for this test cannot be followed: {error}",
            reason=Reason.VERSION,
            remedy=error.remedy,
        ) from error
    except SealError as error:
        raise TrustError(
            f"the grant for this test is not by the server enrolled at: {error}",
            reason=Reason.FORGED,
            remedy="if the server was set up anew, remove credential.json and enrol again",
        ) from error


def check_grant(grant: Grant, order: TestOrder, me: Me) -> None:
    """Compare every word of a grant with the order and with who we are. Raises ``TrustError``."""
    ends = [(me.name, me.fingerprint), (order.peer, order.peer_fingerprint)]
    src, dst = ends if order.controlling else ends[::-1]
    expected = {
        "tenant": (grant.tenant, me.tenant),
        "test": (grant.test, order.test),
        "cycle": (grant.cycle, order.cycle),
        "src": (grant.src, src[0]),
        "dst": (grant.dst, dst[0]),
        "certificate of src": (grant.src_fingerprint, _fingerprint(src[1])),
        "certificate of dst": (grant.dst_fingerprint, _fingerprint(dst[1])),
    }
    wrong = [what for what, (granted, ordered) in expected.items() if granted != ordered]
    if wrong:
        raise TrustError(
            f"the server's grant is for another test: {', '.join(wrong)} differ", reason=Reason.OTHERS
        )


def check_amount(grant: Grant, order: TestOrder) -> None:
    """Raise ``TrustError`` where an order asks for more than its grant allows."""
    asked = {
        "probes": (order.plan.probes, grant.most_probes),
        "bytes": (most_sent(order.plan), grant.most_bytes),
        "us": (order.deadline_us, grant.most_s * 1_000_000),
    }
    for what, (ordered, granted) in asked.items():
        if ordered > granted:
            raise TrustError(
                f"the order is for up to {ordered:,} {what}, and its grant for {granted:,}",
                reason=Reason.EXCEEDED,
            )


def check_time(grant: Grant, *, now_us: int, connected_us: int) -> None:
    """Raise ``TrustError`` if a grant is over, or is of before this connection.

    The latter because an agent that was started anew has forgotten which grants it used.
    """
    if grant.expires_us <= now_us:
        late_s = (now_us - grant.expires_us) / 1e6
        raise TrustError(f"the server's grant for this test expired {late_s:.0f} s ago", reason=Reason.STALE)
    if grant.issued_us < connected_us:
        raise TrustError("the server's grant for this test is of before this connection", reason=Reason.STALE)


def check_binding(order: TestOrder, tenant: str, *, now_us: int) -> None:
    """Raise ``TrustError`` unless the peer's identity key vouches for its certificate."""
    if not order.peer_binding:
        raise TrustError(
            f"{order.peer} has not bound its certificate to an identity key",
            reason=Reason.BINDING,
            remedy=f"upgrade the agent on {order.peer}",
        )
    try:
        binding = Binding.decode(unseal(order.peer_binding, order.peer_identity_key))
    except SealError as error:
        raise _unbound(order, str(error)) from error
    if (binding.tenant, binding.agent) != (tenant, order.peer):
        raise _unbound(order, f"the binding is of {binding.agent!r} in {binding.tenant!r}")
    if binding.fingerprint != _fingerprint(order.peer_fingerprint):
        raise _unbound(order, "the binding is of another certificate")
    if binding.until_s * 1_000_000 <= now_us:
        raise _unbound(order, "the binding is over; is the clock of its host right?")


def _unbound(order: TestOrder, why: str) -> TrustError:
    return TrustError(
        f"the certificate of {order.peer} is not bound to its identity key: {why}", reason=Reason.BINDING
    )


def _fingerprint(text: str) -> bytes:
    """A fingerprint that does not read equals none."""
    try:
        return fingerprint_bytes(text)
    except SealError:
        return b""
