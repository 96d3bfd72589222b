"""A signed report on disk: the document, and its signature in a file beside it (``FILE.sig``)."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Final

import msgspec

from analytics.errors import UNREADABLE, ExportError, SealError
from analytics.sla import FORMAT, SlaReport
from analytics.trust import SIGNATURE_BYTES, check_statement, key_bytes
from server.api.client import SignedReport, writing_whole
from server.api.sla_shapes import SlaKey

MOST_BYTES: Final = 64 * 2**20
"""Of a report: a thousand workplaces' is a megabyte."""
MOST_TEXT: Final = 4096


def signature_path(report: Path) -> Path:
    """Name the file of a report's signature."""
    return report.with_name(report.name + ".sig")


def write_signed(out: Path, signed: SignedReport) -> None:
    """Write both files, each whole or not at all. Raises ``ExportError``."""
    with writing_whole(out) as file:
        file.write(signed.body)
    with writing_whole(signature_path(out)) as file:
        file.write(f"{signed.signature}\n".encode())


def verified(report: Path, key: str, signature: Path | None = None) -> SlaReport:
    """Read a report whose signature is by ``key``: "ed25519:..." or a file that has it.

    Raises ``ExportError`` where a file cannot be read, ``SealError`` for a signature that does not hold and
    for a document that is no report.
    """
    body = _read(report, MOST_BYTES)
    told = _read(signature or signature_path(report), MOST_TEXT).strip()
    try:
        sealed = base64.b64decode(told, validate=True)
    except binascii.Error as error:
        raise SealError(f"{signature or signature_path(report)} is no signature: {error}") from error
    if len(sealed) != SIGNATURE_BYTES:
        raise SealError(f"{signature or signature_path(report)} is no signature: {len(sealed)} bytes")
    check_statement(body, sealed, key_bytes(key_of(key)))
    try:
        found = msgspec.json.decode(body, type=SlaReport)
    except UNREADABLE as error:
        raise SealError(f"{report} is signed, and no report of this version: {error}") from error
    if found.format != FORMAT:
        raise SealError(f"{report} is signed, and of format {found.format!r}")
    return found


def key_of(given: str) -> str:
    """Take a key as it is, or out of the file of that name: alone, or as ``/v1/sla/key`` answers.

    Raises ``ExportError`` and ``SealError``.
    """
    if given.startswith("ed25519:"):
        return given
    text = _read(Path(given), MOST_TEXT).decode("ascii", "replace").strip()
    if not text.startswith("{"):
        return text
    try:
        return msgspec.json.decode(text, type=SlaKey).key
    except UNREADABLE as error:
        raise SealError(f"{given} is no key: {error}") from error


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ExportError(
            f"read {path}: {error.strerror}", remedy="name a file that is there; KEY is ed25519:... or a file"
        ) from error
    if len(content) > most:
        raise SealError(f"{path} is longer than {most} bytes")
    return content
