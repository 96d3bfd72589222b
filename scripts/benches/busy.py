"""All cores busy: stress-ng, in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from benches.errors import CommandError

SETTLE_S: Final = 1.0
END_S: Final = 5.0
LIMIT_S: Final = 180  # if even the end of the bench does not end it


@contextmanager
def busy() -> Iterator[None]:
    """Keep every core busy; idle again afterwards, whatever happens. Raises ``CommandError``."""
    command = ["stress-ng", "--quiet", "--cpu", str(os.cpu_count() or 1), "--timeout", f"{LIMIT_S}s"]
    try:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], start_new_session=True)
    except OSError as error:
        raise CommandError(f"stress-ng: {error}", remedy="scripts/setup --bench") from error
    try:
        time.sleep(SETTLE_S)
        if process.poll() is not None:
            raise CommandError("stress-ng ended at once", remedy="scripts/setup --bench")
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its workers are of its session
    process.wait()
