"""A file of receipts: what holds, what it sums to, and that nobody but the agents can write one that does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from analytics import receipts
from analytics.errors import SealError
from analytics.measurement import Reading
from analytics.receipt_file import MOST_LINE, Findings, Line, PathSum, check, line_of, read_anchors
from analytics.receipts import signature_text
from analytics.trust import Binding, key_text, seal
from server.grants import Signer
from tests.unit.analytics.facts import CYCLE, reading
from tests.unit.analytics.signed import ANCHORS, ANCHORS_FILE, KEYS, file, line, public, signed

SERVER = Ed25519PrivateKey.generate()
"""The one key that a server has."""
OUT, BACK = reading("pacs", "home", rtt_us=20_000), reading("home", "pacs", rtt_us=21_000)


def later(one: Reading, seconds: int, **changes: object) -> Reading:
    at = {"cycle": one.cycle + seconds, "test": f"{one.test}-{seconds}"}
    return msgspec.structs.replace(one, **(at | changes))


def found(*lines: Line, anchors: object = ANCHORS) -> Findings:
    return check(file(lines), anchors)  # type: ignore[arg-type]


def test_what_both_ends_signed_is_proven_and_summed() -> None:
    told = found(
        line(OUT),
        line(BACK),
        line(later(OUT, 300, received=297, rtt_min_us=18_000, rtt_p50_us=25_000, rtt_p95_us=90_000)),
        line(later(OUT, 1_200)),
    )
    assert told.proven
    assert (told.lines, told.both, told.false, told.from_file) == (4, 4, {}, [])
    assert told.anchored == ["home", "pacs"]
    back, out = told.paths
    assert (back.src, back.readings, back.longest_gap_s) == ("home", 1, 0)
    assert out == PathSum(
        src="pacs",
        dst="home",
        readings=3,
        sent=900,
        received=897,
        rtt_min_us=18_000,
        rtt_p50_least_us=20_000,
        rtt_p50_most_us=25_000,
        rtt_p95_most_us=90_000,
        first_cycle=CYCLE,
        last_cycle=CYCLE + 1_200,
        longest_gap_s=900,
        loss_bp=33,
    )


def test_keys_that_only_the_file_tells_prove_nothing() -> None:
    told = found(line(OUT), anchors={"pacs": ANCHORS["pacs"]})
    assert (told.both, told.false, told.anchored, told.from_file) == (1, {}, ["pacs"], ["home"])
    assert not told.proven


def test_what_one_end_signed_or_none_is_counted_and_sums_to_nothing() -> None:
    alone = signed(later(OUT, 300), both=False, why_not="refused: counts")
    told = found(line(OUT), line_of(later(OUT, 300), alone), line_of(later(OUT, 600), None))
    assert (told.both, told.one_end, told.unsigned, told.false) == (1, 1, 1, {})
    assert told.why_one_end == {"refused: counts": 1}
    assert [(path.readings, path.one_end, path.unsigned, path.sent) for path in told.paths] == [
        (1, 1, 1, 300)
    ]
    assert not told.proven
    assert not found().proven


def test_a_reinstalled_agent_has_two_keys_and_both_may_be_anchored() -> None:
    newer = Ed25519PrivateKey.generate()
    again = later(OUT, 300)
    body = receipts.encode(again)
    by_newer = msgspec.structs.replace(
        line(again),
        src_key=key_text(newer.public_key().public_bytes_raw()),
        src_signature=signature_text(receipts.sign_sent(body, newer)),
    )
    assert found(line(OUT), by_newer).false == {"key of src is not the anchored one": 1}
    both = {**ANCHORS, "pacs": ANCHORS["pacs"] | {newer.public_key().public_bytes_raw()}}
    told = found(line(OUT), by_newer, anchors=both)
    assert (told.proven, told.several_keys) == (True, {"pacs": 2})


# --- attacks ------------------------------------------------------------------------------------------------


def edited(one: Line, **changes: object) -> Line:
    return msgspec.structs.replace(one, **changes)


def with_body(one: Line, of: Reading) -> Line:
    return edited(one, reading=receipts.encode(of))


def by(key: Ed25519PrivateKey, of: Reading, *, claim: bool) -> Line:
    """A whole receipt by one key; ``claim``: said to be by the agents' own keys."""
    body, own = receipts.encode(of), key_text(key.public_key().public_bytes_raw())
    return Line(
        reading=body,
        src_key=key_text(public(of.src)) if claim else own,
        src_signature=signature_text(receipts.sign_sent(body, key)),
        dst_key=key_text(public(of.dst)) if claim else own,
        dst_signature=signature_text(receipts.sign_seen(body, key)),
    )


