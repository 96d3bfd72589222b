"""TLS of the agents' listener: who may come in, what a connection presented, and who was turned away.

A certificate is asked for and not demanded: who enrols or renews has none yet. One that is presented must be
of our authority, or the handshake fails. Its dates are judged with each request (``server.credentials``) and
not here: an agent whose certificate is over is to be told so, where a handshake would just break.
"""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from analytics.channel import named_by, tls_1_3, trust
from analytics.errors import MessageError
from server.authority import Authority, present_own

log: Final = logging.getLogger("pathgrade.server.tls")

PRESENTED: Final = "presented"
"""Key of what a connection presented, in the ``state`` of its ASGI scopes."""
HANDSHAKE: Final = "handshake"
"""What handshakes that failed are counted under."""
NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME; Python does not name it
_GOING_ON: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Presented(NamedTuple):
    """An agent's certificate, that our authority made; times in us since 1970."""

    tenant: str
    name: str
    key: bytes  # Ed25519
    since_us: int
    until_us: int


def listener_context(authority: Authority, refused: Counter[str]) -> ssl.SSLContext:
    """Make the listener's context; handshakes that fail are counted in ``refused``."""

    class Watched(ssl.SSLObject):
        """One connection's; asyncio drops handshakes that fail without a word."""

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except _GOING_ON:
                raise
            except ssl.SSLError as error:
                refused[HANDSHAKE] += 1
                log.debug("handshake failed why=%s", error.reason)
                raise

    context = tls_1_3(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = Watched
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= NO_CHECK_TIME
    context.num_tickets = 0  # each connection presents its certificate anew
    trust(context, authority.der)
    for one in authority.former:
        trust(context, one.certificate)  # an agent's lasts on under the new one until it is renewed
    present_own(authority, context)
    return context


def presented(tls: Any) -> Presented | None:
    """Read what the other end of a connection presented; None if it was nothing, or nothing of an agent's."""
    der = tls.getpeercert(True)
    if der is None:
        return None
    try:
        return read(der)
    except MessageError as error:
        log.warning("a certificate of our authority that is no agent's why=%r", str(error))
        return None


def read(der: bytes) -> Presented:
    """Read an agent's certificate, whose chain is checked already. Raises ``MessageError``."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = certificate.public_key()
    except (
        ValueError,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        UnsupportedAlgorithm,
    ) as error:
        raise MessageError(f"the certificate does not read: {error}") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not isinstance(key, Ed25519PublicKey):
        raise MessageError("the certificate names no agent, or is not over an identity key")
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Presented(*named_by(uris[0]), key.public_bytes_raw(), _us(since), _us(until))


def _us(moment: Any) -> int:
    return int(moment.timestamp()) * 1_000_000
