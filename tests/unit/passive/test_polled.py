"""The difference of two polls, and the records that it makes."""

import pytest

from agent.passive.inetdiag import Socket
from agent.passive.polled import Followed, Polled, is_told, record
from ebpf.events import (
    NOT_MEASURED_U32,
    RUN,
    Opener,
    OwnerEvidence,
    Reset,
    SessionEvent,
    TcpState,
    decode_run,
)
from tests.unit.passive.records import packed
from tests.unit.passive.sockets import (
    CLIENT,
    CLIENT_PORT,
    PACS_PORT,
    SERVER,
    SYN_REPEATED,
    client,
    listening,
    poll,
    served,
)

S = 1_000_000_000


def polls(*found: dict[int, Socket]) -> list[tuple[list[Followed], list[Followed]]]:
    """Take these polls, a second apart; give what each said."""
    polled = Polled()
    return [polled.take(one, number * S) for number, one in enumerate(found, 1)]


def told(one: Socket, *, closed: bool = False) -> SessionEvent:
    (_, (new, _)) = polls({}, poll(one))
    return record(new[0], netns=9, closed=closed)


def test_a_session_that_comes_and_goes() -> None:
    first, second, third, fourth, fifth = polls({}, poll(client()), poll(client()), {}, {})
    assert first == third == fourth == ([], [])
    ((new,), ()) = second
    ((), (gone,)) = fifth
    assert gone is new
    assert (gone.first_seen_ns, gone.seen_ns, gone.polls) == (2 * S, 3 * S, 2)


def test_a_session_that_one_list_passed_over_was_there_all_the_time() -> None:
    said = polls({}, poll(client()), {}, poll(client()), {}, {})
    assert [len(gone) for _, gone in said] == [0, 0, 0, 0, 0, 1]
    assert [len(new) for new, _ in said] == [0, 1, 0, 0, 0, 0]


def test_what_the_last_list_did_not_have_is_not_given_as_open() -> None:
    polled = Polled()
    polled.take(poll(client(1), client(2)), S)
    polled.take(poll(client(2)), 2 * S)
    assert [one.socket.cookie for one in polled] == [2]


def test_the_last_numbers_count() -> None:
    said = polls(poll(client()), poll(client(info={120: ("=Q", 5000)})), {}, {})
    (gone,) = said[-1][1]
    assert record(gone, netns=9, closed=True).bytes_acked == 5000


def test_each_goes_at_the_second_poll_without_it() -> None:
    polled = Polled()
    polled.take(poll(client(1), client(2), client(3)), S)
    polled.take(poll(client(1), client(3)), 2 * S)
    polled.take(poll(client(1)), 3 * S)
    _, gone = polled.take({}, 4 * S)
    _, later = polled.take({}, 5 * S)
    assert [one.socket.cookie for one in gone + later] == [3, 1]


def test_a_listener_is_no_session() -> None:
    said = polls({}, poll(listening()), {}, {})
    assert said == [([], [])] * 4
    polled = Polled()
    polled.take(poll(listening()), S)
    event = record(next(iter(polled)), netns=9)
    assert (event.state, event.local_port, event.service_port) == (TcpState.LISTEN, PACS_PORT, PACS_PORT)
    assert (event.opener, event.established) == (Opener.UNKNOWN, False)


@pytest.mark.parametrize("address", ["0.0.0.0", SERVER])
def test_one_that_came_to_a_listener_was_opened_by_the_peer(address: str) -> None:
    (_, (new, _)) = polls({}, poll(listening(address=address), served(), client()))
    ends = {one.socket.cookie: one for one in new}
    assert (ends[8].opener, ends[8].service_port) == (Opener.REMOTE, PACS_PORT)
    assert (ends[7].opener, ends[7].service_port) == (Opener.LOCAL, PACS_PORT)


def test_a_listener_of_another_address_accepted_nothing() -> None:
    (_, (new, _)) = polls({}, poll(listening(address="192.0.2.9"), served()))
    assert new[0].opener == Opener.LOCAL


def test_a_listener_that_closed_when_it_had_its_session_is_remembered() -> None:
    """``nc -l``."""
    assert polls(poll(listening()), poll(served()))[1][0][0].opener == Opener.REMOTE
    assert polls(poll(listening()), {}, poll(served()))[2][0][0].opener == Opener.LOCAL


