"""The bench's side of a watcher: start it in a namespace, ask the kernel what it costs, end it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from benches.errors import PartError
from benches.net import inside
from benches.protocol import Ready, Told

ROOT: Final = Path(__file__).parents[2]
START_S: Final = 60  # the first one may compile
END_S: Final = 30

T = TypeVar("T", Ready, Told)


class Watching:
    """A watcher that runs. ``refusal`` says why it does not; then there is nothing to end."""

    def __init__(self, process: subprocess.Popen[bytes], kind: str) -> None:
        """Wait until it is ready. Raises ``PartError``."""
        self._process = process
        self._kind = kind
        self.ready = self._listen(Ready, START_S)

    def end(self) -> Told:
        """End it; returns what it tells. Raises ``PartError``."""
        assert self._process.stdin
        self._process.stdin.close()
        told = self._listen(Told, END_S)
        self._process.wait(END_S)
        return told

    def _listen(self, form: type[T], within_s: float) -> T:
        """Take its next line."""
        pipe = self._process.stdout
        assert pipe
        readable, _, _ = select.select([pipe], [], [], within_s)
        line = pipe.readline() if readable else b""
        if not line:
            raise PartError(
                f"watcher {self._kind}: {'ended' if readable else f'silent for {within_s:g} s'}",
                remedy="its last words stand above",
            )
        return msgspec.json.decode(line, type=form)


@contextmanager
def watching(kind: str, namespace: str, folder: Path, *, sessions: int = 0) -> Iterator[Watching]:
    """Run a watcher of a namespace; it is gone afterwards, whatever happens. Raises ``PartError``."""
    command = [sys.executable, "-m", "benches.watcher", kind, folder, sessions]
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    with subprocess.Popen(
        inside(namespace, command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        # As a daemon has one: where the kernel schedules by session (autogroups), that decides when it runs.
        # And Ctrl-C is for the bench, which then ends its parts.
        start_new_session=True,
    ) as process:
        try:
            yield Watching(process, kind)
        finally:
            process.kill()
