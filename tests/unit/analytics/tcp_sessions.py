"""TCP sessions for tests: one plain transfer over 260 ms, and what a test changes of it."""

from typing import Any, Final

from analytics.measurement import Direction, Session

PLAIN: Final[dict[str, Any]] = {
    "id": "1f00c2ab94",
    "at_us": 1_764_000_000_000_000,
    "open": False,
    "state": "closed",
    "process": "storescu",
    "pid": 4121,
    "thread": 4121,
    "uid": 1000,
    "executable": "/usr/bin/storescu",
    "unit": "",
    "container": "",
    "guessed": False,
    "netns": 4026531840,
    "direction": Direction.OUT,
    "local_address": "192.0.2.2",
    "local_port": 40000,
    "remote_address": "198.51.100.7",
    "remote_port": 4242,
    "service_port": 4242,
    "established": True,
    "connect_us": 261_000,
    "duration_us": 14_000_000,
    "srtt_us": 260_000,
    "rttvar_us": 1_000,
    "min_rtt_us": 259_000,
    "bytes_sent": 4_000_000,
    "bytes_received": 3_000,
    "bytes_retransmitted": 0,
    "segments_sent": 2_900,
    "segments_received": 1_500,
    "segments_retransmitted": 0,
    "segments_lost": 0,
    "reordering_seen": 0,
    "dsack_duplicates": 0,
    "busy_us": 12_400_000,
    "rwnd_limited_us": 0,
    "sndbuf_limited_us": 0,
    "mss": 1_448,
    "cwnd": 62,
    "peer_window": 3_000_000,
    "delivery_kbps": 2_700,
    "app_limited": False,
    "congestion": "cubic",
    "resets_sent": False,
    "resets_received": False,
    "error": "",
    "fast_open": False,
}

NEAR: Final[dict[str, Any]] = {"srtt_us": 340, "min_rtt_us": 300, "connect_us": 400}
"""The same over a cable of the house."""


def session(**changes: Any) -> Session:
    return Session(**(PLAIN | changes))
