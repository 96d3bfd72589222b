"""The authorities that were the server's before: ``authority-former.json``. No key of theirs is kept.

Each comes with its link: the next authority's key, signed by it before its own key was let go of (RFC 4210,
4.4: "new with old"). Who knows a former authority finds by the links that it is still the same server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from analytics.channel import MAX_CERTIFICATE
from analytics.errors import UNREADABLE
from server import private_file

FILE_NAME: Final = "authority-former.json"
REMEDY: Final = (
    "restore it from a backup; without it, remove it: agents that know an earlier authority need tokens then"
)
Der = Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE)]


class Former(msgspec.Struct, frozen=True, kw_only=True):
    """One of them."""

    certificate: Der
    link: Der  # over the key of the authority that came next
    replaced_us: int


def read(data: Path, now: x509.Certificate) -> tuple[Former, ...]:
    """Read those before the authority that is ``now``, the latest first; none where there is no file.

    Raises ``StateError``.
    """
    path = data / FILE_NAME
    try:
        known = msgspec.json.decode(private_file.read(path, remedy=REMEDY), type=list[Former])
        return tuple(row_of(known, now))
    except FileNotFoundError:
        return ()
    except (*UNREADABLE, ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise private_file.unusable(path, f"damaged: {error}", remedy=REMEDY) from error


def write(data: Path, formers: Iterable[Former]) -> None:
    """Write them, the latest first; raises ``StateError``."""
    private_file.replace(data / FILE_NAME, msgspec.json.encode([*formers]), remedy=REMEDY)


def row_of(known: Sequence[Former], now: x509.Certificate) -> list[Former]:
    """Take those whose links lead to the authority that is now. Raises ``ValueError`` where the row breaks.

    The first may lead elsewhere: a rotation was killed before its authority was there. Where none leads
    here, somebody has put another authority in place, and nothing of before counts.
    """
    row = list(dropwhile(lambda one: not _leads(one, now), known))
    to = now
    for one in row:
        if not _leads(one, to):
            raise ValueError("a link leads to another authority than the next one")
        to = x509.load_der_x509_certificate(one.certificate)
    return row


def _leads(one: Former, to: x509.Certificate) -> bool:
    link = x509.load_der_x509_certificate(one.link)
    try:
        link.verify_directly_issued_by(x509.load_der_x509_certificate(one.certificate))
    except (InvalidSignature, TypeError) as error:
        raise ValueError("a link is not by its authority") from error
    return link.public_key() == to.public_key()
