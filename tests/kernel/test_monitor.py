"""The monitor in the kernel: what it keeps, what it loses, what it leaves behind, what it refuses."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ebpf import compiled, load
from ebpf.btf import Btf, read_btf
from ebpf.errors import AttachError, CompileError, LayoutError
from ebpf.events import SessionEvent
from ebpf.library import BpfLibrary
from ebpf.load import Monitor, open_monitor

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
Collect = Callable[..., list[SessionEvent]]
STORM = 401  # a prime, which no batch size hits by chance
SMALL_RING = 64 * 1024
HOOKS = {
    "bpf_iter:task_file",
    "raw_tracepoint:inet_sock_set_state",
    "raw_tracepoint:sock_recv_length",
    "raw_tracepoint:sock_send_length",
    "raw_tracepoint:tcp_destroy_sock",
}


def test_every_close_is_told(cable: Any, cache: Path, collect: Collect) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        assert set(monitor.hooks) == HOOKS
        cable.left.run_app("storm.py", STORM)
        events = collect(monitor, 2 * STORM)
        assert monitor.drain() == []
        assert (len(events), monitor.seen, monitor.lost) == (2 * STORM, 2 * STORM, 0)
    assert [event.at_ns for event in events] == sorted(event.at_ns for event in events)


def test_a_kernel_without_the_io_hooks_is_still_watched(
    cable: Any,
    cache: Path,
    collect: Collect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As before Linux 6.3, Debian 12's own kernel among them."""
    attach = BpfLibrary.attach

    def without_io(library: BpfLibrary, name: str, program: int) -> int:
        return attach(library, name.replace("sock_recv_length", "no_such_hook"), program)

    monkeypatch.setattr(BpfLibrary, "attach", without_io)
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        assert set(monitor.hooks) == HOOKS - {"raw_tracepoint:sock_recv_length"}
        cable.left.run_app("storm.py", 3)
        events = collect(monitor, 6)
    assert all(event.pid for event in events)
    assert "some accepted sessions will have no owner" in caplog.text


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


def test_only_the_namespace_asked_for(cable: Any, cache: Path, collect: Collect) -> None:
    with (
        open_monitor(netns=cable.left.inode, cache=cache) as left,
        open_monitor(netns=cable.right.inode, cache=cache) as right,
    ):
        cable.left.run_app("storm.py", 3)
        cable.right.run_app("storm.py", 5)
        seen = [[event.netns for event in collect(*wanted)] for wanted in ((left, 6), (right, 10))]
    assert seen == [[cable.left.inode] * 6, [cable.right.inode] * 10]


def test_a_stalled_reader_loses_what_is_counted_as_lost(
    cable: Any,
    cache: Path,
) -> None:
    with open_monitor(netns=cable.left.inode, cache=cache, ring_bytes=SMALL_RING) as monitor:
        cable.left.run_app("storm.py", STORM)
        wait_until_seen(monitor, 2 * STORM)
        told = len(monitor.drain())
        assert monitor.lost > 0
        assert told + monitor.lost == monitor.seen == 2 * STORM
        # The ring works on after that, and wraps.
        for more in range(1, 5):
            cable.left.run_app("storm.py", 100)
            wait_until_seen(monitor, 2 * STORM + more * 200)
            told += len(monitor.drain())
        assert told + monitor.lost == monitor.seen == 2 * STORM + 4 * 200


def wait_until_seen(monitor: Monitor, count: int) -> None:
    """The last ends close a moment after the application let go."""
    end = time.monotonic() + 5
    while monitor.seen < count and time.monotonic() < end:
        time.sleep(0.01)


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
    assert len([kind for kind, _ in held if kind == "prog"]) == len(HOOKS)
    assert all(exists(kind, number) for kind, number in held)

    holder.send_signal(signal.SIGKILL)
    holder.wait(10)

    # The kernel frees them a moment after the last descriptor: it tells nobody when.
    end = time.monotonic() + 10
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
    shown = subprocess.run(
        ["bpftool", "-j", kind, "show", "id", number], capture_output=True, text=True, check=False
    )
    return shown.returncode == 0 and "error" not in json.loads(shown.stdout or "{}")


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
    with caplog.at_level(logging.INFO, logger="ebpf.load"):
        open_monitor(netns=None, cache=cache).close()
    assert caplog.text == ""


def test_a_hook_that_the_kernel_lacks_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = load.fitting_programs(cache)
    old = "raw_tracepoint__sock_recv_length"
    renamed = tuple(
        msgspec.structs.replace(
            program, name="raw_tracepoint__no_such_hook" if program.name == old else program.name
        )
        for program in programs.programs
    )
    monkeypatch.setattr(
        load, "fitting_programs", lambda _: msgspec.structs.replace(programs, programs=renamed)
    )
    before = objects_of_me()
    with pytest.raises(AttachError, match="raw_tracepoint 'no_such_hook'") as refused:
        open_monitor(netns=None, cache=cache)
    assert refused.value.exit_code == 77
    assert refused.value.remedy
    assert objects_of_me() == before


def test_a_field_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(LayoutError, match="struct tcp_sock has no field 'no_such_field'"):
        Btf(read_btf()).field("tcp_sock", "no_such_field")


def test_the_compilers_words_reach_the_caller() -> None:
    with pytest.raises(CompileError, match="writing the cache of compiled eBPF programs") as refused:
        load._run_compiler(Path("/proc/nowhere"))
    assert "folder" in refused.value.remedy
