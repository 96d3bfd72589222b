"""Which libraries go into which package. Pure: data of ``pyproject.toml`` in, requirements out."""

from __future__ import annotations

import re
import tomllib
from typing import Final

from pack.errors import PackError

AGENT: Final = frozenset(
    {
        "aioice",
        "aiortc",
        "cryptography",
        "httpx",
        "ifaddr",
        "msgspec",
        "rich",
        "scapy",
        "typer",
        "websockets",
    }
)
"""What the agent and its commands import, and the commands that only ask a server. A test imports all of it
and compares: no DuckDB, no Arrow, no web server stands on a host that is measured."""

LEFT_OUT: Final = ("av", "pylibsrtp", "dnspython", "google-crc32c")
"""What aioice and aiortc ask for and pathgrade never loads (``agent/mesh/lean.py``): mostly video codecs."""

_NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")


def name_of(requirement: str) -> str:
    """Name the library of a requirement, as ``cryptography>=44``; raises ``PackError``."""
    found = _NAME.match(requirement)
    if found is None:
        raise PackError(f"read pyproject.toml: {requirement!r} names no library")
    return found[0].lower()


def version_of(pyproject: str) -> str:
    """Read pathgrade's version."""
    return str(tomllib.loads(pyproject)["project"]["version"])


def all_of(pyproject: str) -> list[str]:
    """List every requirement: what the server's package has."""
    return list(tomllib.loads(pyproject)["project"]["dependencies"])


def agents_of(pyproject: str) -> list[str]:
    """List the agent's requirements, with the same bounds; raises ``PackError`` where one has none."""
    found = [one for one in all_of(pyproject) if name_of(one) in AGENT]
    if absent := AGENT - {name_of(one) for one in found}:
        raise PackError(f"read pyproject.toml: the agent needs {', '.join(sorted(absent))}, which it has not")
    return found


def renumbered(pyproject: str, version: str) -> str:
    """Put another version into ``pyproject.toml``, as for a trial of an upgrade; raises ``PackError``."""
    changed, count = re.subn(r'(?m)^version = "[^"]+"$', f'version = "{version}"', pyproject, count=1)
    if not count:
        raise PackError("read pyproject.toml: there is no version in it")
    return changed
