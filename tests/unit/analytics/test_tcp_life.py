"""What is said of a session: the verdict that its numbers carry, and no number that they do not."""

import contextlib
import socket
import struct
import time
from typing import Any

import pytest

from analytics.tcp_life import SENTENCES, life
from analytics.tcp_limits import FIRST, HELD, LAST, RULES_VERSION, Verdict
from analytics.tcp_seen import AT
from tests.unit.analytics.tcp_sessions import NEAR, session

UNCONNECTED: dict[str, Any] = {
    "established": False,
    "connect_us": None,
    "srtt_us": None,
    "min_rtt_us": None,
    "bytes_sent": 0,
    "bytes_received": 0,
    "segments_sent": 0,
    "busy_us": 0,
    "delivery_kbps": None,
}


def sentence(rule: str, **changes: Any) -> str:
    """Find what one rule says; empty where it is silent."""
    told = life(session(**changes))
    return next((one.text for one in told.sentences if one.rule == rule), "")


@pytest.mark.parametrize(
    ("changes", "verdict", "rule"),
    [
        ({}, Verdict.NETWORK, "tcp.distance.v1"),
        ({"segments_retransmitted": 60}, Verdict.NETWORK, "tcp.loss.v1"),
        ({"min_rtt_us": 30_000}, Verdict.NETWORK, "tcp.queue.v1"),
        ({**NEAR, "srtt_us": 260_000, "bytes_sent": 90_000}, Verdict.NETWORK, "tcp.queue.v1"),
        ({**NEAR, "srtt_us": 40_300, "bytes_sent": 90_000}, Verdict.SENDER, "tcp.trickle.v1"),
        ({"segments_sent": 3, "rwnd_limited_us": 12_000_000}, Verdict.RECEIVER, "tcp.peer-window.v1"),
        ({"rwnd_limited_us": 9_000_000}, Verdict.RECEIVER, "tcp.peer-window.v1"),
        ({"sndbuf_limited_us": 9_000_000}, Verdict.SENDER, "tcp.send-buffer.v1"),
        ({"busy_us": 1_000_000}, Verdict.APPLICATION, "tcp.application.v1"),
        ({**NEAR, "bytes_sent": 900_000_000}, Verdict.NOTHING_WRONG, "tcp.quick.v1"),
        ({**NEAR, "busy_us": 400_000, "bytes_sent": 90_000}, Verdict.NOTHING_WRONG, "tcp.idle.v1"),
        ({"segments_sent": 3, "bytes_sent": 900, "busy_us": 4_000}, Verdict.TOO_LITTLE_SEEN, "tcp.little.v1"),
        (
            {"bytes_received": 50_000_000, "bytes_sent": 3_000, "busy_us": 900_000},
            Verdict.TOO_LITTLE_SEEN,
            "tcp.received.v1",
        ),
        ({"error": "ETIMEDOUT"}, Verdict.NETWORK, "tcp.broken-off.v1"),
        ({**UNCONNECTED, "error": "ECONNREFUSED"}, Verdict.RECEIVER, "tcp.refused.v1"),
        ({**UNCONNECTED, "resets_received": True}, Verdict.RECEIVER, "tcp.refused.v1"),
        ({**UNCONNECTED, "error": "EHOSTUNREACH"}, Verdict.NETWORK, "tcp.unanswered.v1"),
        ({**UNCONNECTED, "segments_retransmitted": 2}, Verdict.NETWORK, "tcp.unanswered.v1"),
        ({**UNCONNECTED, "open": True}, Verdict.TOO_LITTLE_SEEN, "tcp.not-connected.v1"),
    ],
)
def test_verdicts(changes: dict[str, Any], verdict: Verdict, rule: str) -> None:
    told = life(session(**changes))

    assert (told.verdict, told.rule, told.rules_version) == (verdict, rule, RULES_VERSION)


