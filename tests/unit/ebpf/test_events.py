"""What one record says."""

import struct

import pytest

from ebpf.events import (
    FORMATS,
    GROUP_SIZE,
    RECORD,
    RING_HEADER,
    RUN,
    Opener,
    Reset,
    SessionEvent,
    TcpState,
    address_text,
    decode,
    decode_run,
)


def event(**members: object) -> SessionEvent:
    empty = {name: b"" if code.endswith("s") else 0 for name, code in FORMATS.items()}
    (decoded,) = decode(RECORD.pack(*(empty | members).values()))
    return decoded


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]), "192.0.2.1"),
        (bytes.fromhex("20010db8000000000000000000000001"), "2001:db8::1"),
        (bytes(16), "::"),
    ],
)
def test_addresses(packed: bytes, text: str) -> None:
    assert address_text(packed) == text


def test_the_process_is_text_without_padding() -> None:
    assert event(command=b"getscu").process == "getscu"
    assert event(command=b"\xff\xfe").process == "��"
    assert event().process == ""


def test_payload_is_without_syn_and_fin() -> None:
    counted = {
        "bytes_acked": 102,
        "bytes_received": 51,
        "fin_acked": 1,
        "fin_received": 1,
        "established": 1,
    }
    assert event(**counted, opener=Opener.LOCAL).payload_acked == 100
    assert event(**counted, opener=Opener.REMOTE).payload_acked == 101
    assert event(**counted).payload_received == 50


def test_a_connection_that_was_refused_sent_nothing() -> None:
    refused = event(opener=Opener.LOCAL, syn_ns=5, state=TcpState.CLOSE, old_state=TcpState.SYN_SENT)
    assert refused.payload_acked == 0


def test_the_syn_counts_where_the_moment_of_the_answer_was_missed() -> None:
    missed = event(opener=Opener.LOCAL, syn_ns=5, established_ns=0, established=1, bytes_acked=3)
    assert (missed.payload_acked, missed.connect_us) == (2, None)


def test_both_ends_may_reset() -> None:
    assert Reset(event(reset=3).reset) == Reset.SENT | Reset.RECEIVED
    assert Reset(event().reset) is Reset.NONE


def test_the_delivery_rate_is_the_kernels() -> None:
    rate = event(rate_delivered=10, rate_interval_us=3_000, mss=1448)
    assert rate.delivery_bytes_per_s == 10 * 1448 * 1_000_000 // 3_000
    assert event(rate_delivered=10, mss=1448).delivery_bytes_per_s is None


def test_connect_time_is_the_active_sides() -> None:
    times = {"syn_ns": 1_000_000, "established_ns": 21_500_000}
    assert event(**times, opener=Opener.LOCAL).connect_us == 20_500
    assert event(**times, opener=Opener.REMOTE).connect_us is None
    assert event(syn_ns=5, opener=Opener.LOCAL).connect_us is None


def test_records_follow_each_other() -> None:
    two = RECORD.pack(*event(pid=1)) + RECORD.pack(*event(pid=2))
    assert [one.pid for one in decode(two)] == [1, 2]


def test_a_run_carries_the_rings_headers() -> None:
    header = struct.pack("<II", RECORD.size, 0)
    run = b"".join(header + RECORD.pack(*event(pid=pid)) for pid in (1, 2))
    assert RUN.size == struct.calcsize(RING_HEADER) + RECORD.size
    assert [one.pid for one in decode_run(run)] == [1, 2]
    with pytest.raises(struct.error):
        decode_run(run[:-1])


def test_the_group_is_what_sessions_share() -> None:
    """Nothing in it may differ between two sessions of one process with one service."""
    members = list(FORMATS)
    assert set(members[: members.index("established") + 1]) == {
        "owner_started_ns",
        "local",
        "remote",
        "command",
        "netns",
        "pid",
        "service_port",
        "opener",
        "established",
    }
    first = RECORD.pack(*event(pid=7, thread=8, at_ns=1, local_port=40000))
    second = RECORD.pack(*event(pid=7, thread=9, at_ns=2, local_port=40001))
    assert first[:GROUP_SIZE] == second[:GROUP_SIZE]
    assert first != second
