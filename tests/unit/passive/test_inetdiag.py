"""The wire: what Linux answered once, what pyroute2 makes of it, and what must not pass for an answer."""

import errno
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2.netlink.diag import DiagSocket, inet_diag_req

from agent.passive.inetdiag import Socket, request, sockets
from agent.passive.polled import Polled, record
from ebpf.events import RUN, SessionEvent, TcpState
from tests.unit.passive.sockets import answer, client, once, served

CAPTURED = Path(__file__).parent / "inet_diag.hex"
IPV4, IPV6 = 1, 2  # numbers of the two requests

PYROUTE2 = {
    "mss": "tcpi_snd_mss",
    "lost": "tcpi_lost",
    "srtt_us": "tcpi_rtt",
    "rttvar_us": "tcpi_rttvar",
    "cwnd": "tcpi_snd_cwnd",
    "reordering": "tcpi_reordering",
    "retransmitted": "tcpi_total_retrans",
    "bytes_acked": "tcpi_bytes_acked",
    "bytes_received": "tcpi_bytes_received",
    "segments_sent": "tcpi_segs_out",
    "segments_received": "tcpi_segs_in",
    "min_rtt_us": "tcpi_min_rtt",
    "data_segments_received": "tcpi_data_segs_in",
    "data_segments_sent": "tcpi_data_segs_out",
    "busy_us": "tcpi_busy_time",
    "rwnd_limited_us": "tcpi_rwnd_limited",
    "sndbuf_limited_us": "tcpi_sndbuf_limited",
    "bytes_sent": "tcpi_bytes_sent",
    "bytes_retransmitted": "tcpi_bytes_retrans",
    "dsack_duplicates": "tcpi_dsack_dups",
    "reordering_seen": "tcpi_reord_seen",
    "peer_window": "tcpi_snd_wnd",
    "app_limited": "tcpi_delivery_rate_app_limited",
}
"""Field of the record -> name of the same number in pyroute2."""


def captured() -> bytes:
    lines = CAPTURED.read_text("ascii").splitlines()
    return b"".join(bytes.fromhex(line) for line in lines if not line.startswith("#"))


def followed(one: Socket) -> SessionEvent:
    """The record of a socket that was there when this process came."""
    polled = Polled()
    polled.take({one.cookie: one}, 1)
    return record(next(iter(polled)), netns=9)


def test_captured_answers_are_read() -> None:
    found = {one.ports: one for one in sockets(once(captured())).values()}
    assert sorted(found) == [(4242, 0), (4242, 40_001), (4243, 40_002), (40_001, 4242), (40_003, 4243)]
    assert found[4242, 0].state == TcpState.LISTEN
    event = followed(found[40_001, 4242])
    assert (event.local_address, event.remote_address) == ("127.0.0.1", "127.0.0.1")
    assert (event.bytes_acked, event.bytes_received) == (1 + 1009, 20_011)
    assert (event.data_segments_sent, event.srtt_us, event.min_rtt_us) == (1, 31, 10)
    assert event.congestion == b"bbr".ljust(16, b"\0")
    assert (event.cookie, found[40_001, 4242].inode) == (6_253_377, 15_405_378)


def test_ipv6_and_v4_mapped_addresses_are_told_apart() -> None:
    found = {one.ports: followed(one) for one in sockets(once(captured())).values() if one.state == 1}
    assert found[40_003, 4243].local_address == "::1"
    assert found[4243, 40_002].local_address == "127.0.0.1"  # of an IPv6 socket
    assert found[4243, 40_002].family == socket.AF_INET6


def test_the_stand_in_of_a_closed_session_is_no_socket() -> None:
    """The capture has one, told as FIN_WAIT2: it has no counters and no owner."""
    assert b"\x02\x05\x03\x00" + struct.pack("!HH", 40_004, 4242) in captured()
    assert (40_004, 4242) not in {one.ports for one in sockets(once(captured())).values()}


def test_the_request_is_the_one_that_pyroute2_writes() -> None:
    theirs = inet_diag_req()
    theirs["header"] |= {"type": 20, "flags": 0x301, "sequence_number": 7, "pid": 0}
    states = (1, 2, 4, 5, 8, 9, 10, 11)
    theirs |= {"sdiag_family": socket.AF_INET6, "sdiag_protocol": 6, "idiag_ext": 0b1010}
    theirs |= {"idiag_states": sum(1 << state for state in states), "idiag_src": 0, "idiag_dst": 0}
    theirs.encode()
    assert request(socket.AF_INET6, 7) == bytes(theirs.data)


