"""The vendored files of the pages, read once: a fixed table, so that no request can name a path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}

HEADERS: Final = {
    # A page names each file with ASSETS_VERSION, so a copy may be kept for ever.
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    body: bytes
    media_type: str


def load_assets() -> dict[str, Asset]:
    """Read every file of ``server/static`` whose type is known, by name."""
    folder = files("server") / "static"
    known = (file for file in folder.iterdir() if file.name.rpartition(".")[2] in MEDIA_TYPES)
    return {
        file.name: Asset(file.read_bytes(), MEDIA_TYPES[file.name.rpartition(".")[2]])
        for file in sorted(known, key=lambda file: file.name)
    }


def version_of(assets: dict[str, Asset]) -> str:
    """Name the state of all files in a few characters."""
    digest = hashlib.sha256(b"".join(asset.body for asset in assets.values()))
    return digest.hexdigest()[:12]


ASSETS: Final = load_assets()
ASSETS_VERSION: Final = version_of(ASSETS)
