"""Headers of requests: what proxies say, CSRF tokens, origins, cookies, tags that are known already."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from fastapi import Request
from shaped import Taken
from starlette.datastructures import Headers

from server.accounts.proxies import Proxies, network, said_groups, said_name
from server.api.csrf import comes_from_elsewhere, csrf_token, is_csrf_token
from server.api.local import is_local
from server.etag import is_known

ALLOWED = ()
PROXIES = Proxies((network("192.0.2.0/24"), network("2001:db8::/32")))
NAMES = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-user",
    b"origin",
    b"host",
    b"sec-fetch-site",
    b"cookie",
    b"x-csrf-token",
    b"if-none-match",
    b"authorization",
)
PEERS = ("192.0.2.9", "203.0.113.1", "127.0.0.1", "::1", "::ffff:192.0.2.9", "")
KEY = bytes(32)
TOKEN = csrf_token(KEY, bytes(16))


def target(data: bytes) -> None:
    taken = Taken(data)
    peer = taken.one_of(PEERS)
    raw = [(taken.one_of(NAMES), taken.some()) for _ in range(taken.number(1, 5))]
    headers = Headers(raw=raw)
    client = PROXIES.client(peer, headers)
    assert client == peer or (PROXIES.has(peer) and ip_address(client))
    PROXIES.speaks_tls(peer, headers)
    name = said_name(headers, "x-forwarded-user")
    assert name is None or name.isprintable()
    said_groups(headers, "x-forwarded-user")
    if comes_from_elsewhere(headers) is False and "sec-fetch-site" not in headers:
        assert comes_from_elsewhere(headers, own="https://pathgrade.example.org") is False
    token = headers.get("x-csrf-token", "")
    assert not is_csrf_token(KEY, token) or token.rstrip("=") == TOKEN.rstrip("=") or len(token) == 44
    is_known('W/"abc"', headers.get("if-none-match", ""))
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": raw,
             "client": (peer, 1), "server": ("127.0.0.1", 8080), "scheme": "http"}  # fmt: skip
    request = Request(scope)
    is_local(request)
    assert all(isinstance(value, str) for value in request.cookies.values())


def _of(peer: int, *pairs: tuple[int, bytes]) -> bytes:
    told = b"".join(bytes([name, len(value)]) + value for name, value in pairs)
    return bytes([peer, len(pairs) - 1]) + told


def seeds() -> Iterator[bytes]:
    yield _of(0, (0, b"203.0.113.9, [2001:db8::1]:443, 192.0.2.1:80"), (1, b"https, http"), (2, b"ada"))
    yield _of(2, (3, b"https://pathgrade.example.org"), (4, b"pathgrade.example.org"))
    yield _of(2, (3, b"http://[::1]:8080"), (4, b"[::1]:8080"))
    yield _of(1, (6, b'pg_session=abc; other="quoted\\054"; =x'), (7, TOKEN.encode()))
    yield _of(1, (5, b"cross-site"), (8, b'W/"abc", *'), (9, b"Bearer pgt_abc"))
