"""The monitor in the kernel: what it keeps, what it loses, what it leaves behind, what it refuses."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ebpf import check, compiled, load
from ebpf.btf import Btf, read_btf
from ebpf.check import PURPOSES
from ebpf.compiled import Programs
from ebpf.errors import CompileError, HookAbsentError, LayoutError, LoadError
from ebpf.events import RUN, OwnerEvidence, SessionEvent, decode_run
from ebpf.hooks import OPTIONAL, hook_of, shown
from ebpf.load import Monitor, open_monitor
from ebpf.objects import possible_cpus
from tests.kernel.conftest import COLLECT_LIMIT_S, LIMIT_S

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
Collect = Callable[..., list[SessionEvent]]
STORM = 401  # a prime, which no batch size hits by chance
SMALL_RING = 64 * 1024
EXIT = b"\x95" + bytes(7)  # BPF_EXIT, and nothing before it
STAND_IN = "tp_btf:tcp_rcv_space_adjust"
ALL_HOOKS = {shown(program) for program in PURPOSES}
SYMBOLS = Path("/proc/kallsyms").read_text()
ABSENT = {
    shown(program): f"this kernel has no {shown(program)}: {cost}"
    for program, cost in OPTIONAL.items()
    if f" __traceiter_{hook_of(program)}\n" not in SYMBOLS
}
"""What is said of the hooks that this kernel's own table of symbols lacks: none since Linux 6.3."""
UNUSED = ABSENT or {STAND_IN: "not needed beside sock_recv_length"}
HOOKS = ALL_HOOKS - set(UNUSED)


def seen(monitor: Monitor) -> int:
    return sum(monitor.counters().seen)


def lost(monitor: Monitor) -> int:
    return sum(monitor.counters().lost)


def told(monitor: Monitor, before: int = 0) -> int:
    """Take what is told until that, what was told before, and the lost are all: a close is counted first."""
    count, end = before, time.monotonic() + COLLECT_LIMIT_S
    while True:
        count += len(decode_run(monitor.drain()))
        if count + lost(monitor) >= seen(monitor) or time.monotonic() > end:
            return count
        time.sleep(0.01)


def changed(programs: Programs, name: str, **members: object) -> Programs:
    """The same programs, one of them with other members."""
    return msgspec.structs.replace(
        programs,
        programs=tuple(
            msgspec.structs.replace(one, **members) if one.name == name else one for one in programs.programs
        ),
    )


