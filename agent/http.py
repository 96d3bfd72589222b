"""httpx, without the command line that it brings along.

Where click is installed, importing httpx imports its command too, and with it rich and pygments: 5 MB that an
agent has no use for. httpx takes the lack of click as that of the command.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["httpx"]


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Have ``import module`` fail; one that is loaded already stays."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # as the import system documents it
    try:
        yield
    finally:
        del sys.modules[module]


with _hidden("click"):
    import httpx
