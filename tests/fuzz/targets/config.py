"""The agent's configuration and the file of anchored keys: TOML (agent/config.py, agent/mesh/peers.py)."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import chosen, either, file_of

from agent.config import load
from agent.errors import ConfigError
from agent.mesh.peers import load_anchors
from analytics.trust import key_text

ALLOWED = (ConfigError,)
SHORT_RUNS = 120


def target(data: bytes) -> object:
    return either(
        data,
        lambda body: load(file_of(body, "agent.toml")),
        lambda body: load_anchors(file_of(body, "anchors")),
    )


def seeds() -> Iterator[bytes]:
    yield chosen(
        0,
        b'server = "https://192.0.2.10:8440"\nname = "pacs"\nsite = "hospital"\ndata = "/x"\ntoken = "t"\n'
        b'[[services]]\nname = "PACS"\nprofile = "pacs"\nport = 4242\n',
    )
    yield chosen(
        0,
        b'server = "https://[::1]:8440"\nname = "a"\nsite = "b"\ndata = "/x"\npassive = "off"\n',
    )
    yield chosen(0, b"a = " + b"[" * 40 + b"]" * 40)
    yield chosen(1, f'pacs = "{key_text(bytes(32))}"\n'.encode())