@pytest.fixture
def alter(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the compiled programs come out otherwise: as on a kernel that this machine does not run."""
    programs = load.fitting_programs(cache)

    def altered(*names: str, **members: object) -> None:
        made = reduce(lambda before, name: changed(before, name, **members), names, programs)
        for module in (load, check):
            monkeypatch.setattr(module, "fitting_programs", lambda _: made)

    return altered


def test_every_close_is_told(cable: Any, cache: Path, collect: Collect) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        assert set(monitor.hooks) == HOOKS
        cable.left.run_app("storm.py", STORM)
        events = collect(monitor, 2 * STORM)
        assert monitor.drain() == b""
        assert monitor.waiting == 0
        assert (len(events), seen(monitor), lost(monitor)) == (2 * STORM, 2 * STORM, 0)
    assert [event.at_ns for event in events] == sorted(event.at_ns for event in events)


def test_a_kernel_without_the_io_hooks_is_still_watched(
    cable: Any,
    cache: Path,
    collect: Collect,
    alter: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As before Linux 6.3, Debian 12's own kernel among them."""
    alter(*OPTIONAL, hook_type=0)
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        assert set(monitor.hooks) == HOOKS - {shown(program) for program in OPTIONAL} | {STAND_IN}
        cable.left.run_app("storm.py", 3)
        events = collect(monitor, 6)
    assert all(event.pid for event in events)
    assert [f"no {shown(program)}: {cost}" in caplog.text for program, cost in OPTIONAL.items()] == [
        True,
        True,
    ]


WRITER = (
    "import socket, sys; l = socket.create_server(('127.0.0.1', 7300)); print('ready', flush=True)\n"
    "a, _ = l.accept(); a.sendall(b'x'); print('written', flush=True); sys.stdin.readline(); a.close()"
)
TAKER = (
    "import socket; c = socket.create_connection(('127.0.0.1', 7300)); c.recv(1)\n"
    "print('read', flush=True); c.recv(1)"
)


@pytest.mark.parametrize("io_hooks", [True, False])
def test_who_accepts_and_only_writes_is_named_late_without_the_io_hooks(
    io_hooks: bool, *, cable: Any, cache: Path, start: Start, collect: Collect, alter: Callable[..., None]
) -> None:
    """Before Linux 6.3: by the next look at the file tables, or by its close. Since then by the write."""
    if not io_hooks:
        alter(*OPTIONAL, hook_type=0)
    server = start(cable.left.code(WRITER), ready="ready")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        start(cable.left.code(TAKER), ready="read")
        assert server.stdout is not None
        assert server.stdout.readline() == "written\n"
        (held,) = (event for event in monitor.snapshot() if event.local_port == 7300 and event.remote_port)
        server.communicate("go\n")
        (closed,) = (event for event in collect(monitor, 2, port=7300) if event.local_port == 7300)
    written = OwnerEvidence.IO if io_hooks and not ABSENT else None
    assert (held.pid, held.owner_evidence) == (server.pid, written or OwnerEvidence.FILE_TABLE)
    assert (closed.pid, closed.owner_evidence) == (server.pid, written or OwnerEvidence.CLOSE)


READER_AND_WRITER = (
    "import os, socket; l = socket.create_server(('127.0.0.1', 7302)); print('ready', flush=True)\n"
    "a, _ = l.accept(); a.recv(1); child = os.fork()\n"
    "if not child: a.sendall(b'x'); a.recv(1); a.close(); os._exit(0)\n"
    "a.close(); print(child, flush=True); os.waitpid(child, 0)"
)
ASKER = (
    "import socket; c = socket.create_connection(('127.0.0.1', 7302)); c.sendall(b'x')\nc.recv(1); c.close()"
)


@pytest.mark.parametrize("io_hooks", [True, False])
def test_who_only_writes_takes_no_session_over_without_the_io_hooks(
    io_hooks: bool, *, cable: Any, cache: Path, start: Start, collect: Collect, alter: Callable[..., None]
) -> None:
    """Before Linux 6.3 it stays with who read the question. The end of file is no read either."""
    if not io_hooks:
        alter(*OPTIONAL, hook_type=0)
    server = start(cable.left.code(READER_AND_WRITER), ready="ready")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        start(cable.left.code(ASKER))
        assert server.stdout is not None
        child = int(server.stdout.readline())
        (answered,) = (event for event in collect(monitor, 2, port=7302) if event.local_port == 7302)
    owner = child if io_hooks and not ABSENT else server.pid
    assert (answered.pid, answered.owner_evidence) == (owner, OwnerEvidence.IO)


def test_a_raw_socket_is_no_session(cable: Any, cache: Path) -> None:
    code = "s = socket.socket(2, 3, 6); s.connect(('127.0.0.1', 80)); print('up', flush=True); input()"
    with (
        subprocess.Popen(
            cable.left.python("-c", f"import socket; {code}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as raw,
        open_monitor(netns=cable.left.inode, cache=cache) as monitor,
    ):
        assert raw.stdout is not None
        assert raw.stdout.readline() == "up\n"
        assert [event for event in monitor.snapshot() if event.pid == raw.pid] == []
        raw.communicate("\n")


def test_a_handshake_that_ends_on_two_cpus_at_once_is_one_session(
    cable: Any, cache: Path, start: Start, collect: Collect, built: Callable[[str], Path]
) -> None:
    """The kernel makes two sockets, counts both (PassiveOpens), and throws one away."""
    ends = ("203.0.113.1", "203.0.113.2", 7301)
    twice = start(cable.left.argv(built("twice"), "twice0", *ends), ready="ready")
    cable.left.run(["ip", "-n", cable.left.name, "address", "add", f"{ends[0]}/24", "dev", "twice0"])
    cable.left.run(["ip", "-n", cable.left.name, "link", "set", "twice0", "up"])
    assert twice.stdin is not None
    assert twice.stdout is not None
    sessions, before = 0, passive_opens(cable.left)
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        while passive_opens(cable.left) - before == sessions:
            twice.stdin.write("go\n")
            twice.stdin.flush()
            sessions += int(twice.stdout.readline())
        told = collect(monitor, sessions, port=7301)
        assert (len(told), seen(monitor), lost(monitor)) == (sessions, sessions, 0)


def passive_opens(namespace: Any) -> int:
    """Sockets made for handshakes that ended, by the kernel's count (RFC 4022)."""
    text = namespace.run(namespace.argv("cat", "/proc/net/snmp"))
    names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("PassiveOpens")])


def test_only_the_namespace_asked_for(cable: Any, cache: Path, collect: Collect) -> None:
    with (
        open_monitor(netns=cable.left.inode, cache=cache) as left,
        open_monitor(netns=cable.right.inode, cache=cache) as right,
    ):
        cable.left.run_app("storm.py", 3)
        cable.right.run_app("storm.py", 5)
        seen = [[event.netns for event in collect(*wanted)] for wanted in ((left, 6), (right, 10))]
    assert seen == [[cable.left.inode] * 6, [cable.right.inode] * 10]


def test_a_stalled_reader_loses_what_is_counted_as_lost(cable: Any, cache: Path) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache, ring_bytes=SMALL_RING) as monitor:
        cable.left.run_app("storm.py", STORM)
        wait_until_seen(monitor, 2 * STORM)
        assert monitor.waiting > 1 - 2 * RUN.size / SMALL_RING
        delivered = told(monitor)
        assert lost(monitor) > 0
        assert delivered + lost(monitor) == seen(monitor) == 2 * STORM
        # The ring works on after that, and wraps.
        for more in range(1, 5):
            cable.left.run_app("storm.py", 100)
            wait_until_seen(monitor, 2 * STORM + more * 200)
            delivered = told(monitor, delivered)
        assert delivered + lost(monitor) == seen(monitor) == 2 * STORM + 4 * 200
        assert len(monitor.counters().seen) == len(monitor.counters().lost) == possible_cpus()


