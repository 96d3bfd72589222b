"""The signature of a webhook, as a receiver checks it (server/alerts/receivers/signature.py)."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import Taken, counted

from server.alerts.receivers.signature import signature, verify

ALLOWED = ()
NOW_S = 1_764_000_000
SECRET = "a shared secret"
BODY = b'{"event":"opened"}'


def target(data: bytes) -> None:
    taken = Taken(data)
    header, body = taken.text(), taken.rest()
    if verify(SECRET, header, body, NOW_S):
        assert any(header_of(at_s, body) in header for at_s in range(NOW_S - 300, NOW_S + 301)), "forged"


def header_of(at_s: int, body: bytes) -> str:
    return signature(SECRET, body, at_s).partition("v1=")[2]


def seeds() -> Iterator[bytes]:
    yield counted(signature(SECRET, BODY, NOW_S).encode()) + BODY
    yield counted(b"t=1764000000,v1=00,t=,x") + BODY