def swapped(of: Reading) -> Reading:
    return msgspec.structs.replace(of, src=of.dst, dst=of.src)


REAL, EARLIER = line(OUT), line(later(OUT, -300))
BINDING = seal(
    Binding(tenant="default", agent="pacs", fingerprint=bytes(32), until_s=2**40).encode(), KEYS["pacs"]
)
FORGED: dict[str, tuple[Line, str]] = {
    "a reading that nobody made": (by(SERVER, OUT, claim=True), "signature of src"),
    "by keys of the server's own": (by(SERVER, OUT, claim=False), "key of src is not the anchored one"),
    "a number changed": (
        with_body(REAL, msgspec.structs.replace(OUT, rtt_p50_us=1_000)),
        "signature of src",
    ),
    "losses taken out": (with_body(REAL, msgspec.structs.replace(OUT, received=299)), "signature of src"),
    "another cycle's signature": (
        edited(REAL, src_signature=EARLIER.src_signature, dst_signature=EARLIER.dst_signature),
        "signature of src",
    ),
    "another cycle's signature of dst": (
        edited(REAL, dst_signature=EARLIER.dst_signature),
        "signature of dst",
    ),
    "the ends swapped": (
        edited(
            with_body(REAL, swapped(OUT)),
            src_key=REAL.dst_key,
            dst_key=REAL.src_key,
            src_signature=REAL.dst_signature,
            dst_signature=REAL.src_signature,
        ),
        "signature of src",
    ),
    "the ends swapped but for the keys": (with_body(REAL, swapped(OUT)), "signature of src"),
    "src's signature for both": (
        edited(REAL, dst_signature=REAL.src_signature, dst_key=REAL.src_key),
        "signature of dst",
    ),
    "dst's signature for both": (
        edited(REAL, src_signature=REAL.dst_signature, src_key=REAL.dst_key),
        "signature of src",
    ),
    "something else that src signed": (
        edited(REAL, reading=BINDING[8:-64], src_signature=signature_text(BINDING[-64:])),
        "malformed",
    ),
    "between other agents": (
        with_body(REAL, msgspec.structs.replace(OUT, dst="radiologist")),
        "signature of src",
    ),
    "dst's signature alone": (edited(REAL, src_signature="", src_key=""), "signature of src"),
    "no signature at all": (edited(REAL, src_signature="A" * 86), "signature of src"),
    "a key that is none": (edited(REAL, dst_key="ed25519:AAAA"), "signature of dst"),
    "a key that takes any signature": (
        edited(REAL, dst_key=key_text(bytes(32)), dst_signature=signature_text(bytes(64))),
        "signature of dst",
    ),
    "of another layout": (edited(REAL, reading=b"\0\x09" + REAL.reading[2:]), "malformed"),
    "with something behind it": (edited(REAL, reading=REAL.reading + b"\0"), "malformed"),
}


@pytest.mark.parametrize(("forged", "why"), FORGED.values(), ids=FORGED)
def test_what_a_server_makes_up_is_refused_and_counted(forged: Line, why: str) -> None:
    told = found(line(BACK), forged)
    assert (told.false, told.false_lines) == ({why: 1}, [(3, why)])
    assert (told.both, told.one_end, told.unsigned, len(told.paths)) == (1, 0, 0, 1)
    assert not told.proven


