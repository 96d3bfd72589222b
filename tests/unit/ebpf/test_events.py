"""What one record says."""

import pytest

from ebpf.events import FORMATS, RECORD, Opener, SessionEvent, TcpState, address_text, decode


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
        "established_ns": 5,
    }
    assert event(**counted, opener=Opener.LOCAL).payload_acked == 100
    assert event(**counted, opener=Opener.REMOTE).payload_acked == 101
    assert event(**counted).payload_received == 50


def test_a_connection_that_was_refused_sent_nothing() -> None:
    refused = event(opener=Opener.LOCAL, syn_ns=5, state=TcpState.CLOSE, old_state=TcpState.SYN_SENT)
    assert refused.payload_acked == 0
    assert not refused.was_established


def test_a_session_was_established_by_what_came_after_too() -> None:
    moment_missed = {"opener": Opener.LOCAL, "syn_ns": 5, "established_ns": 0, "bytes_acked": 3}
    closed = event(**moment_missed, state=TcpState.CLOSE, old_state=TcpState.FIN_WAIT2)
    still_open = event(**moment_missed, state=TcpState.CLOSE_WAIT)
    assert closed.was_established
    assert still_open.was_established
    assert (closed.payload_acked, closed.connect_us) == (2, None)


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
