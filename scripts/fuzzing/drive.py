"""One target under atheris (libFuzzer): ``python -m fuzzing.drive TARGET [libFuzzer's arguments]``.

A process of its own: libFuzzer ends it as it likes. What it prints is read by ``fuzzing.campaign``.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys

import atheris

from fuzzing.targets import load

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Instrument what is tested, import it, and hand over to libFuzzer, which does not come back."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # ends with who started it
    logging.disable()  # a million refusals need no million lines
    # Only our own code is watched for new branches: libraries would drown it.
    with atheris.instrument_imports(
        include=["agent", "server", "analytics", "ebpf"], enable_loader_override=False
    ):
        target = load(arguments[1])
    atheris.Setup([arguments[0], *arguments[2:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
