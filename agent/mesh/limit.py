"""How much may leave a socket: what a test's grant says, kept where datagrams go to the kernel."""

from __future__ import annotations

from collections.abc import Callable


class Limit:
    """No limit until it is set. What would pass it does not leave, and ``on_spent`` is called, once."""

    def __init__(self) -> None:
        self._most: int | None = None
        self._on_spent: Callable[[], None] | None = None

    def set(self, most_bytes: int, on_spent: Callable[[], None]) -> None:
        """Let no more than so many bytes leave, those that left already included."""
        self._most, self._on_spent = most_bytes, on_spent

    def admits(self, sent_bytes: int, size: int) -> bool:
        """Say whether ``size`` more bytes may leave after ``sent_bytes``."""
        if self._most is None or sent_bytes + size <= self._most:
            return True
        tell, self._on_spent = self._on_spent, None
        if tell is not None:
            tell()
        return False
