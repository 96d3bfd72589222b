"""Orders of a server that may lie. Grant and binding are signed by the target: every comparison is reached.

An order is admitted only where each word of it agrees (agent/mesh/trust.py).
"""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Iterator

import msgspec
from shaped import Taken, chosen, either, folder_of
from signers import Signer, known
from targets.control import order

from agent.errors import TrustError
from agent.mesh.peers import KnownPeers
from agent.mesh.trust import Guard, Me
from analytics.trust import Binding, Grant, ServerTime, fingerprint_bytes, seal
from analytics.wire import TestOrder, Welcome

ALLOWED = (TrustError,)
SHORT_RUNS = 150
SERVER, PEER = Signer(bytes(range(32))), Signer(bytes(range(1, 33)))
CHALLENGE = bytes(range(16))
MINE, THEIRS = "CD:" * 31 + "CD", "AB:" * 31 + "AB"
NOW_US = 1_764_000_000_000_000
ME = Me("ws-1", "default", MINE)


def target(data: bytes) -> object:
    with known(SERVER, PEER):
        return either(data, _order, _grant, _binding, _welcome)


def _guard() -> Guard:
    """One that has the server's time, as it was then: its signature is checked once, not each time."""
    guard = copy.copy(_well_welcomed())
    guard.refused, guard._nonces = Counter(), {}
    return guard


@functools.cache
def _well_welcomed() -> Guard:
    return _welcomed(seal(ServerTime(challenge=CHALLENGE, now_us=NOW_US).encode(), SERVER))


def _welcomed(time: bytes) -> Guard:
    peers = KnownPeers(folder_of({}, "known"), {"pacs": PEER.public})
    guard = Guard(ME, SERVER.public, peers, monotonic_ns=lambda: 0, draw=lambda _count: CHALLENGE)
    guard.challenge()
    guard.on_welcome(Welcome(tenant="default", server_version="0", time=time))
    return guard


@functools.cache
def _grant_body() -> bytes:
    return Grant(
        tenant="default", test="t1", cycle=7, src="ws-1", dst="pacs", src_fingerprint=fingerprint_bytes(MINE),
        dst_fingerprint=fingerprint_bytes(THEIRS), issued_us=NOW_US, expires_us=NOW_US + 1, nonce=bytes(16),
 most_probes=10_000, most_bytes=10_000_000, most_s=300, src_site="hospital", dst_site="clinic", rule="",
    ).encode()  # fmt: skip


@functools.cache
def _binding_body() -> bytes:
    until_s = NOW_US // 1_000_000 + 60
    return Binding(
        tenant="default", agent="pacs", fingerprint=fingerprint_bytes(THEIRS), until_s=until_s
    ).encode()


@functools.cache
def _sealed_grant() -> bytes:
    return seal(_grant_body(), SERVER)


@functools.cache
def _sealed_binding() -> bytes:
    return seal(_binding_body(), PEER)


@functools.lru_cache(maxsize=4)
def _good(grant: bytes | None = None, binding: bytes | None = None) -> TestOrder:
    return msgspec.structs.replace(
        order(),
        grant=_sealed_grant() if grant is None else seal(grant, SERVER),
        peer_identity_key=PEER.public,
        peer_binding=_sealed_binding() if binding is None else seal(binding, PEER),
    )


def _order(data: bytes) -> None:
    """One field of a good order is the fuzzer's."""
    taken = Taken(data)
    field = taken.one_of(
        ("test", "peer", "peer_fingerprint", "grant", "peer_binding", "peer_identity_key", "cycle")
    )
    text = field in ("test", "peer", "peer_fingerprint")
    value = taken.text() if text else taken.number(0, 2**40) if field == "cycle" else taken.rest()
    good = _good()
    _guard().admit(msgspec.structs.replace(good, **{field: value}))
    same = value == getattr(good, field) or (
        field == "peer_fingerprint" and fingerprint_bytes(value) == bytes([0xAB] * 32)
    )
    assert same, f"another {field} was admitted"


def _grant(body: bytes) -> None:
    _guard().admit(_good(grant=body))
    found = Grant.decode(body)
    assert (found.tenant, found.test, found.src, found.dst) == ("default", "t1", "ws-1", "pacs")


def _binding(body: bytes) -> None:
    _guard().admit(_good(binding=body))
    assert Binding.decode(body).agent == "pacs"


def _welcome(data: bytes) -> None:
    _welcomed(data).admit(_good())
    raise AssertionError("an order was followed without the server's time")


def seeds() -> Iterator[bytes]:
    yield chosen(0, b"\0\2t1")
    yield chosen(0, b"\1\4pacs")
    yield chosen(0, b"\2\x5f" + THEIRS.encode())
    yield chosen(0, b"\3" + _good().grant)
    yield chosen(1, _grant_body())
    yield chosen(2, _binding_body())
    yield chosen(3, seal(ServerTime(challenge=bytes(16), now_us=NOW_US).encode(), SERVER))
