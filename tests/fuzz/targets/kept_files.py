"""What an agent keeps on its disk: identity, credential, known peers, outbox, compiled programs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from shaped import chosen, either, folder_of

from agent import credential, identity, outbox
from agent.config import Config
from agent.errors import FolderError, IdentityError
from agent.mesh.peers import KnownPeers
from ebpf import compiled

ALLOWED = (IdentityError, FolderError)
SHORT_RUNS = 120


def target(data: bytes) -> object:
    return either(data, _identity, _credential, _peers, _outbox, _programs)


def _identity(data: bytes) -> None:
    folder = folder_of({identity.FILE_NAME: data}, "identity")
    (folder / identity.FILE_NAME).chmod(0o600)
    identity.read(folder)


def _credential(data: bytes) -> None:
    folder = folder_of({credential.FILE_NAME: data}, "credential")
    (folder / credential.FILE_NAME).chmod(0o600)
    credential.read(Config(server="https://h", name="pacs", site="s", data=folder))


def _peers(data: bytes) -> None:
    KnownPeers(folder_of({"peers.json": data}, "peers")).listed()


def _outbox(data: bytes) -> None:
    """A damaged one is a ``ValueError``, which sets it aside."""
    try:
        assert outbox.seal(b"")[: len(outbox.MAGIC)] == outbox.MAGIC
        outbox.unseal(data)
    except ValueError:
        return


def _programs(data: bytes) -> None:
    """With the right digest: what is damaged is compiled again."""
    body = compiled._MAGIC + hashlib.sha256(data).digest() + data
    path: Path = folder_of({"programs.bin": body}, "programs") / "programs.bin"
    path.chmod(0o600)
    compiled.read(path)


@functools.cache
def _pem() -> bytes:
    return identity._pem(identity.create("pacs"))


def seeds() -> Iterator[bytes]:
    yield chosen(0, _pem())
    yield chosen(1, b'{"server":"https://h","agent":"pacs","tenant":"default","secret":"s","server_key":""}')
    kept = credential.Credential(
        server="https://h", agent="pacs", tenant="default", server_key=bytes(32), authority=b"DER",
        certificate=b"DER", got_s=1.0, life_s=86_400,
    )  # fmt: skip
    yield chosen(1, msgspec.json.encode(kept))
    yield chosen(2, b'{"version":1,"peers":{"pacs":{"key":"ed25519:AAAA","first_met_us":1}}}')
    yield chosen(3, outbox.seal(b"a batch"))
    yield chosen(
        4, msgspec.msgpack.encode(compiled.Programs("k", (compiled.MapSpec("m", 1, 4, 8, 1, 0),), ()))
    )
