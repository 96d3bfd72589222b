"""Receipts between two ends: what is signed, what is refused and how it is counted; no test is harmed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agent import identity
from agent.mesh import conversation, pair
from agent.mesh.packet import PART_BYTES, ReceiptPart, Witnessed
from agent.mesh.probe import RttSummary
from agent.mesh.receipt import LAYOUT, Reason, Seen, Signing, Told, common_layout, parts_of, why_not
from analytics import receipts, wire
from analytics.batch import check_batch, pack_batch
from analytics.measurement import Reading, Receipt, Rung
from analytics.trust import Signs, key_bytes
from analytics.wire import ProbePlan
from tests.unit.mesh.test_pair import PLAN, A, B, end, queues, run

NOW_US = 1_700_000_000_000_000


def keys(me: identity.Identity, peer: identity.Identity) -> dict[str, Any]:
    return {"receipt": True, "peer_identity_key": peer.public_key}


async def both(**orders: dict[str, Any]) -> tuple[pair.PairResult, pair.PairResult]:
    to_a, to_b = queues()
    mine = {"a": keys(A, B), "b": keys(B, A)}
    one, other = await asyncio.gather(
        end(A, B, to_a, **mine["a"] | orders.get("a", {})), end(B, A, to_b, **mine["b"] | orders.get("b", {}))
    )
    return one, other


def holds(result: pair.PairResult) -> None:
    """As anybody would check it who has the two keys."""
    told = result.receipt
    assert told is not None
    body = receipts.encode(result.reading, told.layout)
    receipts.check_sent(body, receipts.signature_bytes(told.src_signature), key_bytes(told.src_key))
    receipts.check_seen(body, receipts.signature_bytes(told.dst_signature), key_bytes(told.dst_key))
    assert told.why_not == ""


@pytest.mark.parametrize("trains", [0, 1])
def test_both_ends_sign_both_directions(trains: int) -> None:
    plan = {"plan": msgspec.structs.replace(PLAN, trains=trains)}
    one, other = run(both(a=plan, b=plan))
    for result, mine, peer in ((one, A, B), (other, B, A)):
        holds(result)
        assert result.receipt is not None
        assert key_bytes(result.receipt.src_key) == mine.public_key
        assert key_bytes(result.receipt.dst_key) == peer.public_key
        assert result.reading.error == ""
        assert (result.reading.capacity_kbps is not None) == bool(trains)
        body = pack_batch(
            agent=mine.name,
            boot="0123abcd",
            batch=1,
            tables={"readings": [result.reading], "receipts": [result.receipt]},
        )
        assert check_batch(body).tables["receipts"].rows == 1


def test_no_order_no_receipt() -> None:
    off = {"receipt": False}
    one, other = run(both(a=off, b=off))
    assert one.receipt is other.receipt is None
    assert one.reading.received == other.reading.received == PLAN.probes


def test_a_peer_that_does_not_know_of_receipts_harms_nothing() -> None:
    one, other = run(both(b={"receipt": False}))
    assert other.receipt is None
    assert one.receipt is not None
    assert (one.receipt.why_not, one.receipt.dst_signature, one.receipt.dst_key) == ("peer-too-old", "", "")
    for result in (one, other):
        assert (result.reading.error, result.reading.received, result.refused) == ("", PLAN.probes, 0)


@pytest.mark.parametrize(("theirs", "layout"), [(0, 0), (2, 0), (3, 3), (LAYOUT, LAYOUT), (999, LAYOUT)])
def test_the_layout_is_the_latest_that_both_know(theirs: int, layout: int) -> None:
    assert common_layout(theirs) == layout


Lie = Callable[[Reading], Reading]


def lying(lie: Lie, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agent b signs something else than it measured."""
    plain = Signing.sign

    def sign(signing: Signing, reading: Reading, *of: Any) -> Receipt | None:
        return plain(signing, lie(reading) if reading.src == "b" else reading, *of)

    async def offer(signing: Signing, reading: Reading, *of: Any) -> Receipt:
        return await plain_offer(signing, lie(reading) if reading.src == "b" else reading, *of)

    plain_offer = Signing.offer
    monkeypatch.setattr(Signing, "sign", sign)
    monkeypatch.setattr(Signing, "offer", offer)


def changed(**fields: Any) -> Lie:
    return lambda reading: msgspec.structs.replace(reading, **fields)