@pytest.fixture(params=["127.0.0.1", "::1"])
def conversation(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A session of this process, all of it acknowledged."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with (
        socket.create_server((request.param, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as ours,
        listener.accept()[0] as peer,
    ):
        ours.sendall(bytes(100_003))
        assert len(peer.recv(100_003, socket.MSG_WAITALL)) == 100_003
        peer.sendall(b"done")
        assert ours.recv(4) == b"done"
        yield ours, peer


def test_this_kernel_tells_the_same_through_pyroute2(
    conversation: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = conversation
    ports = (ours.getsockname()[1], peer.getsockname()[1])
    (mine,) = (one for one in sockets().values() if one.ports == ports)
    with DiagSocket() as diag:
        diag.bind()
        told = diag.get_sock_stats(family=ours.family, states=1 << 1, extensions=0b1010)
    (theirs,) = (one for one in told if (one["idiag_sport"], one["idiag_dport"]) == ports)

    event, numbers = followed(mine), theirs.get_attr("INET_DIAG_INFO")
    assert (mine.cookie, mine.inode) == (theirs["idiag_cookie"], theirs["idiag_inode"])
    assert (event.local_address, event.remote_address) == (theirs["idiag_src"], theirs["idiag_dst"])
    assert {name: getattr(event, name) for name in PYROUTE2} == {k: numbers[v] for k, v in PYROUTE2.items()}
    assert event.congestion.rstrip(b"\0").decode() == theirs.get_attr("INET_DIAG_CONG")
    assert event.data_segments_sent > 1
    rate = numbers["tcpi_delivery_rate"]
    assert event.delivery_bytes_per_s == pytest.approx(rate, rel=1 / event.rate_interval_us)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOENT, errno.EBUSY])
def test_a_refusal_is_an_error_and_not_an_empty_list(code: int) -> None:
    refusal = struct.pack("=IHHIIi16x", 36, 2, 0, IPV4, 0, -code)
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its errno is what is looked at
        sockets(once(refusal))
    assert caught.value.errno == code


def test_a_list_that_the_kernel_gave_up_is_an_error() -> None:
    with pytest.raises(OSError, match="Cannot allocate memory"):
        sockets(once(answer(IPV4, client(), code=errno.ENOMEM)))


def test_a_list_without_its_end_is_an_error() -> None:
    whole = answer(IPV4, client())
    with pytest.raises(OSError, match="broke off"):
        sockets(once(whole[:-20]))


def test_what_was_left_of_an_older_answer_is_passed_over() -> None:
    older = answer(77, client(1))
    assert list(sockets(once(older, answer(IPV4, client(2)), answer(IPV6)))) == [2]


def test_both_lists_make_one() -> None:
    assert sorted(sockets(once(answer(IPV4, client(1)), answer(IPV6, served(2))))) == [1, 2]


def test_an_attribute_of_no_length_ends_the_search() -> None:
    one = client(info=b"")
    bad = one._replace(body=one.body[:72] + bytes(8))
    assert bad.info == bad.congestion == b""


def test_cut_and_broken_answers_raise_nothing_but_the_declared_error() -> None:
    whole, luck = captured(), random.Random(11)
    outcomes = [outcome(broken(whole, luck)) for _ in range(2000)]
    assert 0 < sum(outcomes) < len(outcomes), "each kind of outcome is to be seen"


def broken(whole: bytes, luck: random.Random) -> bytes:
    """Cut an answer short, or change some of its bytes."""
    if luck.random() < 0.3:
        return whole[: luck.randrange(len(whole))]
    changed = bytearray(whole)
    for _ in range(luck.randrange(1, 9)):
        changed[luck.randrange(len(changed))] = luck.randrange(256)
    return bytes(changed)


def outcome(answered: bytes) -> bool:
    """Read an answer; False = it was refused as the module says it will be."""
    try:
        found = sockets(once(answered))
    except OSError:
        return False
    for one in found.values():
        RUN.pack(*followed(one))
    return True
