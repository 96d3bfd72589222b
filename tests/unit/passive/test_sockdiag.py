"""The source that polls: when it asks, what it tells, and that it counts what it could not see."""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator, Set
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from agent.errors import SockDiagError
from agent.passive.procfs import Holders, holders
from agent.passive.sockdiag import SockDiag, open_sockdiag
from agent.passive.watch import Watch
from analytics.measurement import Direction, Flow
from ebpf.events import Opener, OwnerEvidence, SessionEvent, TcpState, decode_run
from tests.unit.passive.sockets import SYN_REPEATED, FakeHost, client, listening, served

S = 1_000_000_000


@pytest.fixture
def kernel(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def source(kernel: FakeHost) -> Iterator[SockDiag]:
    with open_sockdiag(netns=kernel.netns, host=kernel.host) as opened:
        yield opened


def drain(source: SockDiag, kernel: FakeHost, *, polls: int = 2) -> list[SessionEvent]:
    """Let a second pass before each look; give what closed."""
    closed = []
    for _ in range(polls):
        kernel.now_ns += S
        closed += decode_run(source.drain())
    return closed


def test_it_polls_when_it_is_time(source: SockDiag, kernel: FakeHost) -> None:
    assert kernel.polls == 1
    for now_ns, polls in ((S, 1), (S + S // 2, 1), (2 * S, 2), (2 * S + 1, 2), (3 * S, 3), (9 * S, 4)):
        kernel.now_ns = now_ns
        source.drain()
        assert kernel.polls == polls


def test_while_it_is_paused_nothing_is_asked_and_what_passed_then_is_not_missed(
    source: SockDiag, kernel: FakeHost
) -> None:
    kernel.found = [listening(), served(), client()]
    source.snapshot()
    polls = kernel.polls
    source.pause()
    kernel.found = []
    kernel.counts(active=40, passive=2)
    assert drain(source, kernel) == []
    assert source.snapshot() == []
    assert kernel.polls == polls
    missed = source.counters().missed
    kernel.found = [client(cookie=77)]
    source.resume()
    source.resume()
    assert [event.cookie for event in source.snapshot()] == [77]
    assert [event.opener for event in source.snapshot()] == [Opener.UNKNOWN]  # who opened it was not seen
    assert source.counters().missed == missed
    assert drain(source, kernel) == []  # what went meanwhile is not told


def test_a_snapshot_is_a_poll(source: SockDiag, kernel: FakeHost) -> None:
    kernel.found = [listening(), served(), client()]
    told = {event.cookie: event for event in source.snapshot()}
    assert {cookie: event.state for cookie, event in told.items()} == {
        9: TcpState.LISTEN,
        8: TcpState.ESTABLISHED,
        7: TcpState.ESTABLISHED,
    }
    assert {event.netns for event in told.values()} == {kernel.netns}
    assert kernel.polls == 2


def test_a_close_is_told_once(source: SockDiag, kernel: FakeHost) -> None:
    kernel.found = [client()]
    assert drain(source, kernel) == []
    kernel.found = []
    (event,) = drain(source, kernel)
    assert (event.state, event.old_state, event.opener) == (
        TcpState.CLOSE,
        TcpState.ESTABLISHED,
        Opener.LOCAL,
    )
    assert drain(source, kernel) == []
    assert source.counters().seen == (1,)


def test_a_close_that_a_snapshot_found_is_told_by_the_next_drain(source: SockDiag, kernel: FakeHost) -> None:
    kernel.found = [client()]
    source.snapshot()
    kernel.found = []
    source.snapshot()
    assert source.snapshot() == []
    assert len(decode_run(source.drain())) == 1


def test_a_session_has_one_key_from_its_first_snapshot_to_its_close(
    source: SockDiag, kernel: FakeHost
) -> None:
    kernel.found = [client()]
    keys = {event.key for _ in range(3) for event in source.snapshot()}
    kernel.found = []
    assert keys == {event.key for event in drain(source, kernel)}
    assert len(keys) == 1


def test_what_no_poll_found_is_counted_as_missed(source: SockDiag, kernel: FakeHost) -> None:
    kernel.counts(active=11, passive=7)
    kernel.found = [client(1), served(2), listening(3)]
    source.snapshot()
    assert source.counters().missed == 18 - 2
    kernel.found = []
    assert len(drain(source, kernel)) == 2
    assert source.counters() == ((2,), (0,), 16)


def test_those_older_than_the_source_are_not_counted_as_found(kernel: FakeHost) -> None:
    kernel.counts(active=1000, passive=2000)
    kernel.found = [client(1), client(2)]
    with open_sockdiag(netns=kernel.netns, host=kernel.host) as source:
        assert source.counters().missed == 0
        kernel.counts(active=1005, passive=2000)
        source.snapshot()
        assert source.counters().missed == 5


def test_an_attempt_whose_end_nobody_knows_is_missed(source: SockDiag, kernel: FakeHost) -> None:
    kernel.counts(active=2, passive=0)
    kernel.found = [client(1, state=TcpState.SYN_SENT), client(2, state=TcpState.SYN_SENT, info=SYN_REPEATED)]
    source.snapshot()
    kernel.found = []
    (failed,) = drain(source, kernel)
    assert (failed.cookie, failed.established) == (2, 0)
    assert source.counters().missed == 1


def test_processes_are_looked_through_only_for_what_is_new(
    source: SockDiag, kernel: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody was found: another user's socket stays another user's."""
    asked: list[set[int]] = []

    def count(wanted: Set[int], *, proc: Path) -> Holders:
        asked.append(set(wanted))
        return holders(wanted, proc=proc)

    monkeypatch.setattr("agent.passive.sockdiag.holders", count)
    kernel.found = [client(1, inode=101), client(2, inode=102), client(3, inode=0)]
    drain(source, kernel, polls=3)
    kernel.found = [client(1, inode=101), client(2, inode=0), client(3, inode=103)]
    drain(source, kernel, polls=3)
    assert asked == [{101, 102}, {103}]


def test_a_poll_that_fails_closes_nothing(
    source: SockDiag, kernel: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.found = [client()]
    source.snapshot()
    kernel.error = OSError(errno.ENOBUFS, "No buffer space available")
    with caplog.at_level(logging.WARNING):
        assert drain(source, kernel, polls=5) == []
        assert [event.cookie for event in source.snapshot()] == [7]
    assert [record.getMessage().count("No buffer space") for record in caplog.records] == [1]
    kernel.error = None
    assert drain(source, kernel) == []
    kernel.found = []
    assert len(drain(source, kernel)) == 1


def test_each_outage_is_said_once(
    source: SockDiag, kernel: FakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            kernel.error = OSError(errno.ENOBUFS, "full")
            drain(source, kernel)
            kernel.error = None
            drain(source, kernel)
    assert len(caplog.records) == 2


def test_a_kernel_that_does_not_answer_is_told_with_a_remedy(kernel: FakeHost) -> None:
    kernel.error = OSError(errno.ENOENT, "No such file or directory")
    with pytest.raises(SockDiagError, match="No such file") as caught:
        open_sockdiag(netns=None, host=kernel.host).__enter__()
    assert "tcp_diag" in caught.value.remedy


def test_another_namespace_cannot_be_polled(kernel: FakeHost) -> None:
    with pytest.raises(SockDiagError, match="namespace") as caught:
        open_sockdiag(netns=kernel.netns + 1, host=kernel.host).__enter__()
    assert "eBPF" in caught.value.remedy


def test_that_other_namespaces_are_missed_is_said(kernel: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), open_sockdiag(netns=None, host=kernel.host):
        assert "containers" in caplog.text


# --- on this machine's kernel, with sockets of this process


def connected(stack: ExitStack, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    ours = stack.enter_context(socket.create_connection(listener.getsockname()))
    return ours, stack.enter_context(listener.accept()[0])


def on_port(events: list[SessionEvent], port: int) -> dict[Opener, SessionEvent]:
    """The ends of the one session with that port."""
    return {Opener(event.opener): event for event in events if event.service_port == port}


def test_both_ends_of_a_session_of_this_process() -> None:
    own = Path("/proc/self/ns/net").stat().st_ino
    with open_sockdiag(netns=own, every_s=0) as source, ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        ours, peer = connected(stack, listener)
        ours.sendall(bytes(1009))
        peer.recv(1009, socket.MSG_WAITALL)
        ends = on_port([e for e in source.snapshot() if e.state != TcpState.LISTEN], port)
        assert {event.owner_evidence for event in ends.values()} == {OwnerEvidence.FILE_TABLE}
        assert source.owner(ends[Opener.LOCAL].pid, ends[Opener.LOCAL].owner_started_ns) is not None
        assert ends[Opener.LOCAL].payload_acked == ends[Opener.REMOTE].payload_received == 1009
        stack.close()
        closed = on_port(decode_run(source.drain()) + decode_run(source.drain()), port)
    assert closed.keys() == {Opener.LOCAL, Opener.REMOTE}
    assert closed[Opener.LOCAL].payload_acked == 1009


def test_a_session_that_nobody_accepted_yet_has_no_owner_and_then_has_one() -> None:
    with (
        open_sockdiag(netns=None, every_s=0) as source,
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        closing(socket.create_connection(listener.getsockname())),
    ):
        port = listener.getsockname()[1]
        waiting = on_port([e for e in source.snapshot() if e.state != TcpState.LISTEN], port)[Opener.REMOTE]
        accepted, _ = listener.accept()
        taken = on_port([e for e in source.snapshot() if e.state != TcpState.LISTEN], port)[Opener.REMOTE]
        accepted.close()
    assert (waiting.pid, waiting.owner_evidence) == (0, OwnerEvidence.NONE)
    assert taken.pid
    assert taken.key == waiting.key


def test_it_can_be_asked_while_an_event_loop_runs_and_its_sessions_become_flows() -> None:
    flows: list[Flow] = []

    async def talk(source: SockDiag) -> int:
        watch = Watch(source, agent="pacs", tenant="default", sink=flows.extend, window_s=3600)
        watching = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port: int = listener.getsockname()[1]
            ours, peer = connected(stack, listener)
            ours.sendall(bytes(1009))
            peer.recv(1009, socket.MSG_WAITALL)
            (shown, *_) = [one for one in watch.sessions(None, None, 1000) if one.remote_port == port]
            assert (shown.source, shown.open, shown.direction) == ("inet_diag", True, Direction.OUT)
        watch.sessions(None, None, 1)
        watch.sessions(None, None, 1)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return port

    with open_sockdiag(netns=None, every_s=0) as source:
        port = asyncio.run(talk(source))
    rows = {row.direction: row for row in flows if row.service_port == port}
    assert {row.source for row in rows.values()} == {"inet_diag"}
    assert [(row.opened, row.closed) for row in rows.values()] == [(1, 1), (1, 1)]
    assert rows[Direction.OUT].bytes_sent == rows[Direction.IN].bytes_received == 1009
    assert rows[Direction.OUT].executable
