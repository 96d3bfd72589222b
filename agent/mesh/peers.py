"""Whose identity key is whose: anchors that an operator wrote, and keys pinned at the first meeting.

As ssh's ``known_hosts`` (RFC 4251 section 4.1): the first key that a name shows is taken, and from then on no
other. What the first meeting does not protect, docs/security.md says; an anchor protects that too.

``peers.json`` in the agent's data folder is read again when it changed, so that ``pathgrade agent peers
forget`` needs no restart. It is bounded, and nothing is ever pushed out of it: a flood of new names must not
make the agent forget an old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent import durable
from agent.errors import ConfigError, FolderError, PeerUnknownError, TrustError
from analytics.errors import UNREADABLE, SealError
from analytics.measurement import named
from analytics.trust import key_bytes, key_text

FILE_NAME: Final = "peers.json"
MOST_PEERS: Final = 10_000
MAX_FILE: Final = 4 * 1024 * 1024

CHANGED: Final = "identity-changed"
NOT_ANCHORED: Final = "not-anchored"
FULL: Final = "too-many-peers"

Name = Annotated[str, named("peer")]


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One pinned key."""

    key: Annotated[str, msgspec.Meta(max_length=80)]
    first_met_us: int


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    peers: Annotated[dict[Name, Peer], msgspec.Meta(max_length=MOST_PEERS)] = {}


class KnownPeers:
    """The peers of one agent. Every method may block for a disk access, and is safe beside the command."""

    def __init__(self, folder: Path, anchors: Mapping[str, bytes] | None = None) -> None:
        self._folder = folder
        self._anchors = dict(anchors or {})
        self._seen: tuple[int, int, int] | None = None
        self._peers: dict[str, Peer] = {}

    def check(self, name: str, key: bytes, *, now_us: int) -> None:
        """Take the key of a peer, or pin it if the name is new.

        Raises ``TrustError`` if it is another than the anchored or pinned one, or ``FolderError``.
        """
        if (anchored := self._anchors.get(name)) is not None:
            if anchored != key:
                raise _not_anchored(name)
            return
        pinned = self._read().get(name)
        if pinned is None:
            self._pin(name, Peer(key=key_text(key), first_met_us=now_us))
        elif pinned.key != key_text(key):
            raise _changed(name)

    def listed(self) -> dict[str, Peer]:
        """List the pinned keys, by name. Raises ``FolderError``."""
        return dict(sorted(self._read().items()))

    def forget(self, name: str) -> None:
        """Unpin a name: its next key is taken. Raises ``PeerUnknownError`` or ``FolderError``."""
        with self._changing() as peers:
            if peers.pop(name, None) is None:
                raise PeerUnknownError(f"{name!r} is not pinned here", remedy="pathgrade agent peers")

    def _pin(self, name: str, peer: Peer) -> None:
        with self._changing() as peers:
            if peers.setdefault(name, peer).key != peer.key:
                raise _changed(name)
            if len(peers) > MOST_PEERS:
                raise TrustError(
                    f"{MOST_PEERS} peers are known already, {name!r} is not one of them",
                    reason=FULL,
                    remedy="pathgrade agent peers lists them; forget those that are gone",
                )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Peer]]:
        """Read, let the caller change, write; whoever else wants to waits."""
        with self._errors("write"), _locked(self._folder):
            before = dict(self._read())
            peers = dict(before)
            yield peers
            if peers != before:
                durable.replace(self._folder / FILE_NAME, msgspec.json.encode(_File(peers=peers)))

    def _read(self) -> dict[str, Peer]:
        path = self._folder / FILE_NAME
        with self._errors("read"):
            try:
                status = path.stat()
            except FileNotFoundError:
                self._folder.stat()  # a folder that is not there is no agent that has met nobody
                self._seen, self._peers = None, {}
                return self._peers
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._seen:
                self._peers, self._seen = _decode(path).peers, version
        return self._peers

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FolderError(
                f"{doing} {self._folder / FILE_NAME}: {error.strerror}",
                remedy="run this as root or as the agent's user, on a disk with space left",
            ) from error


def load_anchors(path: Path | None) -> dict[str, bytes]:
    """Read an anchors file: TOML, each line ``name = "ed25519:..."``. Raises ``ConfigError``.

    ``pathgrade agent identity`` prints the line of an agent.
    """
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE).decode()
        named_keys = msgspec.convert(tomllib.loads(text), dict[Name, str])
        return {name: key_bytes(key) for name, key in named_keys.items()}
    except OSError as error:
        raise ConfigError(
            f"read identity_anchors {path}: {error.strerror}",
            remedy="make it readable for the agent's user: it holds no secret",
        ) from error
    except (ValueError, RecursionError, SealError) as error:
        raise ConfigError(
            f"read identity_anchors {path}: {error}", remedy='each line is: name = "ed25519:..."'
        ) from error


def _decode(path: Path) -> _File:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    try:
        return msgspec.json.decode(data, type=_File)
    except UNREADABLE as error:
        # Not forgotten silently: that would let anybody in who can damage a file.
        raise FolderError(
            f"read {path}: damaged: {error}",
            remedy="restore it from a backup, or remove it: then every peer is met for the first time again",
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself: a lock file would be one more name in it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _changed(name: str) -> TrustError:
    return TrustError(
        f"the identity key of {name} changed: if it was reinstalled, "
        f"`pathgrade agent peers forget {name}` here; if not, somebody poses as it",
        reason=CHANGED,
    )


def _not_anchored(name: str) -> TrustError:
    return TrustError(
        f"the identity key of {name} is not the one in identity_anchors: if it was reinstalled, "
        "correct that file; if not, somebody poses as it",
        reason=NOT_ANCHORED,
    )
