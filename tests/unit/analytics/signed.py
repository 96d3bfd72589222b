"""Receipts by hand, for tests: only tests import this."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from analytics import receipts
from analytics.measurement import Reading, Receipt
from analytics.receipt_file import FORMAT, Header, Line, line_of, written
from analytics.trust import key_text

KEYS = {name: Ed25519PrivateKey.generate() for name in ("pacs", "home", "radiologist")}


def public(name: str) -> bytes:
    return KEYS[name].public_key().public_bytes_raw()


ANCHORS = {name: frozenset({public(name)}) for name in KEYS}
ANCHORS_FILE = "".join(f'{name} = "{key_text(public(name))}"\n' for name in KEYS)


def signed(reading: Reading, *, both: bool = True, why_not: str = "") -> Receipt:
    """What the agents of a reading would have signed."""
    body = receipts.encode(reading)
    src, dst = KEYS[reading.src], KEYS[reading.dst]
    return Receipt(
        tenant=reading.tenant,
        cycle=reading.cycle,
        test=reading.test,
        src=reading.src,
        dst=reading.dst,
        layout=receipts.SCHEMA_VERSION,
        signed_us=reading.ended_us,
        src_key=key_text(public(reading.src)),
        src_signature=receipts.signature_text(receipts.sign_sent(body, src)),
        dst_key=key_text(public(reading.dst)) if both else "",
        dst_signature=receipts.signature_text(receipts.sign_seen(body, dst)) if both else "",
        why_not=why_not,
    )


def line(reading: Reading) -> Line:
    return line_of(reading, signed(reading))


def file(lines: Iterable[Line], tenant: str = "default") -> list[bytes]:
    """The lines of a file."""
    return b"".join(written(Header(format=FORMAT, tenant=tenant), lines)).splitlines()
