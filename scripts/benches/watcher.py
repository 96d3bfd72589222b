"""One watcher in a process of its own: ``python -m benches.watcher KIND FOLDER SESSIONS``.

Tells when it is ready, watches until its standard input ends, then tells the rest (benches/protocol.py).
FOLDER is for compiled programs and the outbox. SESSIONS is how many sessions to tell at most; 0 = none, where
only costs are asked for. It watches its own network namespace. Of pathgrade it runs the passive part, and it
imports nothing that the agent does not.
"""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec

from benches.machine import cpu_s
from benches.protocol import Ready, Told

if TYPE_CHECKING:
    from agent.outbox import Outbox
    from agent.passive.watch import Watch
    from analytics.measurement import Flow, Session
    from benches.truth import Seen
    from ebpf.events import SessionSource

AGENT: Final = "bench"
FLUSH_S: Final = 1.0  # as agent/run.py
POLL_S: Final = 1.0
TCPLIFE: Final = ("setpriv", "--pdeathsig", "KILL", "tcplife-bpfcc", "-s")
TCPLIFE_START_S: Final = 15
TCPLIFE_END_S: Final = 10
TCPLIFE_HEADER: Final = "PID,"
UNBUFFERED: Final = {"PYTHONUNBUFFERED": "1"}  # its header is the sign that it watches


def main() -> None:
    """Be the watcher that the command line names."""
    kind, scratch, most = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    _KINDS[kind](scratch, most)


def say(message: Ready | Told) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


# --- pathgrade ----------------------------------------------------------------------------------------------


def watch_with_ebpf(scratch: Path, most: int) -> None:
    """Run pathgrade's passive part on its eBPF programs."""
    from ebpf.load import open_monitor  # noqa: PLC0415  # each watcher loads only its own

    _pathgrade(lambda: open_monitor(netns=_own_netns(), cache=scratch), scratch, most)


def watch_with_inet_diag(scratch: Path, most: int) -> None:
    """Run pathgrade's passive part on its substitute for eBPF."""
    try:
        from agent.passive.sockdiag import open_sockdiag  # noqa: PLC0415  # each watcher loads only its own
    except ImportError as error:
        say(Ready(refusal=str(error)))
        return
    _pathgrade(lambda: open_sockdiag(netns=_own_netns(), every_s=POLL_S), scratch, most)


def _pathgrade(open_source: Opener, scratch: Path, most: int) -> None:
    """Watch as the agent does, with its outbox behind; nothing is uploaded."""
    from agent.footprint import be_prompt  # noqa: PLC0415  # not part of the other watchers' processes
    from agent.outbox import Outbox  # noqa: PLC0415  # as above
    from analytics.memory import be_small  # noqa: PLC0415  # likewise

    be_small()
    began = time.monotonic()
    with open_source() as source:
        load_s = time.monotonic() - began
        be_prompt()  # as the agent does, once its programs are loaded
        asyncio.run(_watch(source, Outbox(scratch / f"outbox-{os.getpid()}", AGENT), load_s, most))


async def _watch(source: SessionSource, outbox: Outbox, load_s: float, most: int) -> None:
    from agent.passive.watch import Watch  # noqa: PLC0415  # as above

    sink = _Sink(outbox)
    watch = Watch(source, agent=AGENT, tenant=AGENT, sink=sink.take)
    tasks = [asyncio.create_task(watch.run()), asyncio.create_task(sink.keep_flushing())]
    await asyncio.sleep(0)  # it takes stock of what is open
    began_s = time.process_time()
    say(Ready(pid=os.getpid(), load_s=load_s))
    await _input_ends()
    sessions = _told(watch, most)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)  # the last window is handed over
    await asyncio.to_thread(sink.flush)
    cpu_s = time.process_time() - began_s
    say(Told(cpu_s=cpu_s, sessions=sessions, lost=_lost(source), uploaded_bytes=sink.bytes, flows=sink.flows))