def test_a_server_cannot_forge_a_result_with_all_that_it_has() -> None:
    """It has every reading, every signature, every public key, and its own key; it wants a better month."""
    month = [later(way, 300 * n, received=150) for n in range(20) for way in (OUT, BACK)]
    stored = [signed(one) for one in month]
    signer = Signer(SERVER)
    better = [msgspec.structs.replace(one, received=300) for one in month]
    tries: list[Callable[[int], Line]] = [
        # Each false reading with each signature that was ever made for that pair.
        *(
            lambda n, m=m: edited(  # type: ignore[misc]  # m is bound as it is now
                line_of(month[n], stored[m]), reading=receipts.encode(better[n])
            )
            for m in range(len(month))
        ),
        # Signed by itself, under the agents' names and keys.
        lambda n: by(SERVER, better[n], claim=True),
        lambda n: edited(line_of(better[n], stored[n]), src_signature=signature_text(signer.statement(b"x"))),
        # Signed by keys that it made up for the agents.
        lambda n: by(SERVER, better[n], claim=False),
    ]
    for forge in tries[:: len(tries) // 4] + tries[-3:]:
        told = check(file(forge(n) for n in range(len(month))), ANCHORS)
        assert (told.both, told.one_end, sum(told.false.values())) == (0, 0, len(month))
    # What it can do: leave readings out. The gap is told.
    shown = check(
        file(line_of(one, paper) for one, paper in zip(month[::10], stored[::10], strict=True)), ANCHORS
    )
    assert shown.proven
    assert {path.longest_gap_s for path in shown.paths} == {1_500}


def test_without_anchors_a_file_of_made_up_keys_proves_nothing() -> None:
    other = Ed25519PrivateKey.generate()
    body = receipts.encode(OUT)
    made_up = edited(
        by(SERVER, OUT, claim=False),
        dst_key=key_text(other.public_key().public_bytes_raw()),
        dst_signature=signature_text(receipts.sign_seen(body, other)),
    )
    told = found(made_up, anchors={})
    assert (told.both, told.false, told.from_file) == (1, {}, ["home", "pacs"])
    assert not told.proven
    assert found(by(SERVER, OUT, claim=False), anchors={}).false == {"one key for both ends": 1}


def test_a_reading_counts_once() -> None:
    other = line(msgspec.structs.replace(OUT, received=200))
    told = found(REAL, REAL, other)
    assert (told.both, told.false) == (1, {"told twice": 2})


def test_readings_of_two_tenants_are_not_one_file() -> None:
    told = found(REAL, line(later(OUT, 300, tenant="acme")))
    assert told.false == {"another tenant than the file's first reading": 1}


@pytest.mark.parametrize(
    "noise", [b"{}", b"[]", b"\xff\xfe", b"x" * (MOST_LINE + 1), b'{"reading":"!"}', b"[" * 9_000]
)
def test_what_is_no_line_is_malformed(noise: bytes) -> None:
    told = check([*file([REAL]), noise, b"", b"  "], ANCHORS)
    assert (told.lines, told.both, told.false) == (2, 1, {"malformed": 1})


@pytest.mark.parametrize("head", [b"", b"{}", b"\xff", b'{"format":"pathgrade.sla.v1"}', b"[" * 20_000])
def test_what_is_no_file_of_receipts_is_one_clear_error(head: bytes) -> None:
    with pytest.raises(SealError) as raised:
        check([head] if head else [], ANCHORS)
    assert raised.value.remedy


def test_anchors_are_those_of_the_agents() -> None:
    assert read_anchors(ANCHORS_FILE.encode()) == ANCHORS
    two = f'pacs = ["{key_text(public("pacs"))}", "{key_text(public("home"))}"]'
    assert read_anchors(two.encode()) == {"pacs": frozenset({public("pacs"), public("home")})}
    for wrong in ('pacs = "x"', "pacs = 1", "PACS = 'x'", "[", "\0", 'pacs = ["ed25519:"]'):
        with pytest.raises(SealError):
            read_anchors(wrong.encode())
    with pytest.raises(SealError):
        read_anchors(b"\xff")
