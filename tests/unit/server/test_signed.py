"""A signed report on disk: it holds as it was written, and nothing else does."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from analytics.errors import ExportError, SealError
from analytics.sla import month_of
from analytics.trust import key_text, signed_statement
from server.api.client import SignedReport
from server.api.sla_shapes import SlaKey
from server.signed import signature_path, verified, write_signed
from tests.unit.analytics.facts import PACS
from tests.unit.web.fleet import SIGNING_KEY, FixtureCore

KEY = key_text(SIGNING_KEY.public_key().public_bytes_raw())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    month = month_of("2026-11")
    assert month is not None
    report = FixtureCore().sla(PACS, month)
    body = msgspec.json.encode(report)
    signature = base64.b64encode(signed_statement(body, SIGNING_KEY)).decode()
    path = tmp_path / "report.json"
    write_signed(path, SignedReport(body, signature, report))
    return path


def test_a_report_holds_with_the_key_as_text_as_a_file_and_as_the_server_tells_it(out: Path) -> None:
    as_file, as_told = out.with_name("key"), out.with_name("key.json")
    as_file.write_text(f"{KEY}\n")
    as_told.write_bytes(msgspec.json.encode(SlaKey(key=KEY)))
    for key in (KEY, str(as_file), str(as_told)):
        assert verified(out, key).service == "PACS"


@pytest.mark.parametrize("at", [0, 100, -1])
def test_one_changed_byte_is_found(out: Path, at: int) -> None:
    body = bytearray(out.read_bytes())
    body[at] ^= 1
    out.write_bytes(body)
    with pytest.raises(SealError, match="not by this key"):
        verified(out, KEY)


def test_another_key_does_not_hold(out: Path) -> None:
    other = key_text(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(SealError, match="not by this key"):
        verified(out, other)


@pytest.mark.parametrize("told", ["", "!", "AAAA", "x" * 5000])
def test_what_is_no_signature_is_said(out: Path, told: str) -> None:
    signature_path(out).write_text(told)
    with pytest.raises(SealError):
        verified(out, KEY)


@pytest.mark.parametrize("key", ["ed25519:", "ed25519:AAAA", "none", "{}"])
def test_what_is_no_key_is_said(out: Path, key: str) -> None:
    file = out.with_name("some")
    file.write_text(key)
    for given in (key, str(file)) if key.startswith("ed25519:") else (str(file),):
        with pytest.raises(SealError):
            verified(out, given)
    with pytest.raises(ExportError):
        verified(out, str(out.with_name("missing")))


def test_what_is_signed_and_no_report_is_refused(out: Path) -> None:
    body = b'{"format":"another"}'
    out.write_bytes(body)
    signature_path(out).write_bytes(base64.b64encode(signed_statement(body, SIGNING_KEY)))
    with pytest.raises(SealError, match="no report"):
        verified(out, KEY)
