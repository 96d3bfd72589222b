"""The agent's socket for commands on its host: the question, and an answer's lines (agent/local.py)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
from shaped import chosen, either

from agent.errors import LocalAnswerError
from agent.local import Ask, Head, _line, _understood
from analytics.errors import UNREADABLE
from analytics.measurement import Session

ALLOWED = (LocalAnswerError, *UNREADABLE)
"""A question that does not read is told back by ``_Desk._parts``."""


def target(data: bytes) -> object:
    return either(data, _understood, lambda body: _answer(body, Head), lambda body: _answer(body, Session))


def _answer(data: bytes, kind) -> None:
    try:
        _line(io.BytesIO(data), kind, Path("/run/agent.sock"))
    except UNREADABLE as error:
        raise AssertionError("the command must say what is wrong") from error


def seeds() -> Iterator[bytes]:
    yield chosen(0, msgspec.json.encode(Ask(process="curl", remote="192.0.2.1", limit=50)))
    yield chosen(1, msgspec.json.encode(Head(sessions=2)) + b"\n")
    yield chosen(1, b'{"error":"no"}\n')
    yield chosen(2, b'{"id":"1f00c2ab94","x":' + b"[" * 30 + b"]" * 30 + b"}\n")
