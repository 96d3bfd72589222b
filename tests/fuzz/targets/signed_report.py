"""Signed reports read back (server/signed.py): signed by the target, so that the reader is reached."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator
from pathlib import Path

import msgspec
from shaped import Taken, chosen, either, file_of
from signers import Signer, known

from analytics.errors import ExportError, SealError
from analytics.sla import FORMAT, SlaReport
from analytics.trust import key_text, signed_statement
from server.signed import verified

ALLOWED = (SealError, ExportError)
SHORT_RUNS = 150
KEY = Signer(bytes(range(32)))
GOOD = b"{}"
KEY_TEXT = key_text(KEY.public)


def target(data: bytes) -> object:
    with known(KEY):
        return either(data, _signed, _forged, _key_file)


def _signed(body: bytes) -> None:
    signature = base64.b64encode(signed_statement(body, KEY))
    verified(file_of(body, "report"), KEY_TEXT, file_of(signature, "report.sig"))


def _forged(data: bytes) -> None:
    taken = Taken(data)
    signature = file_of(taken.some(), "report.sig")
    verified(file_of(taken.rest(), "report"), KEY_TEXT, signature)
    raise AssertionError("a report was forged")


def _key_file(data: bytes) -> None:
    report, signature = _good()
    verified(report, str(file_of(data, "key")), signature)


@functools.cache
def _good() -> tuple[Path, Path]:
    return file_of(GOOD, "good"), file_of(base64.b64encode(signed_statement(GOOD, KEY)), "good.sig")


def _blank(kind) -> dict[str, object]:
    """Every field of a struct, with nothing in it."""
    empty = {"str": "", "int": 0, "bool": False}
    return {
        field.name: empty.get(getattr(field.type, "__name__", ""), [])
        for field in msgspec.structs.fields(kind)
    }


def seeds() -> Iterator[bytes]:
    yield chosen(0, msgspec.json.encode(_blank(SlaReport) | {"format": FORMAT, "tenant": "default"}))
    yield chosen(0, b"{}")
    yield chosen(1, bytes([88]) + base64.b64encode(signed_statement(b"{}", KEY)) + b"{ }")
    yield chosen(2, KEY_TEXT.encode())
    yield chosen(2, msgspec.json.encode({"key": KEY_TEXT}))