def test_a_peer_that_signs_a_false_count_is_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    lying(lambda one: msgspec.structs.replace(one, received=1), monkeypatch)
    one, other = run(both())
    holds(one)
    assert one.unsigned == {"counts": 1}
    assert other.receipt is not None
    assert (other.receipt.dst_signature, other.receipt.why_not) == ("", "refused: counts")
    for result in (one, other):
        assert (result.reading.error, result.reading.received) == ("", PLAN.probes)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Witnessed(settled=True, signature=bytes(64)), "signature"),
        (Witnessed(settled=True), "signature"),
        (Witnessed(settled=True, why="x" * 40), "refused: " + "x" * 31),
        (Witnessed(settled=False), "signature"),
    ],
    ids=["forged", "none", "another reason", "never settled"],
)
def test_what_is_no_signature_of_the_peer_is_not_kept(
    answer: Witnessed, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Signing, "witness", lambda *_of: answer)
    one, _ = run(both(a=QUICK, b=QUICK))
    assert one.receipt is not None
    assert (one.receipt.dst_signature, one.receipt.why_not) == ("", why)
    assert one.unsigned == ({"signature": 1} if why == "signature" else {})
    assert (one.reading.error, one.reading.received) == ("", 10)


def test_a_peer_that_leaves_before_it_signed_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(*_of: Any) -> None:
        return None

    plain = conversation.Conversation.receipt
    both_: Any = lambda me, reading: (plain if reading.src == "a" else leave)(me, reading)  # noqa: E731
    monkeypatch.setattr(conversation.Conversation, "receipt", both_)
    monkeypatch.setattr(conversation.Conversation, "leave", leave)
    one, _ = run(both(a=QUICK, b=QUICK))
    assert one.receipt is not None
    assert one.receipt.why_not == "peer-silent"
    assert (one.reading.error, one.reading.received) == ("", 10)


def test_what_could_not_be_measured_is_signed_by_one_end() -> None:
    async def main() -> pair.PairResult:
        to_a, _ = queues()
        return await end(A, B, to_a, **keys(A, B), deadline_us=1_000_000)

    told = run(main())
    assert told.receipt is not None
    assert (told.receipt.why_not, told.receipt.dst_signature) == ("broke-off", "")
    body = receipts.encode(told.reading)
    receipts.check_sent(body, receipts.signature_bytes(told.receipt.src_signature), A.public_key)


# --- what one end holds against the other's reading ---------------------------------------------------------

QUICK = {"plan": ProbePlan(probes=10, interval_us=5_000, hop_rounds=0, trains=0, mtu_every=0)}
ORDER = wire.TestOrder(
    test="t1",
    cycle=1,
    peer="b",
    peer_fingerprint="",
    controlling=True,
    rungs=[],
    ice_servers=[],
    plan=ProbePlan(probes=100),
    peer_identity_key=B.public_key,
    receipt=True,
)
READING = Reading(
    tenant="default",
    cycle=1,
    test="t1",
    src="b",
    dst="a",
    started_us=NOW_US - 5_000_000,
    ended_us=NOW_US,
    rung=Rung.LAN,
    sent=100,
    received=99,
    duplicated=1,
    reordered=2,
    loss_bursts=1,
    loss_longest=1,
    rtt_n=99,
    rtt_min_us=10_000,
    rtt_p50_us=12_000,
    capacity_kbps=90_000,
)
SEEN = Seen(
    told=[Told(98, 1, 2, 2, 1), Told(99, 1, 2, 1, 1)],
    rung=Rung.LAN,
    rtt=RttSummary(n=99, min_us=10_500, percentiles_us={50: 13_000}),
    most_kbps=90_000,
    now_us=NOW_US,
)


def test_what_agrees_is_signed_and_what_is_near_enough() -> None:
    def judged(**fields: Any) -> Reason | None:
        return why_not(msgspec.structs.replace(READING, **fields), ORDER, "default", "a", SEEN)

    assert judged() is None
    assert judged(rtt_min_us=10_500 + 1_000 + 3_000) is None
    assert judged(rtt_p50_us=13_000 + 5_000 + 12_000) is None
    assert judged(rtt_min_us=None, rtt_p50_us=None, rtt_n=0) is None
    assert judged(capacity_kbps=None) is None
    assert judged(received=98, loss_bursts=2) is None
    assert why_not(READING, ORDER, "default", "a", seen(rtt=RttSummary())) is None


