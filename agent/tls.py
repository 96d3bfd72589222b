"""The way to the server: TLS 1.3 with one authority and no other, showing this agent's certificate.

No list of the system's authorities is loaded (1 MB): none of them has a say here. Nor has the server's name,
as it is reached under any; a certificate that the authority made for an agent is not taken for the server's
(extendedKeyUsage, which OpenSSL checks).
"""

from __future__ import annotations

import hmac
import ssl
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from agent.errors import ServerSilentError, ServerUnprovenError
from analytics.channel import pin_of, tls_1_3, trust

DATES: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED (openssl-verification-options(1))."""
_ANEW: Final = "if the server was set up anew, give the agent a new token: pathgrade server token"
OTHER_SERVER: Final = f"see that server names the right host, and that nothing stands between\n{_ANEW}"


def unproven() -> ssl.SSLContext:
    """Take any server: for asking which authority it has, which is then checked. Nothing secret is sent."""
    context = tls_1_3(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def proven(authority: bytes) -> ssl.SSLContext:
    """Take the server whose certificate is by this authority (DER). Raises ``ServerUnprovenError``."""
    context = tls_1_3(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # see above; who is not the server has no certificate of this authority
    try:
        trust(context, authority)
    except ssl.SSLError as error:
        raise ServerUnprovenError(f"the authority does not read: {error}", remedy=_ANEW) from error
    return context


def check_pin(authority: bytes, pin: str) -> None:
    """Raise ``ServerUnprovenError`` unless the authority is the one that a token names.

    For what is no certificate, ``ServerSilentError``: nobody of ours said that.
    """
    if not hmac.compare_digest(pin_in(authority), pin):
        raise ServerUnprovenError(
            "the server is not the one that made the token: its authority is another",
            remedy=OTHER_SERVER,
        )


def pin_in(authority: bytes) -> str:
    """Name an authority (DER). For what is no certificate, ``ServerSilentError``."""
    try:
        return pin_of(x509.load_der_x509_certificate(authority))
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise ServerSilentError(f"the server's authority does not read: {error}") from error


def is_unproven(error: BaseException) -> bool:
    """Say whether an error of a connection is that the server's certificate is by another authority.

    One of its dates is not: this host's clock is off, and will be set.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen.verify_code not in DATES
        seen = seen.__cause__ or seen.__context__
    return False
