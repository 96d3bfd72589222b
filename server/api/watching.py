"""Follows tests on demand to their end, and says how far they are."""

from __future__ import annotations

import time
from typing import Final, TextIO

import msgspec

from server.api.client import Client
from server.api.doors import MeshAsk, MeshRun

LOOK_S: Final = 0.1
SLOWEST_LOOK_S: Final = 1.0
"""A fleet takes a minute, and the server has better things to do than to say so."""


def followed(client: Client, ask: MeshAsk, progress: TextIO) -> MeshRun:
    """Start what is asked and wait for its end; gives all results. Raises what ``Client`` does."""
    run = client.run_mesh(ask)
    results = list(run.results)
    pause_s = LOOK_S
    while run.ended_us is None:
        _say(progress, run)
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, SLOWEST_LOOK_S) if run.pairs > 1 else LOOK_S
        run = client.mesh_run(run.id, since=len(results))
        results += run.results
    _say(progress, run, end="\n")
    return msgspec.structs.replace(run, results=results)


def _say(progress: TextIO, run: MeshRun, end: str = "") -> None:
    """Overwrite the line in a terminal; a log has no use for it."""
    if progress.isatty():
        print(f"\r{run.pairs_ended} of {run.pairs} pairs tested", end=end, file=progress, flush=True)