def seen(**fields: Any) -> Seen:
    return dataclasses.replace(SEEN, **fields)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"received": 100}, "counts"),
        ({"received": 98}, "counts"),  # with the losses of another count
        ({"sent": 50, "received": 50}, "counts"),
        ({"duplicated": 0}, "counts"),
        ({"reordered": 0}, "counts"),
        ({"loss_longest": None}, "counts"),
        ({"rtt_min_us": 5_000}, "rtt"),
        ({"rtt_min_us": 16_000}, "rtt"),
        ({"rtt_p50_us": 37_000}, "rtt"),
        ({"rtt_p50_us": 1_000}, "rtt"),
        ({"capacity_kbps": 90_001}, "capacity"),
        ({"rung": Rung.RELAY_UDP}, "rung"),
        ({"cycle": 2}, "another-test"),
        ({"test": "t0"}, "another-test"),
        ({"tenant": "acme"}, "another-test"),
        ({"src": "a", "dst": "b"}, "other-ends"),
        ({"dst": "c"}, "other-ends"),
        ({"started_us": NOW_US + 1}, "times"),
        ({"started_us": NOW_US - 60_000_001}, "times"),
        ({"started_us": NOW_US - 700_000_000, "ended_us": NOW_US - 690_000_000}, "times"),
        ({"started_us": NOW_US + 700_000_000, "ended_us": NOW_US + 700_000_000}, "times"),
        ({"error": "x"}, "broke-off"),
    ],
)
def test_what_does_not_agree_is_refused_and_counted(fields: dict[str, Any], reason: str) -> None:
    signing = signing_of_a()
    (part,) = signed_parts(msgspec.structs.replace(READING, **fields))
    assert signing.witness(part, lambda: SEEN) == Witnessed(settled=True, why=reason)
    assert signing.refused == {reason: 1}


def signing_of_a(order: wire.TestOrder = ORDER) -> Signing:
    return Signing(order, me="a", tenant="default", key=A.identity_key, wall_us=lambda: NOW_US)


def signed_parts(reading: Reading, key: Signs = B.identity_key) -> list[ReceiptPart]:
    body = receipts.encode(reading)
    return parts_of(receipts.sign_sent(body, key) + body)


def test_signed_by_another_key_is_refused() -> None:
    signing = signing_of_a()
    (part,) = signed_parts(READING, A.identity_key)
    assert signing.witness(part, lambda: SEEN) == Witnessed(settled=True, why="signature")
    assert signing.refused == {"signature": 1}


def test_no_key_of_the_peer_no_signature() -> None:
    signing = signing_of_a(msgspec.structs.replace(ORDER, peer_identity_key=b""))
    (part,) = signed_parts(READING)
    assert signing.witness(part, lambda: SEEN).why == "signature"


def test_a_long_reading_goes_in_parts_in_any_order_and_again() -> None:
    long = msgspec.structs.replace(
        READING, rungs_failed="x" * 1000, local_candidate="y" * 255, remote_candidate="z" * 255
    )
    signing, parts = signing_of_a(), signed_parts(long)
    assert [len(part.data) for part in parts[:-1]] == [PART_BYTES] * (len(parts) - 1)
    assert len(parts) == 3
    assert [signing.witness(part, lambda: SEEN) for part in (parts[2], parts[2], parts[0])] == [
        Witnessed(settled=False)
    ] * 3
    answer = signing.witness(parts[1], lambda: SEEN)
    receipts.check_seen(receipts.encode(long), answer.signature, A.public_key)
    assert signing.witness(parts[0], lambda: SEEN) == answer


def test_one_reading_a_test_is_signed() -> None:
    """Else a peer could show whichever of two suits it."""
    signing = signing_of_a()
    (first,), (second,) = signed_parts(READING), signed_parts(msgspec.structs.replace(READING, spoiled=7))
    answer = signing.witness(first, lambda: SEEN)
    assert answer.signature
    assert signing.witness(second, lambda: SEEN) == answer
    assert not signing.refused


@pytest.mark.parametrize(
    "parts",
    [
        [ReceiptPart(1, 1, b"x")],
        [ReceiptPart(0, 2, b"x"), ReceiptPart(0, 3, b"x")],
        [ReceiptPart(0, 1, b"x" * 64)],
    ],
    ids=["no such part", "of two and of three", "a signature of nothing"],
)
def test_parts_that_do_not_fit_are_refused(parts: list[ReceiptPart]) -> None:
    signing = signing_of_a()
    answers = [signing.witness(part, lambda: SEEN) for part in parts]
    assert answers[-1].why in {"malformed", "signature"}
    assert sum(signing.refused.values()) == 1


def test_signed_by_the_right_key_and_still_no_reading_is_malformed() -> None:
    signing, body = signing_of_a(), b"\0\3 and something else"
    (part,) = parts_of(receipts.sign_sent(body, B.identity_key) + body)
    assert signing.witness(part, lambda: SEEN) == Witnessed(settled=True, why="malformed")
