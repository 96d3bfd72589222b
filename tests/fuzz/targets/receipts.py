"""What both ends of a test sign: readings as bytes, and the file that receipts are handed on in."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from shaped import chosen, either

from analytics import receipts
from analytics.errors import SealError
from analytics.measurement import Reading, Rung
from analytics.receipt_file import FORMAT, Header, Line, check, read_anchors, written
from analytics.trust import key_text

ALLOWED = (SealError,)
SRC, DST = (Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)) for n in (1, 2))
READING = Reading(
    tenant="default",
    cycle=7,
    test="t1",
    src="pacs",
    dst="home",
    started_us=1_764_000_000_000_000,
    ended_us=1_764_000_009_000_000,
    rung=Rung.LAN,
    sent=300,
    received=299,
    rtt_n=299,
    rtt_min_us=20_000,
)
PUBLIC = [key.public_key().public_bytes_raw() for key in (SRC, DST)]
ANCHORS = {"pacs": frozenset({PUBLIC[0]}), "home": frozenset({PUBLIC[1]})}


def target(data: bytes) -> object:
    return either(data, _reading, _file, _anchors)


def _reading(body: bytes) -> None:
    """There is one encoding only: what is read is written back the same."""
    reading, layout = receipts.decode(body)
    assert receipts.encode(reading, layout) == body


def _file(data: bytes) -> None:
    """Nobody signs by chance: what holds is what was signed."""
    found = check(data.split(b"\n"), ANCHORS)
    assert found.both + found.one_end <= 1
    assert found.lines == found.both + found.one_end + found.unsigned + sum(found.false.values())
    assert all(path.received == 299 for path in found.paths if path.readings)


def _anchors(data: bytes) -> None:
    read_anchors(data)


def seeds() -> Iterator[bytes]:
    body = receipts.encode(READING)
    line = Line(
        reading=body,
        src_key=key_text(PUBLIC[0]),
        src_signature=receipts.signature_text(receipts.sign_sent(body, SRC)),
        dst_key=key_text(PUBLIC[1]),
        dst_signature=receipts.signature_text(receipts.sign_seen(body, DST)),
    )
    yield chosen(0, body)
    yield chosen(1, b"".join(written(Header(format=FORMAT), [line])))
    yield chosen(1, b"".join(written(Header(format=FORMAT), [Line(reading=body)])))
    yield chosen(2, f'pacs = "{key_text(PUBLIC[0])}"\nhome = ["{key_text(PUBLIC[1])}"]'.encode())