def test_what_took_longest_is_named() -> None:
    both = {"rwnd_limited_us": 5_000_000, "sndbuf_limited_us": 6_000_000}
    assert life(session(**both)).verdict is Verdict.SENDER
    both = {"rwnd_limited_us": 6_000_000, "sndbuf_limited_us": 5_000_000}
    assert life(session(**both)).verdict is Verdict.RECEIVER


def test_a_lossy_way_is_named_although_the_session_was_mostly_idle() -> None:
    typed = {**NEAR, "bytes_sent": 40_000, "bytes_received": 90_000, "segments_sent": 400}
    told = life(session(**typed, duration_us=3_600_000_000, busy_us=20_000_000, segments_retransmitted=40))

    assert told.rule == "tcp.loss.v1"


@pytest.mark.parametrize(
    "changes",
    [
        {"segments_retransmitted": 2},  # tail-loss probes
        {"segments_retransmitted": 60, "dsack_duplicates": 60},  # all needless
        {"segments_retransmitted": 40, "segments_sent": 1_000_000},  # too rare to slow anybody
        {"srtt_us": 9_000},  # less than what counts as a queue
        {"srtt_us": 40_300, "segments_sent": 40},  # so few: the peer's delayed acknowledgements
        {"srtt_us": 40_300, "bytes_sent": 900_000, "duration_us": 3_600_000_000},  # and somebody who types
    ],
)
def test_the_network_is_not_blamed_without_evidence(changes: dict[str, Any]) -> None:
    assert life(session(**(NEAR | {"bytes_sent": 900_000_000} | changes))).verdict is Verdict.NOTHING_WRONG


def test_a_transfer_is_told_verbatim() -> None:
    told = life(
        session(
            segments_retransmitted=60,
            dsack_duplicates=4,
            rwnd_limited_us=1_240_000,
            reordering_seen=1,
            connect_us=1_262_000,
            unit="orthanc.service",
        )
    )

    assert told.headline == (
        "Held up by the network: 90 % of the 12 s that it had data to send it waited for acknowledgements,"
        " and 1.9 % of its 2,900 segments had to be sent again."
    )
    assert [one.text for one in told.sentences] == [
        "It had data to send for 12 s, 89 % of its 14 s."
        " Of that it waited 90 % for acknowledgements, 10 % for the peer's window.",
        "Round trip: 260 ms smoothed, 259 ms at least.",
        "RTT 260 ms x congestion window 89.8 kB, as last seen, allow at most 2.8 Mbit/s;"
        " while it had data to send, 2.6 Mbit/s got through.",
        "Last delivery rate: 2.7 Mbit/s.",
        "Sent again: 60 of 2,900 segments with data; 4 of them the peer had already (DSACK).",
        "At this RTT so much loss leaves a Reno sender about 392 kbit/s (Mathis 1997),"
        " CUBIC the same or more.",
        "Segments overtook each other on the way: seen 1 time.",
        "Connecting took 1.3 s: the SYN was sent again, because it or its answer was lost,"
        " or the peer's queue was full.",
        "It ended without a reset.",
        "Owner: storescu (pid 4121, program /usr/bin/storescu, unit orthanc.service, uid 1000).",
    ]


@pytest.mark.parametrize(("busy_us", "span"), [(0, ""), (4_000, ", data to send for 4.0 ms")])
def test_too_little_says_how_little(busy_us: int, span: str) -> None:
    told = life(session(segments_sent=1, bytes_sent=300, busy_us=busy_us))

    assert told.headline == f"Too little to judge: 1 segment with data sent{span}."


