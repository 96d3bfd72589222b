"""Receipts: what two agents sign of one direction of a pair test, so that its numbers need no server's word.

::

    signed    8  "PGsent" 0 1   src's identity key says: this is what I measured
              8  "PGseen" 0 1   or dst's: and as far as I can tell from my end, it was so
              .  the reading

    reading   2  layout: the schema version (analytics/batch.py) whose columns of a reading follow, in the
                 order of analytics.measurement.Reading
              n  one bit a column, the first column is the greatest bit of the first byte: 1 = has a value,
                 0 = was not measured; bits behind the last column are 0
                 then each column that has a value:
              8  a number
              2  the length of a text, and its UTF-8

    Numbers are big-endian, unsigned. A signature is Ed25519 (RFC 8032), 64 bytes.

A reading has one encoding only, and nothing may follow it. It can be made again from the stored row at any
time: columns that came after its layout are left out. The two kinds of signature are over different bytes, so
that one cannot be taken for the other.
"""

from __future__ import annotations

import base64
import binascii
import struct
from functools import lru_cache
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature

from analytics.batch import COLUMNS, SCHEMA_VERSION, lacking
from analytics.column import value_fault
from analytics.errors import SealError
from analytics.measurement import Column, Reading
from analytics.trust import SIGNATURE_BYTES, Signs, verifying_key

SENT_MAGIC: Final = b"PGsent\0\1"
SEEN_MAGIC: Final = b"PGseen\0\1"
OLDEST_LAYOUT: Final = 3
"""No agent signed readings before."""
MOST_READING: Final = 6_000
"""Bytes: several times what a reading takes whose texts are as long as they come."""

_SHORT: Final = struct.Struct("!H")
_NUMBER: Final = struct.Struct("!Q")


@lru_cache(maxsize=8)
def columns_of(layout: int) -> tuple[Column, ...]:
    """Name the columns that a layout signs, in order; raises ``SealError`` for an unknown layout."""
    if not OLDEST_LAYOUT <= layout <= SCHEMA_VERSION:
        raise SealError(
            f"a receipt of layout {layout}; this build knows {OLDEST_LAYOUT} to {SCHEMA_VERSION}",
            remedy="use the release of pathgrade that the agents run, or a later one",
        )
    later = lacking("readings", layout)
    return tuple(column for column in COLUMNS["readings"] if column.name not in later)


def encode(reading: Reading, layout: int = SCHEMA_VERSION) -> bytes:
    """Lay out as drawn above. Raises ``SealError`` where a value does not fit its column."""
    for column in columns_of(layout):
        if wrong := value_fault(column, getattr(reading, column.name)):
            raise SealError(f"{column.name}: {wrong}")
    body = _laid_out(reading, layout)
    if len(body) > MOST_READING:
        raise SealError(f"a reading of {len(body)} bytes; at most {MOST_READING} are signed")
    return body


def _laid_out(reading: Reading, layout: int) -> bytes:
    values = [getattr(reading, column.name) for column in columns_of(layout)]
    told = b"".join(_encoded(value) for value in values if value is not None)
    return _SHORT.pack(layout) + _presence([value is not None for value in values]) + told


def decode(body: bytes) -> tuple[Reading, int]:
    """Read what ``encode`` wrote: the reading and its layout; raises ``SealError``."""
    if not _SHORT.size < len(body) <= MOST_READING:
        raise SealError(f"{len(body)} bytes are no reading")
    (layout,) = _SHORT.unpack_from(body)
    known = columns_of(layout)
    begin = _SHORT.size + _presence_bytes(len(known))
    rest = _Rest(body[begin:])
    present = int.from_bytes(body[_SHORT.size : begin].ljust(begin - _SHORT.size, b"\0"), "big")
    top = 8 * (begin - _SHORT.size) - 1
    told = {column.name: rest.take(column) for i, column in enumerate(known) if present >> (top - i) & 1}
    reading = _reading(known, told)
    if _laid_out(reading, layout) != body:
        raise SealError("a reading that is written in another way than the one there is")
    return reading, layout


def sign_sent(body: bytes, key: Signs) -> bytes:
    """Sign an encoded reading as the end that measured it."""
    return key.sign(SENT_MAGIC + body)


def sign_seen(body: bytes, key: Signs) -> bytes:
    """Sign an encoded reading as the end that it was measured with."""
    return key.sign(SEEN_MAGIC + body)


def check_sent(body: bytes, signature: bytes, key: bytes) -> None:
    """Raise ``SealError`` unless the end that measured signed these very bytes."""
    _check(SENT_MAGIC + body, signature, key)


def check_seen(body: bytes, signature: bytes, key: bytes) -> None:
    """Raise ``SealError`` unless the other end signed these very bytes."""
    _check(SEEN_MAGIC + body, signature, key)


def signature_text(signature: bytes) -> str:
    """Write a signature for facts and files: base64 without padding; empty for none."""
    return base64.b64encode(signature).decode().rstrip("=")


def signature_bytes(text: str) -> bytes:
    """Read what ``signature_text`` wrote of a signature; raises ``SealError``."""
    try:
        signature = base64.b64decode(text + "==", validate=True)
    except (binascii.Error, ValueError) as error:
        raise SealError(f"{text[:100]!r} is no signature: {error}") from error
    if len(signature) != SIGNATURE_BYTES or signature_text(signature) != text:
        raise SealError(f"{text[:100]!r} is no signature: it is 86 letters of base64")
    return signature


def _check(signed: bytes, signature: bytes, key: bytes) -> None:
    try:
        verifying_key(key).verify(signature, signed)
    except InvalidSignature as error:
        raise SealError("the signature is not by this key over this reading") from error


def _reading(known: tuple[Column, ...], told: dict[str, Any]) -> Reading:
    try:
        # What was not measured is said to be so, whatever the default is.
        return msgspec.convert({column.name: told.get(column.name) for column in known}, Reading)
    except msgspec.ValidationError as error:
        raise SealError(f"not a reading: {error}") from error


def _encoded(value: int | str) -> bytes:
    if isinstance(value, int):
        return _NUMBER.pack(value)
    text = value.encode()
    return _SHORT.pack(len(text)) + text


def _presence_bytes(columns: int) -> int:
    return (columns + 7) // 8


def _presence(flags: list[bool]) -> bytes:
    size = _presence_bytes(len(flags))
    bits = sum(flag << (8 * size - 1 - i) for i, flag in enumerate(flags))
    return bits.to_bytes(size, "big")


class _Rest:
    """Bytes that are not read yet."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, column: Column) -> int | str:
        """Read the value of a column; raises ``SealError``."""
        if column.kind == "int":
            return int(_NUMBER.unpack(self._bytes(_NUMBER.size))[0])
        (length,) = _SHORT.unpack(self._bytes(_SHORT.size))
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError as error:
            raise SealError(f"{column.name}: not UTF-8: {error}") from error

    def _bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise SealError("a reading that is cut short")
        self._at += count
        return found
