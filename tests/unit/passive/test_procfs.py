"""Who holds a socket: asked of this machine's own /proc, for processes that the tests start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.passive.owner import Owners
from agent.passive.procfs import Held, Process, holders, read_process, sessions_opened, still_holds
from ebpf.events import OwnerFacts


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


@pytest.fixture
def fork() -> Iterator[Callable[[], int]]:
    """Start children that only wait, and hold what this process holds."""
    with ExitStack() as undo:

        def forked() -> int:
            child = subprocess.Popen(
                [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
            )
            undo.callback(child.communicate)
            return child.pid

        yield forked


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def held_by(sock: socket.socket) -> dict[int, Held]:
    """Holder by pid."""
    return {held.process.pid: held for held in holders({inode(sock)}).held.get(inode(sock), [])}


def test_a_socket_is_its_process_s(sock: socket.socket) -> None:
    (held,) = held_by(sock).values()
    assert (held.process.pid, held.descriptor) == (os.getpid(), sock.fileno())
    assert still_holds(held)


def test_what_is_not_asked_for_is_not_found(sock: socket.socket) -> None:
    assert holders(set()).held == {}
    assert holders({inode(sock) + 2**32}).held == {}


def test_a_socket_that_is_closed_is_held_no_more(sock: socket.socket) -> None:
    (held,) = held_by(sock).values()
    sock.close()
    assert not still_holds(held)


def test_a_descriptor_that_became_another_socket_holds_no_more(sock: socket.socket) -> None:
    (held,) = held_by(sock).values()
    with socket.socket() as other:
        os.dup2(other.fileno(), sock.fileno())
        assert not still_holds(held)


def test_a_process_that_inherited_it_is_a_holder_too(sock: socket.socket, fork: Callable[[], int]) -> None:
    sock.set_inheritable(True)
    child = fork()
    found = held_by(sock)
    assert found.keys() == {os.getpid(), child}
    assert found[child].process.started_ns >= found[os.getpid()].process.started_ns


def test_a_process_that_ended_is_none() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    assert read_process(ended.pid) is None


def this_process() -> Process:
    process = read_process(os.getpid())
    assert process is not None
    return process


def test_a_process_is_told_as_the_other_sources_tell_it() -> None:
    process = this_process()
    since_boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert 0 < process.started_ns < since_boot_ns
    assert process.command.rstrip(b"\0") == Path("/proc/self/comm").read_bytes().rstrip(b"\n")
    assert process.facts.uid == os.getuid()
    assert process.facts.executable == str(Path(sys.executable).resolve())

    class Told:
        def owner(self, pid: int, started_ns: int) -> OwnerFacts | None:
            return process.facts if (pid, started_ns) == (os.getpid(), process.started_ns) else None

    assert Owners(Told()).of(os.getpid(), process.started_ns).executable == process.facts.executable


def made(proc: Path, *, command: bytes = b"getscu", uid: str = "Uid:\t1000\t0\t0\t0") -> Path:
    """A process 50 in a folder that looks like /proc."""
    folder = proc / "50"
    folder.mkdir()
    stat = b"50 (" + command + b") S " + b" ".join([b"1"] * 18) + b" 777 0"
    (folder / "stat").write_bytes(stat)
    (folder / "status").write_text(f"Name:\tx\n{uid}\nGid:\t0\n")
    (folder / "exe").symlink_to("/opt/getscu (deleted)")
    (folder / "cgroup").write_text("1:name=systemd:/x\n0::/system.slice/pacs.service\n")
    return folder


def test_the_real_user_the_control_group_and_a_program_that_was_replaced(tmp_path: Path) -> None:
    made(tmp_path)
    process = read_process(50, proc=tmp_path)
    assert process is not None
    assert process.facts == OwnerFacts(1000, "/opt/getscu", "pacs.service")
    assert process.started_ns == 777 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("command", [b"a) R 1", b"((", b"\xff\xfe", b"fifteen letters!", b""])
def test_any_command_can_be_read(tmp_path: Path, command: bytes) -> None:
    made(tmp_path, command=command)
    process = read_process(50, proc=tmp_path)
    assert process is not None
    assert process.command == command[:15].ljust(16, b"\0")


def test_a_name_cannot_pass_for_another_line(tmp_path: Path) -> None:
    """The kernel escapes newlines in a name, but nothing else that ends a line in Python."""
    folder = made(tmp_path)
    (folder / "status").write_bytes(b"Name:\tx\x0bUid:\t0\x1cUid:\t0\nUid:\t1000\t0\t0\t0\n")
    process = read_process(50, proc=tmp_path)
    assert process is not None
    assert process.facts.uid == 1000


def test_what_another_user_s_process_hides_is_empty(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "exe").unlink()
    (folder / "cgroup").unlink()
    process = read_process(50, proc=tmp_path)
    assert process is not None
    assert process.facts == OwnerFacts(1000, "", "")


@pytest.mark.parametrize("uid", ["", "Uid:", "Uid:\tx"])
def test_a_process_whose_user_cannot_be_read_is_none(tmp_path: Path, uid: str) -> None:
    made(tmp_path, uid=uid)
    assert read_process(50, proc=tmp_path) is None


def test_tables_that_may_not_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read every table: the refusal is made up here, and in tests/kernel the kernel refuses."""
    (made(tmp_path) / "fd").mkdir()

    def refuse(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr("agent.passive.procfs._listed", refuse)
    assert holders({1}, proc=tmp_path) == ({}, 1)


def test_the_kernel_counts_sessions_opened() -> None:
    before = sessions_opened()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(7):
            with socket.create_connection(listener.getsockname()), listener.accept()[0]:
                pass
    assert sessions_opened() - before >= 2 * 7  # others of this machine may open some too


@pytest.mark.parametrize("text", ["", "Tcp: ActiveOpens\n", "Tcp: ActiveOpens PassiveOpens\nTcp: 1\n"])
def test_counts_that_cannot_be_read_are_a_declared_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "thread-self/net").mkdir(parents=True)
    (tmp_path / "thread-self/net/snmp").write_text(text)
    with pytest.raises(ValueError, match=r".*"):
        sessions_opened(proc=tmp_path)


def test_a_zombie_holds_nothing(sock: socket.socket) -> None:
    """It has a folder, but its table is gone."""
    sock.set_inheritable(True)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert held_by(sock).keys() == {os.getpid()}
    child.communicate()