def test_who_received_is_pointed_to_the_sender() -> None:
    told = life(session(bytes_received=50_000_000, bytes_sent=3_000, busy_us=900_000))

    assert told.headline == (
        "This host received: 50.0 MB in, 3.0 kB out."
        " What held the data up, the sender's own kernel knows: ask the agent on 198.51.100.7."
    )


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"open": True}, ""),
        ({}, "It ended without a reset."),
        ({"resets_sent": True}, "This host ended it with a reset."),
        ({"resets_received": True, "error": "ECONNRESET"}, "The peer ended it with a reset (ECONNRESET)."),
        ({"resets_sent": True, "resets_received": True}, "Both ends sent a reset."),
        ({"error": "ETIMEDOUT"}, "The kernel ended it (ETIMEDOUT)."),
        ({"source": "inet_diag"}, "How it ended is not known: it was gone at the next poll."),
    ],
)
def test_ends(changes: dict[str, Any], end: str) -> None:
    assert sentence("tcp.end.v1", **changes) == end


@pytest.mark.parametrize(
    ("changes", "owner"),
    [
        (
            {"guessed": True, "executable": "", "uid": None},
            "Owner, a guess: storescu (pid 4121). It listened; nobody was seen to use the session.",
        ),
        (
            {"container": "0123456789abcdef0123", "executable": "", "uid": 0},
            "Owner: storescu (pid 4121, container 0123456789ab, uid 0).",
        ),
        (
            {"process": "", "pid": None},
            "Whose it was is not known: no process was seen to use it.",
        ),
    ],
)
def test_owners(changes: dict[str, Any], owner: str) -> None:
    assert sentence("tcp.owner.v1", **changes) == owner


def test_numbers_that_are_not_supported_are_not_told() -> None:
    few = {"segments_sent": 3, "bytes_sent": 900, "busy_us": 4_000, "delivery_kbps": None, "srtt_us": None}
    assert {one.rule for one in life(session(**few)).sentences} == {
        "tcp.connect.v1",
        "tcp.end.v1",
        "tcp.owner.v1",
    }
    bbr = {"segments_retransmitted": 60, "congestion": "bbr"}
    assert sentence("tcp.mathis.v1", **bbr) == ""  # it does not slow down for a loss
    assert "at most" not in sentence("tcp.rate.v1", cwnd=2)  # the window was larger before
    assert sentence("tcp.time.v1", duration_us=None).startswith("It had data to send for 12 s. ")
    assert sentence("tcp.source.v1", duration_us=None) == (
        "Its beginning was not seen: it is older than the agent."
    )


def test_the_smaller_window_is_the_limit() -> None:
    assert "peer's window 64.0 kB, as last seen, allow at most 2.0 Mbit/s" in sentence(
        "tcp.rate.v1", peer_window=64_000, bytes_sent=900_000
    )


def test_every_rule_has_its_own_id() -> None:
    ids = [rule.id for rule in (*FIRST, *HELD, *LAST)] + list(SENTENCES)

    assert len(ids) == len(set(ids))


def tcp_info(sender: socket.socket) -> dict[str, int]:
    """Read what the verdict on a real socket rests on (struct tcp_info, include/uapi/linux/tcp.h)."""
    info = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    small = {"mss": 16, "srtt_us": 68, "cwnd": 80, "segments_retransmitted": 100, "min_rtt_us": 148}
    large = {"bytes_sent": 120, "bytes_received": 128, "busy_us": 168, "rwnd_limited_us": 176}
    return {
        **{
            name: struct.unpack_from("=I", info, at)[0]
            for name, at in (small | {"segments_sent": 156}).items()
        },
        **{name: struct.unpack_from("=Q", info, at)[0] for name, at in large.items()},
    }


def test_a_real_receiver_that_does_not_read_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver = listener.accept()[0]
    with sender, receiver:
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while sender.send(bytes(65_536)):
                pass
        for _ in range(1_000):
            if tcp_info(sender)["rwnd_limited_us"] >= AT.busy_us:
                break
            time.sleep(0.01)
        told = life(session(**tcp_info(sender), sndbuf_limited_us=0, duration_us=None))

    assert (told.verdict, told.rule) == (Verdict.RECEIVER, "tcp.peer-window.v1"), told