def wait_until_seen(monitor: Monitor, count: int) -> None:
    """The last ends close a moment after the application let go."""
    end = time.monotonic() + COLLECT_LIMIT_S
    while seen(monitor) < count and time.monotonic() < end:
        time.sleep(0.01)


def test_what_the_kernel_left_out_is_what_it_says(cable: Any, cache: Path) -> None:
    """``recursion_misses``, against bpftool, which leaves out zeros."""
    before = objects_of_me()
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        cable.left.run_app("storm.py", STORM)
        wait_until_seen(monitor, 2 * STORM)
        ours = [number for kind, number in objects_of_me() - before if kind == "prog"]
        assert len(ours) == len(HOOKS)
        # Another test's traffic may add one between the two readings: these stand around bpftool's.
        first = monitor.counters().missed
        shown_by_tool = sum(shown_object("prog", number).get("recursion_misses", 0) for number in ours)
        assert first <= shown_by_tool <= monitor.counters().missed


def test_an_owner_is_known_after_its_end(cable: Any, cache: Path, collect: Collect) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        cable.left.run_app("storm.py", 3)
        (pid, started_ns) = {(event.pid, event.owner_started_ns) for event in collect(monitor, 6)}.pop()
        facts = monitor.owner(pid, started_ns)
        assert not Path(f"/proc/{pid}").exists()
        assert facts is not None
        assert (facts.uid, facts.executable) == (os.geteuid(), str(Path(sys.executable).resolve()))
        assert monitor.owner(pid, started_ns + 1) is None
        assert monitor.owner(0, 0) is None


def test_the_kernel_keeps_nothing_of_a_killed_process(cable: Any, cache: Path, start: Start) -> None:
    holder = start(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from ebpf.load import open_monitor\n"
            f"m = open_monitor(netns={cable.left.inode}, cache=Path({str(cache)!r}))\n"
            "print('ready', flush=True); sys.stdin.read()",
        ],
        ready="ready",
    )
    held = objects_of(holder.pid)
    assert {kind for kind, _ in held} == {"prog", "map", "link"}
    assert Counter(kind for kind, _ in held if kind != "map") == {"prog": len(HOOKS), "link": len(HOOKS)}
    assert all(exists(kind, number) for kind, number in held)

    holder.send_signal(signal.SIGKILL)
    holder.wait(LIMIT_S)

    # The kernel frees them a moment after the last descriptor: it tells nobody when.
    end = time.monotonic() + COLLECT_LIMIT_S
    while left := [one for one in held if exists(*one)]:
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.05)


def objects_of(pid: int) -> set[tuple[str, str]]:
    """Kind and number of every eBPF object that a process holds."""
    found: set[tuple[str, str]] = set()
    for path in list(Path(f"/proc/{pid}/fdinfo").iterdir()):
        with suppress(FileNotFoundError):  # the descriptor that the listing itself used
            found |= set(re.findall(r"^(prog|map|link)_id:\s*(\d+)$", path.read_text(), re.MULTILINE))
    return found


def exists(kind: str, number: str) -> bool:
    return bool(shown_object(kind, number))


