"""What agents and server sign: fixed bytes, followed by an Ed25519 signature (RFC 8032) over them.

::

    binding   8  "PGbind" 0 1                    an agent's identity key says: this DTLS certificate is mine
              8  until, s since 1970
             32  SHA-256 of the certificate
              t  tenant, agent

    grant     8  "PGgrnt" 0 2                    the server's key says: these two test each other, now
              8  cycle
              8  issued, us since 1970           both by the server's steady clock, see ServerTime
              8  expires, us since 1970
              8  most probes                     of each end, but for those beside its trains
              8  most bytes                      that each end sends once they are connected
              8  most seconds                    from the order to the end
             16  nonce
             32  SHA-256 of the certificate of src, which is the controlling end
             32  SHA-256 of the certificate of dst
              t  tenant, test, src, dst, site of src, site of dst, rule of the policy

    time      8  "PGtime" 0 1                    the server's key says: it is now so late
              8  now, us since 1970
             16  challenge, that the agent drew for this connection

    audit     8  "PGaudit" 1                     the server's key says: so far a chain of audit rows has come
              8  when, us since 1970
              8  number of the row
              8  number up to which rows are of before there were chains
              8  0: it was the last row then; else: those from that number to it are gone
             32  its hash, as of analytics/audit_chain.py
              t  tenant, chain

    statement 8  "PGsla" 0 0 1                   the server's key says: so it was; the signature stands apart
              .  the bytes of the document

    authority 8  "PGauth" 0 2                    the server's key says: this authority is mine
              8  its number: how many there were before
              .  its certificate, DER; the signature stands apart

    t: each text as one byte of length and UTF-8. Numbers are big-endian, unsigned. Then 64 bytes signature.

The first eight bytes keep one kind from being taken for another. A body has one encoding only, and nothing
may follow it. Grants of version 1 said neither how much nor by which rule: they are refused as such.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from analytics.errors import SealError, SealVersionError
from analytics.wire import KEY_BYTES, MAX_SEALED, NONCE_BYTES

SIGNATURE_BYTES: Final = 64
FINGERPRINT_BYTES: Final = 32
HASH_BYTES: Final = 32
MAX_TEXT: Final = 255
MAX_NUMBER: Final = 2**63 - 1
KEY_PREFIX: Final = "ed25519:"

_BINDING: Final = struct.Struct(f"!8sQ{FINGERPRINT_BYTES}s")
_GRANT: Final = struct.Struct(f"!8sQQQQQQ{NONCE_BYTES}s{FINGERPRINT_BYTES}s{FINGERPRINT_BYTES}s")
_TIME: Final = struct.Struct(f"!8sQ{NONCE_BYTES}s")
_AUDIT: Final = struct.Struct(f"!8sQQQQ{HASH_BYTES}s")
_AUTHORITY: Final = struct.Struct("!8sQ")

SMALL_ORDER: Final = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
"""Every encoding of a point whose order divides 8, without its sign bit (RFC 8032 section 5.1)."""

BINDING_MAGIC: Final = b"PGbind\0\1"
GRANT_MAGIC: Final = b"PGgrnt\0\2"
TIME_MAGIC: Final = b"PGtime\0\1"
AUDIT_MAGIC: Final = b"PGaudit\1"
STATEMENT_MAGIC: Final = b"PGsla\0\0\1"
AUTHORITY_MAGIC: Final = b"PGauth\0\2"


class Signs(Protocol):
    """A key that can sign: one in memory, or one that a device holds."""

    def sign(self, data: bytes, /) -> bytes:
        """Sign with Ed25519 (RFC 8032)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An agent's DTLS certificate, by its identity key."""

    tenant: str
    agent: str
    fingerprint: bytes
    until_s: int

    def encode(self) -> bytes:
        """Lay out as drawn above. Raises ``SealError`` where something does not fit."""
        head = _pack(_BINDING, BINDING_MAGIC, self.until_s, self.fingerprint)
        return head + _texts(self.tenant, self.agent)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what ``encode`` wrote; raises ``SealError``."""
        (until_s, fingerprint), (tenant, agent) = _read(_BINDING, BINDING_MAGIC, body, texts=2)
        return cls(tenant=tenant, agent=agent, fingerprint=fingerprint, until_s=until_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One test, by the server's key: who with whom, until when, how much. Both ends are given the same."""

    tenant: str
    test: str
    cycle: int
    src: str
    dst: str
    src_fingerprint: bytes
    dst_fingerprint: bytes
    issued_us: int
    expires_us: int
    nonce: bytes
    most_probes: int
    most_bytes: int
    most_s: int
    src_site: str
    dst_site: str
    rule: str  # of the server's policy; empty: none was needed

    def encode(self) -> bytes:
        """Lay out as drawn above. Raises ``SealError`` where something does not fit."""
        numbers = (self.cycle, self.issued_us, self.expires_us)
        most = (self.most_probes, self.most_bytes, self.most_s)
        prints = (self.src_fingerprint, self.dst_fingerprint)
        head = _pack(_GRANT, GRANT_MAGIC, *numbers, *most, self.nonce, *prints)
        texts = (self.tenant, self.test, self.src, self.dst, self.src_site, self.dst_site, self.rule)
        return head + _texts(*texts)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what ``encode`` wrote; raises ``SealError``, ``SealVersionError`` for another version."""
        if body[:7] == GRANT_MAGIC[:7] and body[7:8] not in (b"", GRANT_MAGIC[7:]):
            raise SealVersionError("grant", seen=body[7], known=GRANT_MAGIC[7])
        fixed, texts = _read(_GRANT, GRANT_MAGIC, body, texts=7)
        cycle, issued_us, expires_us, most_probes, most_bytes, most_s, nonce, *prints = fixed
        tenant, test, src, dst, src_site, dst_site, rule = texts
        return cls(
            tenant=tenant,
            test=test,
            cycle=cycle,
            src=src,
            dst=dst,
            src_fingerprint=prints[0],
            dst_fingerprint=prints[1],
            issued_us=issued_us,
            expires_us=expires_us,
            nonce=nonce,
            most_probes=most_probes,
            most_bytes=most_bytes,
            most_s=most_s,
            src_site=src_site,
            dst_site=dst_site,
            rule=rule,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTime:
    """How late it is on the server, in answer to a challenge.

    Grants are judged by it and not by the host's clock, which may be an hour off on a host that must be
    measured all the same.
    """

    challenge: bytes
    now_us: int

    def encode(self) -> bytes:
        """Lay out as drawn above. Raises ``SealError`` where something does not fit."""
        return _pack(_TIME, TIME_MAGIC, self.now_us, self.challenge)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what ``encode`` wrote; raises ``SealError``."""
        (now_us, challenge), _ = _read(_TIME, TIME_MAGIC, body, texts=0)
        return cls(challenge=challenge, now_us=now_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditMark:
    """One row of a chain of audit rows, by the server's key: the last one then, or the last that is gone."""

    tenant: str
    chain: str
    seq: int
    hash: bytes
    at_us: int
    adopted: int = 0  # rows up to this number are of before there were chains
    gone_from: int = 0  # rows from this number up to this one were let go of; 0: it was the last one then

    def encode(self) -> bytes:
        """Lay out as drawn above. Raises ``SealError`` where something does not fit."""
        numbers = (self.at_us, self.seq, self.adopted, self.gone_from)
        return _pack(_AUDIT, AUDIT_MAGIC, *numbers, self.hash) + _texts(self.tenant, self.chain)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what ``encode`` wrote; raises ``SealError``."""
        (at_us, seq, adopted, gone_from, hash_), (tenant, chain) = _read(_AUDIT, AUDIT_MAGIC, body, texts=2)
        return cls(
            tenant=tenant,
            chain=chain,
            seq=seq,
            hash=hash_,
            at_us=at_us,
            adopted=adopted,
            gone_from=gone_from,
        )


def seal(body: bytes, key: Signs) -> bytes:
    """Put the signature behind a body."""
    return body + key.sign(body)


def unseal(sealed: bytes, key: bytes) -> bytes:
    """Check the signature by the public key ``key`` and give the body; raises ``SealError``."""
    if not SIGNATURE_BYTES < len(sealed) <= MAX_SEALED:
        raise SealError(f"{len(sealed)} bytes are nothing signed")
    body, signature = sealed[:-SIGNATURE_BYTES], sealed[-SIGNATURE_BYTES:]
    try:
        verifying_key(key).verify(signature, body)
    except InvalidSignature as error:
        raise SealError("the signature is by another key") from error
    return body


def verifying_key(key: bytes) -> Ed25519PublicKey:
    """Read a public key that signatures are to be checked with; raises ``SealError``.

    A key of small order is refused: anybody can make a signature that it takes, over any body (libsodium's
    ``ge25519_has_small_order``), so nothing that is signed with it would prove anything.
    """
    if len(key) != KEY_BYTES or key[:-1] + bytes([key[-1] & 0x7F]) in SMALL_ORDER:
        raise SealError("the public key is none that proves anything")
    try:
        return Ed25519PublicKey.from_public_bytes(key)
    except ValueError as error:
        raise SealError(f"the public key does not read: {error}") from error


def signed_statement(body: bytes, key: Signs) -> bytes:
    """Sign a document that is handed on beside its signature."""
    return key.sign(STATEMENT_MAGIC + body)


def check_statement(body: bytes, signature: bytes, key: bytes) -> None:
    """Raise ``SealError`` unless the signature is by ``key`` and over these very bytes."""
    try:
        verifying_key(key).verify(signature, STATEMENT_MAGIC + body)
    except InvalidSignature as error:
        raise SealError(
            "the signature is not by this key over this document",
            remedy="take the file byte by byte as it was written, and the key of the server that signed it",
        ) from error


def signed_authority(certificate: bytes, number: int, key: Signs) -> bytes:
    """Vouch for an authority's certificate; for agents that know this key, and not yet that authority.

    By the ``number``, from 0, an agent tells what was signed before from what comes next.
    """
    return key.sign(_pack(_AUTHORITY, AUTHORITY_MAGIC, number) + certificate)


def check_authority(certificate: bytes, number: int, signature: bytes, key: bytes) -> None:
    """Raise ``SealError`` unless ``key`` vouches for this certificate, and this as its number."""
    try:
        verifying_key(key).verify(signature, _pack(_AUTHORITY, AUTHORITY_MAGIC, number) + certificate)
    except (SealError, InvalidSignature) as error:
        raise SealError("the authority is not vouched for by the key of the server enrolled at") from error


def key_text(key: bytes) -> str:
    """Write a public key for people and files: ``ed25519:`` and base64 without padding."""
    return KEY_PREFIX + base64.b64encode(key).decode().rstrip("=")


def key_bytes(text: str) -> bytes:
    """Read what ``key_text`` wrote; raises ``SealError``."""
    try:
        key = base64.b64decode(text.removeprefix(KEY_PREFIX) + "=", validate=True)
    except ValueError as error:
        raise SealError(f"{text[:80]!r} is no key: {error}") from error
    if len(key) != KEY_BYTES or key_text(key) != text:
        raise SealError(f"{text[:80]!r} is no key: it is {KEY_PREFIX} and 43 letters of base64")
    return key


def fingerprint_bytes(text: str) -> bytes:
    """Read a SHA-256 fingerprint as of RFC 8122 section 5; raises ``SealError``."""
    try:
        fingerprint = bytes.fromhex(text.replace(":", ""))
    except ValueError as error:
        raise SealError(f"{text[:100]!r} is no fingerprint") from error
    if len(fingerprint) != FINGERPRINT_BYTES:
        raise SealError(f"{text[:100]!r} is no SHA-256 fingerprint")
    return fingerprint


def _pack(layout: struct.Struct, *fields: bytes | int) -> bytes:
    """Pack, where ``struct`` would pad or cut bytes that have not the right length."""
    if any(isinstance(field, int) and not 0 <= field <= MAX_NUMBER for field in fields):
        raise SealError("a number below 0 or above 2^63 - 1")
    packed = layout.pack(*fields)
    if layout.unpack(packed) != fields:
        raise SealError("a fingerprint, nonce or challenge of another length than its field")
    return packed


def _texts(*texts: str) -> bytes:
    encoded = [text.encode() for text in texts]
    if any(len(text) > MAX_TEXT for text in encoded):
        raise SealError(f"a text of more than {MAX_TEXT} bytes")
    return b"".join(bytes([len(text)]) + text for text in encoded)


def _read(
    layout: struct.Struct, magic: bytes, body: bytes, *, texts: int
) -> tuple[tuple[Any, ...], list[str]]:
    if body[: len(magic)] != magic or len(body) < layout.size:
        raise SealError("signed, but something else")
    fixed = layout.unpack_from(body)[1:]
    if any(isinstance(field, int) and field > MAX_NUMBER for field in fixed):
        raise SealError("a number above 2^63 - 1")
    return fixed, _read_texts(body[layout.size :], texts)


def _read_texts(rest: bytes, count: int) -> list[str]:
    found = []
    for _ in range(count):
        length = rest[0] if rest else 0
        if len(rest) < 1 + length:
            raise SealError("a text is cut short")
        try:
            found.append(rest[1 : 1 + length].decode())
        except UnicodeDecodeError as error:
            raise SealError(f"a text is not UTF-8: {error}") from error
        rest = rest[1 + length :]
    if rest:
        raise SealError(f"{len(rest)} bytes too many")
    return found
