"""The agent's long-lived identity: an Ed25519 key, and the P-256 certificate for DTLS that it vouches for.

The identity key is what peers pin at the first meeting (``agent.mesh.peers``). The certificate is what DTLS
presents; the identity key signs its SHA-256 fingerprint with the agent's name (``trust.Binding``). It is kept
small, because the DTLS transport in use sends at most one 1500-byte datagram a flight.

The certificate crosses the network in the clear, so it does not say whose it is. All is in one file, with the
agent's name in front: two files could come from two backups.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import durable
from agent.errors import IdentityError
from agent.keyholder import FileKey, KeyHolder
from analytics.trust import Binding, fingerprint_bytes, key_text, seal

FILE_NAME: Final = "identity.pem"
MAX_FILE: Final = 16 * 1024
VALID_FROM: Final = datetime(2020, 1, 1, tzinfo=UTC)
VALID_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280 4.1.2.5: no expiry intended
BINDING_S: Final = 400 * 86_400
"""A binding is made anew for every control connection; one that was stolen is of use for so long."""

SUBJECT: Final = "agent"
_DAMAGED: Final = (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm)
"""What keys and certificates raise that do not read; ``TypeError`` where a password would be needed."""
_NAMED: Final = re.compile(rb"\A# identity of agent (\S+)\n")
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Identity:
    """The key that lasts, and a key for DTLS with the certificate over it."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    identity_key: KeyHolder

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, upper-case hex with colons (RFC 8122 section 5)."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    @property
    def certificate_der(self) -> bytes:
        """The certificate as enrolled."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, claim: bytes) -> bytes:
        """Sign by the certificate's key: ECDSA over SHA-256."""
        return self.key.sign(claim, ec.ECDSA(hashes.SHA256()))

    @property
    def public_key(self) -> bytes:
        """The identity key's public half, 32 bytes."""
        return self.identity_key.public_key

    @property
    def anchor(self) -> str:
        """The line for an ``identity_anchors`` file."""
        return f'{self.name} = "{key_text(self.public_key)}"'

    def binding(self, tenant: str, *, now_s: int) -> bytes:
        """Vouch for the certificate by the identity key (``trust.Binding``, sealed)."""
        body = Binding(
            tenant=tenant,
            agent=self.name,
            fingerprint=fingerprint_bytes(self.fingerprint),
            until_s=now_s + BINDING_S,
        )
        return seal(body.encode(), self.identity_key)


def load_or_create(folder: Path, name: str) -> Identity:
    """Read the identity of agent ``name`` from ``folder``, or make one on the first run.

    One of before there were identity keys is given one. Raises ``IdentityError`` if the file is unreadable,
    damaged, or another agent's.
    """
    path = folder / FILE_NAME
    try:
        identity, whole = _parse(path, _read(path), name)
    except FileNotFoundError:
        identity, whole = create(name), False
    if not whole:
        _write(path, identity)
    return identity


def read(folder: Path) -> Identity:
    """Read the identity in ``folder``, whosever it is; nothing is written. Raises ``IdentityError``."""
    path = folder / FILE_NAME
    try:
        identity, whole = _parse(path, _read(path), None)
    except FileNotFoundError:
        whole = False
    if not whole:
        raise IdentityError(f"read {path}: no identity key yet", remedy="start the agent once")
    return identity


def create(name: str) -> Identity:
    """Make a fresh identity; nothing is written."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, SUBJECT)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .sign(key, hashes.SHA256())
    )
    return Identity(name, key, certificate, FileKey(Ed25519PrivateKey.generate()))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise IdentityError(
                    f"read {path}: others than its owner may use it",
                    remedy=f"chmod 600 {path}; if others could read it, take it for stolen: remove it,"
                    " and enrol again with a token that --replaces this agent",
                )
            return file.read(MAX_FILE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IdentityError(
            f"read {path}: {error.strerror}", remedy="run the agent as the user that owns its data folder"
        ) from error


def _parse(path: Path, pem: bytes, name: str | None) -> tuple[Identity, bool]:
    """Read a file; False if it had no identity key, and the one returned is new."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
        certified = certificate.public_key()
    except _DAMAGED as error:
        raise IdentityError(f"read {path}: damaged: {error}", remedy=_enrol_again(path)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certified:
        raise IdentityError(f"read {path}: key and certificate do not match", remedy=_enrol_again(path))
    owner = _owner(pem, certificate)
    if name is not None and owner != name:
        raise IdentityError(
            f"read {path}: it is the identity of {owner!r}, not of {name!r}",
            remedy="give each agent a data folder of its own, or set name back",
        )
    identity_key = _identity_key(path, pem)
    held = identity_key or FileKey(Ed25519PrivateKey.generate())
    return Identity(owner, key, certificate, held), identity_key is not None


def _owner(pem: bytes, certificate: x509.Certificate) -> str:
    """Whose file it is; certificates of before there were identity keys say so themselves."""
    if (named := _NAMED.match(pem)) is not None:
        return named[1].decode(errors="replace")
    try:
        return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    except (ValueError, IndexError):
        return ""


def _identity_key(path: Path, pem: bytes) -> FileKey | None:
    """Read the second key of the file; None if there is none."""
    blocks = _PRIVATE_KEY.findall(pem)
    if len(blocks) < 2:
        return None
    try:
        key = serialization.load_pem_private_key(blocks[1], password=None)
    except _DAMAGED as error:
        raise IdentityError(f"read {path}: damaged: {error}", remedy=_enrol_again(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"read {path}: damaged: its second key is not Ed25519", remedy=_enrol_again(path))
    return FileKey(key)


def _enrol_again(path: Path) -> str:
    return f"restore {path} from a backup, or remove it and enrol again with a new token"


def _write(path: Path, identity: Identity) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path, _pem(identity))
    except OSError as error:
        raise IdentityError(
            f"write {path}: {error.strerror}", remedy="make the agent's data folder writable for its user"
        ) from error


def _pem(identity: Identity) -> bytes:
    assert isinstance(identity.identity_key, FileKey)  # what another holder holds is not ours to write
    key = identity.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    head = f"# identity of agent {identity.name}\n".encode()
    certificate = identity.certificate.public_bytes(serialization.Encoding.PEM)
    return head + key + certificate + identity.identity_key.pem()
