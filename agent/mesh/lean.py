"""What aioice and aiortc import for media and mDNS, left out: 9 MB that a probe has no use for.

PyAV decodes video, libsrtp (which brings its own OpenSSL) encrypts it, dnspython finds ``.local`` names, of
which no agent offers any. Stubs stand in where those libraries ask for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class NoSrtp:
    """In place of libsrtp's policy and session: aiortc derives keys, of which no packet is made."""

    SRTP_PROFILE_AEAD_AES_256_GCM = SRTP_PROFILE_AEAD_AES_128_GCM = SRTP_PROFILE_AES128_CM_SHA1_80 = 0
    SSRC_ANY_INBOUND = SSRC_ANY_OUTBOUND = 0

    def __init__(self, *_policy: object, **_settings: object) -> None:
        """Take what aiortc gives."""


@contextmanager
def without_media() -> Iterator[None]:
    """Import aiortc's DTLS in here: PyAV and libsrtp are stubs meanwhile."""
    with (
        _stubbed("av", AudioFrame=object, VideoFrame=object),  # all that rtp.py asks for
        _stubbed("pylibsrtp", Policy=NoSrtp, Session=NoSrtp, Error=OSError),
    ):
        yield


def leave_mdns_out() -> None:
    """Give aioice a stub for its mDNS when it is imported: for it no name ends in ``.local``."""
    if "aioice" not in sys.modules:
        sys.modules["aioice.mdns"] = _stub(
            "aioice.mdns", MDnsProtocol=object, is_mdns_hostname=lambda _name: False
        )


@contextmanager
def _stubbed(name: str, **contents: object) -> Iterator[None]:
    """Have ``import name`` give a stub, unless the real one is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = _stub(name, **contents)
    try:
        yield
    finally:
        del sys.modules[name]


def _stub(name: str, **contents: object) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made
