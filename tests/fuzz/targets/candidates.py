"""Candidates that a peer offers, and the rungs that two offers leave (agent/mesh/ladder.py).

What ``parse_candidate`` takes is handed to aioice, which must take it, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import aioice

from agent.errors import SignallingError
from agent.mesh.ladder import Ladder, parse_candidate, unfit, usable
from agent.mesh.wires import DirectWire
from analytics.measurement import Rung

ALLOWED = (SignallingError,)
MINE = [
    parse_candidate(line)
    for line in (
        "1 1 udp 2130706431 10.0.0.4 50000 typ host",
        "2 1 udp 2130706175 fd00:1:2:3::4 50000 typ host",
        "3 1 udp 1694498815 203.0.113.4 50000 typ srflx raddr 10.0.0.4 rport 50000",
        "4 1 udp 16777215 198.51.100.3 50001 typ relay raddr 203.0.113.4 rport 50000",
    )
]
RUNGS = list(Rung)


def target(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").split("\n")[:8]
    theirs = [parse_candidate(line) for line in lines]
    ladder = Ladder(RUNGS, RUNGS[len(data) % len(RUNGS)])
    for rung in RUNGS:
        if why := unfit(rung, MINE, theirs):
            ladder.fail(rung, why)
        for candidate in usable(rung, theirs):
            aioice.Candidate.from_sdp(candidate.sdp)
            DirectWire(None, (candidate.address, candidate.port))
    assert len(ladder.failed_text) <= 1000


def seeds() -> Iterator[bytes]:
    yield "\n".join(candidate.sdp for candidate in MINE).encode()
    yield b"x 1 UDP 1 2001:db8::1 1 typ srflx raddr :: rport 0 generation 0"
    yield b"x 1 udp 1 fe80::1%eth0 1 typ host"
    yield b"x y udp z 192.0.2.1 1 typ host tcptype"
