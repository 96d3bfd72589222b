"""What a server remembers of the lake it writes to, in its own data folder: ``lake.json``.

Who it is there, the token of the last segment that it sealed, and which batches it has sealed: so it can
start while the catalog is away, and know a batch that comes twice. It is written after each commit to the
lake and before the segment is removed; a crash in between leaves the segment, which names its batches itself.
"""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec

from analytics.clock import DAY_US
from analytics.errors import UNREADABLE, LakeSetupError
from analytics.store.files import replace_durably
from analytics.store.known import KnownBatches, Source

NAME: Final = "lake.json"
KNOWN_DAYS: Final = 90
"""An agent's life that sent nothing for so long is forgotten; its outbox holds far less."""


class _Life(msgspec.Struct, frozen=True, array_like=True):
    """Batches of one life of an agent's outbox."""

    source: tuple[str, str, str]
    ranges: list[tuple[int, int]]
    sealed_us: int


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    writer: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    token: Annotated[str, msgspec.Meta(max_length=64)]
    lives: list[_Life]


class Ledger:
    """The file, and what is in it. One thread at a time."""

    def __init__(self, path: Path, kept: _Kept) -> None:
        self._path = path
        self.writer: Final = kept.writer
        """Names this data folder in the lake, for ever."""
        self.token = kept.token
        """Of the last segment sealed; "" = none yet."""
        self._known = KnownBatches((life.source, life.ranges) for life in kept.lives)
        self._sealed_us: dict[Source, int] = {life.source: life.sealed_us for life in kept.lives}

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Read a data folder's file, made where there is none. Raises ``OSError`` or ``LakeSetupError``."""
        path = folder / NAME
        if not path.exists():
            ledger = cls(path, _Kept(1, secrets.token_hex(8), "", []))
            ledger._write()
            return ledger
        try:
            return cls(path, msgspec.json.decode(path.read_bytes(), type=_Kept))
        except UNREADABLE as error:
            raise LakeSetupError(
                f"reading {path}: {error}",
                remedy="bring it back from a backup; without it, what waits in the spool may be sealed twice",
            ) from error

    def known(self) -> KnownBatches:
        """Copy what was sealed: the caller may add to it."""
        return KnownBatches(self._known)

    def enter(self, token: str, batches: KnownBatches, now_us: int) -> None:
        """Take up a sealed segment, durably. Raises ``OSError``."""
        self.token = token
        self._known.update(batches)
        self._sealed_us |= {source: now_us for source, _ in batches}
        self._forget(now_us - KNOWN_DAYS * DAY_US)
        self._write()

    def _forget(self, before_us: int) -> None:
        self._sealed_us = {source: at_us for source, at_us in self._sealed_us.items() if at_us >= before_us}
        self._known = KnownBatches(kept for kept in self._known if kept[0] in self._sealed_us)

    def _write(self) -> None:
        lives = [_Life(source, ranges, self._sealed_us[source]) for source, ranges in self._known]
        content = msgspec.json.encode(_Kept(1, self.writer, self.token, lives))
        replace_durably(self._path, partial(_write_all, content))


def _write_all(content: bytes, file: BinaryIO) -> None:
    file.write(content)