def _lost(source: SessionSource) -> int:
    """Count the closes that were not told. What a poll misses are sessions; what eBPF misses are runs."""
    counters = source.counters()
    return counters.missed if source.source == "inet_diag" else sum(counters.lost)


class _Sink:
    """Takes the flows of a window as the agent does: checked at once, packed and synced in a thread."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.flows = self.bytes = 0

    def take(self, flows: list[Flow]) -> None:
        """Take them in."""
        self.flows += len(flows)
        self._outbox.add("flows", flows)

    async def keep_flushing(self) -> None:
        """Write what was taken in, now and then, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Write it, and forget it as if the server had it."""
        while self._outbox.flush():
            pass
        while waiting := self._outbox.oldest():
            self.bytes += len(waiting.body)
            self._outbox.acknowledged(waiting)


async def _input_ends() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())


def _told(watch: Watch, most: int) -> list[Seen]:
    return [_seen(session) for session in watch.sessions(None, None, most)] if most else []


def _seen(session: Session) -> Seen:
    from benches.truth import End, Seen  # noqa: PLC0415  # as above

    end = End(session.local_address, session.local_port, session.remote_address, session.remote_port)
    return Seen(end, session.pid or 0, session.bytes_sent, session.bytes_received)


def _own_netns() -> int:
    return Path("/proc/self/ns/net").stat().st_ino


# --- the others ---------------------------------------------------------------------------------------------


def watch_with_ss(_scratch: Path, most: int) -> None:
    """Ask ``ss -tinpH`` once a second, as tools without eBPF do. Its CPU time is that of ``ss`` alone."""
    say(Ready())
    printed = list(_polls())
    say(Told(cpu_s=_children_cpu_s(), sessions=_ss_sessions(printed) if most else []))


def _polls() -> Iterator[str]:
    due = time.monotonic()
    while not _input_ended(max(0.0, due - time.monotonic())):
        yield subprocess.run(["ss", "-tinpH"], check=True, capture_output=True, text=True).stdout
        due += POLL_S


def _ss_sessions(printed: list[str]) -> list[Seen]:
    """Of a session that was seen several times, the last view counts: its numbers are the latest."""
    from benches.tools import ss_sessions  # noqa: PLC0415  # as above

    return list({(seen.end, seen.pid): seen for text in printed for seen in ss_sessions(text)}.values())


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watch_with_tcplife(_scratch: Path, most: int) -> None:
    """Run bcc's tcplife, which prints a line for each session that ends."""
    import tempfile  # noqa: PLC0415  # half a megabyte, which is not pathgrade's

    from benches.tools import refusal, tcplife_sessions  # noqa: PLC0415  # as above

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(TCPLIFE, stdout=out, stderr=errors, env=os.environ | UNBUFFERED)
        if not _prints_header(process, out):
            say(Ready(refusal=refusal(_read(errors))))
            return
        began_s = cpu_s(process.pid)
        say(Ready(pid=process.pid))
        while not _input_ended(None):
            pass
        used_s = cpu_s(process.pid) - began_s
        _end(process)
        say(Told(cpu_s=used_s, sessions=list(tcplife_sessions(_read(out))) if most else []))


def _prints_header(process: subprocess.Popen[bytes], out: IO[str]) -> bool:
    """Wait until it says that it watches; False if it gives up, or takes too long."""
    deadline = time.monotonic() + TCPLIFE_START_S
    while not _read(out).startswith(TCPLIFE_HEADER):
        if process.poll() is not None or time.monotonic() > deadline:
            _end(process)
            return False
        time.sleep(0.1)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(TCPLIFE_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(file: IO[str]) -> str:
    """Read from the beginning, without moving the position, which the writer shares."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def _input_ended(within_s: float | None) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], within_s)
    return bool(readable)


_KINDS: Final = {
    "ebpf": watch_with_ebpf,
    "inet_diag": watch_with_inet_diag,
    "tcplife": watch_with_tcplife,
    "ss": watch_with_ss,
}
Opener = Callable[[], AbstractContextManager["SessionSource"]]

if __name__ == "__main__":
    main()
