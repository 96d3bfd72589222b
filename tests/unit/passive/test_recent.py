"""The ring of recent sessions: what is kept, for how long, and how it is told."""

from agent.passive.listeners import Holder, Seen
from agent.passive.owner import Owner
from agent.passive.recent import Clocks, Ids, Recent, session
from analytics.measurement import Direction, Session
from ebpf.events import NOT_MEASURED_U32, RUN, Opener, Reset, TcpState
from tests.unit.passive import records
from tests.unit.passive.records import CLIENT, SERVER, closed, run

S = 1_000_000_000
SEEN = Seen(Direction.OUT, 4242, Holder(4121, 5 * S, b"getscu"), guessed=False)
OWNER = Owner("/usr/bin/getscu", "reading.service", "", 1000)


def sockets(recent: Recent, now_ns: int = 0) -> list[int]:
    return [event.cookie for event in recent.newest(now_ns)]


def test_the_newest_come_first() -> None:
    recent = Recent(keep_s=60)
    recent.take(run(closed(cookie=1), closed(cookie=2)), 0)
    recent.take(b"", 0)
    recent.take(run(closed(cookie=3)), 0)
    assert sockets(recent) == [3, 2, 1]


def test_old_ones_go() -> None:
    recent = Recent(keep_s=60)
    recent.take(run(closed(cookie=1)), 0)
    recent.take(run(closed(cookie=2)), 50 * S)
    assert sockets(recent, 60 * S) == [2, 1]
    assert sockets(recent, 61 * S) == [2]
    recent.take(b"", 111 * S)
    assert sockets(recent, 0) == []


def test_many_push_out_the_oldest() -> None:
    recent = Recent(keep_s=60, most_bytes=10 * (RUN.size + 128))
    for number in range(100):
        recent.take(run(closed(cookie=number)), 0)
    assert sockets(recent) == list(range(99, 89, -1))


def test_of_a_run_larger_than_the_ring_the_end_stays() -> None:
    recent = Recent(keep_s=60, most_bytes=3 * RUN.size + 200)
    recent.take(run(*(closed(cookie=number) for number in range(100))), 0)
    assert sockets(recent) == [99, 98, 97]


def test_a_session_is_told_in_full() -> None:
    told = closed(
        thread=4123,
        bytes_acked=102,
        fin_acked=1,
        bytes_received=501,
        fin_received=1,
        bytes_retransmitted=60,
        rttvar_us=900,
        data_segments_sent=3,
        data_segments_received=4,
        retransmitted=1,
        lost=2,
        reordering_seen=5,
        dsack_duplicates=6,
        busy_us=7,
        rwnd_limited_us=8,
        sndbuf_limited_us=9,
        mss=1000,
        cwnd=11,
        peer_window=12,
        rate_delivered=10,
        rate_interval_us=8_000,
        app_limited=1,
        reset=Reset.RECEIVED,
        error=104,
        fast_open=1,
    )
    assert session(told, id="00c0ffee00", at_us=5, seen=SEEN, owner=OWNER, source="ebpf") == Session(
        id="00c0ffee00",
        at_us=5,
        open=False,
        state="CLOSE",
        process="getscu",
        pid=4121,
        thread=4123,
        uid=1000,
        executable="/usr/bin/getscu",
        unit="reading.service",
        container="",
        guessed=False,
        netns=9,
        direction=Direction.OUT,
        local_address=CLIENT,
        local_port=40_001,
        remote_address=SERVER,
        remote_port=4242,
        service_port=4242,
        established=True,
        connect_us=20_000,
        duration_us=100_000,
        srtt_us=20_000,
        rttvar_us=900,
        min_rtt_us=19_000,
        bytes_sent=100,
        bytes_received=500,
        bytes_retransmitted=60,
        segments_sent=3,
        segments_received=4,
        segments_retransmitted=1,
        segments_lost=2,
        reordering_seen=5,
        dsack_duplicates=6,
        busy_us=7,
        rwnd_limited_us=8,
        sndbuf_limited_us=9,
        mss=1000,
        cwnd=11,
        peer_window=12,
        delivery_kbps=10_000,
        app_limited=True,
        congestion="cubic",
        resets_sent=False,
        resets_received=True,
        error="ECONNRESET",
        fast_open=True,
        source="ebpf",
    )


def test_what_was_not_measured_is_none() -> None:
    nobody = Seen(Direction.UNKNOWN, 4242, Holder(0, 0, b""), guessed=False)
    told = records.session(
        opener=Opener.UNKNOWN,
        state=99,
        pid=0,
        srtt_us=0,
        min_rtt_us=NOT_MEASURED_U32,
        error=9999,
        bytes_acked=0,
        fin_acked=1,
    )
    shown = session(told, id="", at_us=0, seen=nobody, owner=Owner(), source="inet_diag")
    assert (shown.pid, shown.thread, shown.uid, shown.connect_us, shown.duration_us) == (None,) * 5
    assert (shown.srtt_us, shown.rttvar_us, shown.min_rtt_us, shown.delivery_kbps) == (None,) * 4
    assert (shown.open, shown.state, shown.error, shown.bytes_sent) == (True, "99", "9999", 0)


def test_every_state_has_its_name() -> None:
    for state in TcpState:
        told = records.session(state=state)
        assert session(told, id="", at_us=0, seen=SEEN, owner=OWNER, source="ebpf").state == state.name


def test_a_name_is_of_one_session_of_one_life() -> None:
    ids = Ids()
    assert ids.of((1, 2)) == ids.of((1, 2))
    assert len({ids.of((1, 2)), ids.of((2, 1)), ids.of((1, 3)), Ids().of((1, 2))}) == 4
    assert len(ids.of((2**64 - 1, 2**64 - 1))) == 10


def test_the_kernels_time_becomes_the_walls() -> None:
    assert Clocks(wall_us=1_000_000, monotonic_ns=5 * S).wall_at(5 * S - 2_000) == 999_998
