"""The fuzz targets: one file each in ``tests/fuzz/targets``, found by name.

A target has ``target(data)``, ``ALLOWED`` (errors it is declared to raise) and ``seeds()``, real encodings.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = ROOT / "tests" / "fuzz"
CORPUS: Final = HERE / "corpus"
SHORT_RUNS: Final = 300
"""Mutations in the short run, where a target does not say that it is slower than most."""
MOST_INPUT: Final = 4096
"""Bytes of an input, where a target does not say otherwise: larger ones are slower, not stranger."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser of outside bytes, ready to be fed."""

    name: str
    about: str
    feed: Callable[[bytes], object]
    allowed: tuple[type[BaseException], ...]
    seeds: Callable[[], Iterable[bytes]]
    short_runs: int = SHORT_RUNS
    most_input: int = MOST_INPUT

    def run(self, data: bytes) -> bool:
        """Feed it once; True where the input was taken. Anything but a declared error comes out as it is."""
        try:
            self.feed(data)
        except self.allowed:
            return False
        return True

    @property
    def corpus(self) -> Path:
        """Folder of the inputs that are kept."""
        return CORPUS / self.name

    def kept(self) -> list[bytes]:
        """Read the inputs that are kept, in order of their names."""
        return [path.read_bytes() for path in sorted(self.corpus.glob("*"))]


def names() -> list[str]:
    """Name all targets."""
    return sorted(path.stem for path in (HERE / "targets").glob("*.py"))


def load(name: str) -> Target:
    """Import a target. Raises ``KeyError`` where none is called so."""
    if name not in names():
        raise KeyError(name)
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    module = importlib.import_module(f"targets.{name}")
    return Target(
        name,
        (module.__doc__ or "").strip().partition("\n")[0],
        module.target,
        tuple(module.ALLOWED),
        module.seeds,
        getattr(module, "SHORT_RUNS", SHORT_RUNS),
        getattr(module, "MOST_INPUT", MOST_INPUT),
    )
