"""Whether a request that changes something was meant by the person whose browser sent it.

A browser sends its cookies with whatever another site makes it send. So a change needs a token that only a
page of ours can know, bound to the session (synchronizer token), and must not come from elsewhere by its
own word (https://www.w3.org/TR/fetch-metadata/, Origin: RFC 6454). A token is salted afresh for each page:
what is the same in each compressed answer could be found out by its length (BREACH).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

FIELD: Final = "csrf"
HEADER: Final = "x-csrf-token"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SAME_SITE: Final = frozenset({"same-origin", "none"})
_SALT: Final = 16
_MAC: Final = 16


def csrf_key(credential: str) -> bytes:
    """Derive the key of a browser's tokens from the secret that it holds in a cookie."""
    return hashlib.sha256(b"pathgrade csrf\0" + credential.encode()).digest()


def csrf_token(key: bytes, salt: bytes | None = None) -> str:
    """Make a token, another one each time."""
    salt = salt or secrets.token_bytes(_SALT)
    return base64.urlsafe_b64encode(salt + _mac(key, salt)).decode()


def is_csrf_token(key: bytes, text: str) -> bool:
    """Tell whether a token was made with this key."""
    try:
        raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    salt, mac = raw[:_SALT], raw[_SALT:]
    return len(raw) == _SALT + _MAC and hmac.compare_digest(mac, _mac(key, salt))


def comes_from_elsewhere(headers: Mapping[str, str], *, own: str | None = None) -> bool:
    """Tell whether the browser says that another site's page sent this; ``own`` is the URL people use."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in SAME_SITE
    origin = headers.get("origin")
    if origin is None:
        return False  # no browser, or an old one: the token decides
    # The scheme is left out: a proxy in front may speak TLS where we do not.
    ours = {headers.get("host", "").lower(), *([urlsplit(own).netloc.lower()] if own else [])}
    try:
        return urlsplit(origin).netloc.lower() not in ours - {""}
    except ValueError:  # no URL: no browser says that
        return True


def _mac(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, salt, "sha256")[:_MAC]
