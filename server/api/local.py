"""Whether a request comes from the server's own host."""

from __future__ import annotations

import ipaddress
from typing import Final

from fastapi import Request

FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""What a proxy on this host adds (RFC 7239 and before it): whoever asks stands behind it, not here."""


def is_local(request: Request) -> bool:
    """Say whether a request comes from this host, and by a name of it: another name may be a rebound one."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        name = request.url.hostname or ""
        client = ipaddress.ip_address(request.client.host if request.client else "")
        return client.is_loopback and (name == "localhost" or ipaddress.ip_address(name).is_loopback)
    except ValueError:
        return False
