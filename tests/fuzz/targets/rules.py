"""Rules files of a fleet's own: profiles as TOML (analytics/rules/load.py)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from shaped import file_of

from analytics.errors import RulesError
from analytics.rules.load import BUILT_IN, OwnProfiles, _check, _named, _read, load_rules

ALLOWED = (RulesError,)
SHORT_RUNS = 150
BUILT = load_rules()


def target(data: bytes) -> None:
    """As ``load_rules`` does, but with the built-in ones read once."""
    path = file_of(data, "rules.toml")
    own = _read(path, OwnProfiles, BUILT.protocols)
    _check(path, _named(own.profiles))


def seeds() -> Iterator[bytes]:
    lines = BUILT_IN.read_text().split("\n")
    begins = [at for at, line in enumerate(lines) if line.startswith("[profiles.") and line.count(".") == 1]
    for begin, end in pairwise(begins):
        told = (line for line in lines[begin:end] if line and not line.startswith("#"))
        yield "\n".join(('version = "own"', *told)).encode()
    yield b'version = "own"\n[profiles]\n'
    yield b'version = "own"\n[protocols.x]\nsaid = "X"\n[profiles.y.study]\nprotocol = "x"\nimages = 3\n'
