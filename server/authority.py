"""The server's own certificate authority: whose certificates agents take, and what makes those of agents.

A P-256 key with a certificate over it, in ``authority.pem`` in the data folder, made by the first start or
the first ``pathgrade server token``: a token carries the pin of it. It belongs into every backup of the
folder; whoever has it can pose as the server and as any agent, but cannot sign grants (``server.grants``).

Two kinds are made from it, told apart by their extendedKeyUsage (RFC 5280, 4.2.1.12): the server's own, which
is never on disk, and those of agents, over their Ed25519 identity keys. Those that it is in the place of are
in ``server.former``; putting another in its place is in ``server.rotation``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from analytics.channel import agent_uri, pin_of, present
from server import former as formers
from server import private_file
from server.former import Former

log: Final = logging.getLogger("pathgrade.server")

FILE_NAME: Final = "authority.pem"
REMEDY: Final = "restore it from a backup; without it, remove it and let every agent enrol again"
VALID_FROM: Final = datetime(2020, 1, 1, tzinfo=UTC)
VALID_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280 4.1.2.5: no expiry intended
SERVER_LIFE: Final = timedelta(days=90)
SERVER_BEFORE: Final = timedelta(days=90)
"""The server's certificate counts from so long ago on: the clock of a host that is measured may be wrong."""
RENEWED_EACH_S: Final = 86_400.0
LOOK_S: Final = 60.0
"""Between looks at the clock: one that NTP sets after the start must not keep agents out for a day."""
AGENT_BEFORE: Final = timedelta(hours=1)
"""Judged by the server's clock alone, which may be set back a little."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Makes certificates; ``pin`` is what tokens name it by."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    former: tuple[Former, ...] = ()
    """Those before it that are still taken, the latest first."""

    @classmethod
    def open(cls, data: Path) -> Authority:
        """Read it, or make it on the first run; raises ``StateError``."""
        path = data / FILE_NAME
        try:
            found = _parse(path, private_file.read(path, remedy=REMEDY))
        except FileNotFoundError:
            private_file.make(path, create().pem, remedy=REMEDY)
            found = _parse(
                path, private_file.read(path, remedy=REMEDY)
            )  # another process may have been faster
        return replace(found, former=formers.read(data, found.certificate))

    @property
    def der(self) -> bytes:
        """The certificate, which is no secret."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """Key and certificate, as they are kept."""
        return _key_pem(self.key) + self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pin(self) -> str:
        """Name it, as tokens do."""
        return pin_of(self.certificate)

    def agent_certificate(
        self, tenant: str, name: str, identity_key: bytes, *, life: timedelta, now: datetime
    ) -> bytes:
        """Say in DER that the holder of an identity key is this agent, for so long."""
        made = self._begun(Ed25519PublicKey.from_public_bytes(identity_key), "pathgrade agent")
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(agent_uri(tenant, name))])
        made = made.not_valid_before(now - AGENT_BEFORE).not_valid_after(now + life)
        made = made.add_extension(names, critical=False)
        return self._signed(made, ExtendedKeyUsageOID.CLIENT_AUTH)

    def server_chain(self, *, now: datetime) -> bytes:
        """Make a key and a certificate for the listener, as PEM.

        Behind it is the way to what agents know: the links to former authorities, else the authority's own.
        Not both: who knows a former one only would meet the authority's own first, and no further.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._begun(key.public_key(), "pathgrade server")
        made = made.not_valid_before(now - SERVER_BEFORE).not_valid_after(now + SERVER_LIFE)
        # Agents look for the authority, not for a name: the server is reached under any.
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        der = self._signed(made.add_extension(names, critical=False), ExtendedKeyUsageOID.SERVER_AUTH)
        way = [der, *(one.link for one in self.former)] if self.former else [der, self.der]
        return _key_pem(key) + "".join(map(ssl.DER_cert_to_PEM_cert, way)).encode()

    def _begun(
        self, key: ec.EllipticCurvePublicKey | Ed25519PublicKey, called: str
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(called))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
        )

    def _signed(self, made: x509.CertificateBuilder, use: x509.ObjectIdentifier) -> bytes:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        whole = (
            made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
            .add_extension(issuer, critical=False)
        )
        return whole.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


async def keep_presenting(
    authority: Authority, context: ssl.SSLContext, *, wall_s: Callable[[], float] = time.time
) -> None:
    """Present a new certificate each day of the clock, set back or forth; until cancelled.

    The first is ``present_own``'s.
    """
    made_s = wall_s()
    while True:
        await asyncio.sleep(LOOK_S)
        now_s = wall_s()
        if abs(now_s - made_s) < RENEWED_EACH_S:
            continue
        try:
            present_own(authority, context)
            made_s = now_s
        except OSError as error:  # no descriptor is left; the one before is good for three months
            log.error("the listener's certificate is not renewed why=%r", str(error))


def present_own(authority: Authority, context: ssl.SSLContext) -> None:
    """Make the listener's certificate, for connections from now on."""
    present(context, authority.server_chain(now=datetime.now(UTC)))


def create() -> Authority:
    """Make a fresh one; nothing is written."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(key, _authority_over(key.public_key()).sign(key, hashes.SHA256()))


def linked(new: Authority, old: Authority) -> bytes:
    """Say by the old authority that the new one is as good, in DER.

    Both have one name, so this is self-issued, and no intermediate that the old one would forbid (RFC 5280,
    6.1.4 l): ``path_length`` stays 0.
    """
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(old.key.public_key())
    made = _authority_over(new.key.public_key()).add_extension(issuer, critical=False)
    return made.sign(old.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _authority_over(key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    name = _name("pathgrade authority")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ONLY_SIGNS, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


_ONLY_SIGNS: Final = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def _name(called: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])


def _parse(path: Path, pem: bytes) -> Authority:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise private_file.unusable(path, f"damaged: {error}", remedy=REMEDY) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise private_file.unusable(path, "damaged: key and certificate do not match", remedy=REMEDY)
    return Authority(key, certificate)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