def shown_object(kind: str, number: str) -> dict[str, Any]:
    """What bpftool says of an eBPF object; empty where there is none."""
    done = subprocess.run(
        ["bpftool", "-j", kind, "show", "id", number], capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return {} if done.returncode or "error" in found else found


def test_closing_gives_everything_back(cache: Path) -> None:
    before = objects_of_me()
    monitor = open_monitor(netns=None, cache=cache)
    assert objects_of_me() > before
    monitor.close()
    monitor.close()
    assert objects_of_me() == before


def objects_of_me() -> set[tuple[str, str]]:
    return objects_of(os.getpid())


@pytest.mark.parametrize("damage", ["cut", "flipped", "stale", "rubbish"])
def test_a_bad_cache_is_rebuilt(
    damage: str, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_monitor(netns=None, cache=cache).close()
    good = (cache / compiled.FILE_NAME).read_bytes()
    programs = compiled.read(cache / compiled.FILE_NAME)
    assert programs is not None
    path = tmp_path / compiled.FILE_NAME
    if damage == "stale":
        compiled.write(path, msgspec.structs.replace(programs, key="another kernel"))
    else:
        path.write_bytes(
            {"cut": good[:-1], "flipped": good[:-1] + bytes([good[-1] ^ 1]), "rubbish": b"x"}[damage]
        )

    with caplog.at_level(logging.INFO, logger="ebpf.load"):
        open_monitor(netns=None, cache=tmp_path).close()

    assert ("changed" if damage == "stale" else "damaged") in caplog.text
    assert path.read_bytes() == good


def test_a_good_cache_is_not_rebuilt(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_monitor(netns=None, cache=cache).close()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="ebpf.load"):
        open_monitor(netns=None, cache=cache).close()
    assert caplog.messages == list(ABSENT.values())


def test_programs_from_the_cache_need_no_type_to_be_looked_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking the kernel's type information apart is half of what a start would cost."""
    open_monitor(netns=None, cache=cache).close()
    monkeypatch.delattr(Btf, "__init__")
    open_monitor(netns=None, cache=cache).close()


def test_a_hook_that_the_kernel_lacks_is_named(cache: Path, alter: Callable[..., None]) -> None:
    alter("tp_btf__tcp_destroy_sock", hook_type=0)
    before = objects_of_me()
    with pytest.raises(HookAbsentError, match="this kernel has no tp_btf:tcp_destroy_sock") as refused:
        open_monitor(netns=None, cache=cache)
    assert refused.value.exit_code == 77
    assert refused.value.remedy
    assert objects_of_me() == before


def test_what_the_verifier_refuses_is_told_in_its_words(cache: Path, alter: Callable[..., None]) -> None:
    alter("tp_btf__tcp_destroy_sock", instructions=EXIT, map_references=())
    before = objects_of_me()
    with pytest.raises(LoadError, match=r"'tp_btf__tcp_destroy_sock'.*: R0 !read_ok") as refused:
        open_monitor(netns=None, cache=cache)
    assert refused.value.remedy
    assert objects_of_me() == before


def test_the_check_finds_everything_in_order_and_leaves_nothing(cache: Path) -> None:
    before = objects_of_me()
    found = {one.name: one for one in check.check(cache)}
    assert [one for one in found.values() if not one.ok] == []
    assert {name for name in found if ":" in name} == ALL_HOOKS
    assert all(found[hook].seen.startswith("attached: ") for hook in HOOKS)
    assert {hook: found[hook].seen for hook in UNUSED} == UNUSED
    assert found["delivery"].seen == "one session over loopback: both ends told, with their owner"
    assert objects_of_me() == before


def test_the_check_tries_every_hook_though_one_is_refused(cache: Path, alter: Callable[..., None]) -> None:
    alter("tp_btf__tcp_destroy_sock", instructions=EXIT, map_references=())
    found = {one.name: one for one in check.check(cache)}
    refused = found["tp_btf:tcp_destroy_sock"]
    assert not refused.ok
    assert refused.remedy
    assert "R0 !read_ok" in refused.seen
    assert [name for name, one in found.items() if not one.ok] == ["tp_btf:tcp_destroy_sock"]
    assert "delivery" not in found


def test_the_check_says_what_an_older_kernel_costs(cache: Path, alter: Callable[..., None]) -> None:
    alter(*OPTIONAL, hook_type=0)
    found = {one.name: one for one in check.check(cache)}
    assert all(one.ok for one in found.values()), found
    for program, cost in OPTIONAL.items():
        assert found[shown(program)].seen.endswith(cost)
    assert found[STAND_IN].seen.startswith("attached: ")


def test_a_field_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(LayoutError, match="struct tcp_sock has no field 'no_such_field'"):
        Btf(read_btf()).field("tcp_sock", "no_such_field")


def test_the_compilers_words_reach_the_caller() -> None:
    with pytest.raises(CompileError, match="writing the cache of compiled eBPF programs") as refused:
        load._run_compiler(Path("/proc/nowhere"))
    assert "folder" in refused.value.remedy
