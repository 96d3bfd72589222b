"""The audit chains of a data folder, checked where they lie."""

from __future__ import annotations

from pathlib import Path

from analytics.audit_chain import ChainResult
from server.audit_file import Noted
from server.audit_seal import check, tenants_of
from server.database import connect
from server.errors import StateError
from server.grants import public_key_in
from server.state import FILE_NAME


def checked(data: Path, key: bytes | None, noted: Noted) -> dict[str, list[ChainResult]]:
    """Check the chains of all tenants, by the folder's own key if None is given.

    Raises ``StateError``, and ``SealError`` where a signature is by another key.
    """
    if not (data / FILE_NAME).exists():
        raise StateError(f"use {data}: there is no {FILE_NAME}", remedy="name a server's data folder")
    by = public_key_in(data) if key is None else key
    engine = connect(data / FILE_NAME)
    try:
        return {tenant: check(engine, tenant, by, noted) for tenant in tenants_of(engine)}
    finally:
        engine.dispose()