def test_of_those_of_the_first_poll_nobody_knows_who_opened_them() -> None:
    """What they did before would be taken for new otherwise."""
    ((new, _),) = polls(poll(listening(), served(), client(ports=(50_000, 4243))))
    ends = {one.socket.cookie: one for one in new}
    assert {one.opener for one in new} == {Opener.UNKNOWN}
    assert ends[8].service_port == PACS_PORT  # something listens there
    assert ends[7].service_port == 4243  # the lower one


def test_the_record_says_what_tcp_info_says() -> None:
    event = told(client())
    assert (event.local, event.remote) == (packed(CLIENT), packed(SERVER))
    assert (event.local_port, event.remote_port, event.netns) == (CLIENT_PORT, PACS_PORT, 9)
    assert (event.payload_acked, event.payload_received) == (1009, 20_011)
    assert (event.srtt_us, event.min_rtt_us, event.app_limited) == (20_000, 19_000, 1)
    assert event.delivery_bytes_per_s == 1_448_000
    assert event.rate_delivered == 20  # in the 20 ms of a round trip
    assert event.congestion == b"cubic".ljust(16, b"\0")
    assert (event.old_state, event.state) == (TcpState.ESTABLISHED, TcpState.ESTABLISHED)
    assert (event.first_seen_ns, event.at_ns) == (2 * S, 2 * S)


def test_what_polling_cannot_know_is_not_made_up() -> None:
    event = told(client(), closed=True)
    assert (event.syn_ns, event.established_ns, event.connect_us) == (0, 0, None)
    assert (event.reset, event.error, event.thread) == (Reset.NONE, 0, 0)
    assert (event.pid, event.owner_evidence) == (0, OwnerEvidence.NONE)


def test_a_close_keeps_the_state_last_seen() -> None:
    event = told(client(state=TcpState.CLOSE_WAIT), closed=True)
    assert (event.old_state, event.state, event.closed) == (TcpState.CLOSE_WAIT, TcpState.CLOSE, True)


def test_a_record_survives_its_packing() -> None:
    event = told(client())
    assert decode_run(RUN.pack(*event)) == [event]


@pytest.mark.parametrize(
    ("state", "acked", "received"),
    [
        (TcpState.ESTABLISHED, 0, 0),
        (TcpState.FIN_WAIT1, 0, 0),
        (TcpState.FIN_WAIT2, 1, 0),
        (TcpState.CLOSE_WAIT, 0, 1),
        (TcpState.LAST_ACK, 0, 1),
        (TcpState.CLOSING, 0, 1),
    ],
)
def test_the_fins_that_the_numbers_hold(state: TcpState, acked: int, received: int) -> None:
    event = told(client(state=state))
    assert (event.fin_acked, event.fin_received) == (acked, received)


def test_an_attempt_is_told_as_failed_only_after_it_waited_for_long() -> None:
    """Else it may have been answered since, and closed."""
    once = told(client(state=TcpState.SYN_SENT), closed=True)
    again = told(client(state=TcpState.SYN_SENT, info=SYN_REPEATED), closed=True)
    assert not once.established
    assert not is_told(once)
    assert not again.established
    assert is_told(again)
    assert is_told(told(client(), closed=True))


@pytest.mark.parametrize("size", [104, 148, 192, 248])
def test_an_older_kernel_tells_less(size: int) -> None:
    event = told(client(info=client().info[:size]))
    assert event.srtt_us == 20_000
    assert event.min_rtt_us == (19_000 if size > 148 else NOT_MEASURED_U32)
    assert event.bytes_acked == (1010 if size > 120 else 0)
    assert event.delivery_bytes_per_s == (1_448_000 if size > 160 else None)


@pytest.mark.parametrize("rate", [1, 1_000, 1_000_000, 12_345_678_901, 2**63])
def test_any_rate_fits_the_record(rate: int) -> None:
    event = told(client(info={160: ("=Q", rate), 16: ("=I", 65_483)}))
    RUN.pack(*event)
    if 10_000 < rate < 2**40:
        assert event.delivery_bytes_per_s == pytest.approx(rate, rel=1 / event.rate_interval_us)
