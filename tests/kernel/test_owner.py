"""What is told of the process that owns a session, beyond its name: also when it is gone."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ebpf.events import OwnerFacts, SessionEvent
from ebpf.load import open_monitor

pytestmark = pytest.mark.kernel

Start = Callable[..., subprocess.Popen[str]]
Collect = Callable[..., list[SessionEvent]]
Built = Callable[[str], Path]
PORT = 7200
NOBODY = 65534
ROOM = 255  # bytes that the kernel's side has for a path

SERVER = f"""
import socket
l = socket.create_server(('127.0.0.1', {PORT})); print('ready', flush=True)
while True:
    a, _ = l.accept(); a.recv(99); a.sendall(b'answer'); a.close()
"""


class Seen(NamedTuple):
    """A client's session, what the programs kept of its owner, and what /proc said while it lived."""

    event: SessionEvent
    facts: OwnerFacts
    exe: str
    started_ticks: int


@pytest.fixture
def see(cable: Any, cache: Path, start: Start, collect: Collect) -> Callable[[list[str]], Seen]:
    """Run a client that says "answer" and then waits for a line; look for its owner when it is gone."""
    server = start(cable.left.code(SERVER), ready="ready")

    def seen(argv: list[str]) -> Seen:
        assert server.poll() is None
        with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
            client = start(argv, ready="answer")
            exe = str(Path(f"/proc/{client.pid}/exe").readlink())
            ticks = started_ticks(client.pid)
            client.communicate("go\n")
            events = collect(monitor, 2, port=PORT)
            (event,) = (event for event in events if event.pid == client.pid)
            facts = monitor.owner(event.pid, event.owner_started_ns)
        assert not Path(f"/proc/{client.pid}").exists()
        assert facts is not None
        return Seen(event, facts, exe, ticks)

    return seen


def started_ticks(pid: int) -> int:
    """Start of a process since boot, in 1/100 s: field 22 of /proc/PID/stat (proc(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def client(program: Path | str, port: int = PORT) -> list[str]:
    return [str(program), "inline", "127.0.0.1", str(port), "pause"]


def test_a_process_that_is_gone(cable: Any, built: Built, see: Callable[[list[str]], Seen]) -> None:
    seen = see(cable.left.argv(*client(built("uring"))))
    assert seen.facts == OwnerFacts(uid=0, executable=str(built("uring")), cgroup=own_cgroup())
    assert seen.exe == seen.facts.executable
    assert seen.event.owner_started_ns // (10**9 // os.sysconf("SC_CLK_TCK")) == seen.started_ticks


def own_cgroup() -> str:
    """Last part of this process's cgroup in version 2; the children are in it, too."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line.rpartition("/")[2] for line in lines if line.startswith("0::"))


WAYS = {
    "its own mount": "mount -t tmpfs none {place}; mkdir -p {place}/opt/pacs; "
    "cp {program} {place}/opt/pacs/scp",
    "a bind mount": "mkdir -p {place}/opt {place}/src/pacs; cp {program} {place}/src/pacs/scp; "
    "mount --bind {place}/src {place}/opt",
    "a mount in a mount": "mount -t tmpfs none {place}; mkdir -p {place}/opt; "
    "mount -t tmpfs none {place}/opt; mkdir {place}/opt/pacs; cp {program} {place}/opt/pacs/scp",
    "an overlay": "mount -t tmpfs none {place}; cd {place}; mkdir -p low/pacs up work opt; "
    "cp {program} low/pacs/scp; mount -t overlay -o lowerdir=low,upperdir=up,workdir=work none opt; cd /",
    "a symbolic link": "mkdir -p {place}/src/pacs; cp {program} {place}/src/pacs/scp; ln -s src {place}/opt",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_executable_on_another_mount(
    way: str, cable: Any, built: Built, see: Callable[[list[str]], Seen], tmp_path: Path
) -> None:
    prepare = WAYS[way].format(place=tmp_path, program=built("uring"))
    run = " ".join(cable.left.argv(*client(tmp_path / "opt/pacs/scp")))
    seen = see(["unshare", "--mount", "sh", "-ec", f"{prepare}; exec {run}"])
    folder = "src" if way == "a symbolic link" else "opt"
    assert seen.facts.executable == str(tmp_path / folder / "pacs/scp") == seen.exe
    assert seen.event.process == "scp"


def test_an_executable_in_a_root_of_its_own(
    cable: Any, built: Built, see: Callable[[list[str]], Seen], tmp_path: Path
) -> None:
    """Told as the process itself sees it, as in a container."""
    copy_with_libraries(built("uring"), tmp_path / "usr/bin/scp", tmp_path)
    seen = see(cable.left.argv("chroot", tmp_path, *client("/usr/bin/scp")))
    assert seen.facts.executable == "/usr/bin/scp"
    assert seen.exe == str(tmp_path / "usr/bin/scp")


def copy_with_libraries(program: Path, to: Path, root: Path) -> None:
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [Path(word) for word in told.split() if word.startswith("/")]
    for source, target in [(program, to), *((one, root / str(one).lstrip("/")) for one in libraries)]:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        target.chmod(0o755)


def copy_to(program: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    copied = folder / "scp"
    copied.write_bytes(program.read_bytes())
    copied.chmod(0o755)
    return copied


def test_a_path_longer_than_there_is_room_for(
    cable: Any, built: Built, see: Callable[[list[str]], Seen], tmp_path: Path
) -> None:
    """Its end is missing."""
    program = copy_to(built("uring"), tmp_path / ("long-" * 40) / ("long-" * 40))
    told = see(cable.left.argv(*client(program))).facts.executable
    assert told == str(program)[:ROOM]


def test_a_path_of_more_folders_than_the_programs_walk(
    cable: Any, built: Built, see: Callable[[list[str]], Seen], tmp_path: Path
) -> None:
    """Its beginning is missing, which shows: it does not begin with a slash."""
    program = copy_to(built("uring"), tmp_path / "/".join("abcdefghijklmnopqrstuvwxyz"))
    told = see(cable.left.argv(*client(program))).facts.executable
    assert str(program).endswith("/" + told)
    assert told.endswith("/w/x/y/z/scp")
    assert not told.startswith("/")


def test_another_user(cable: Any, built: Built, see: Callable[[list[str]], Seen]) -> None:
    program = built("uring")
    for folder in program.parents:
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)  # pytest's own folders let no other user through
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    seen = see(cable.left.argv(*as_nobody, *client(program)))
    assert (seen.facts.uid, seen.facts.executable) == (NOBODY, str(program))


@pytest.fixture
def unit() -> Iterator[Path]:
    """Make a cgroup as systemd would for a service."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    top = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    assert top is not None, "no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified"
    slices = top / f"pgk-{os.getpid()}.slice"
    service = slices / "storescp.service"
    with ExitStack() as undo:
        for folder in (slices, service):
            folder.mkdir()
            undo.callback(folder.rmdir)
        yield service


def test_a_service(
    cable: Any, built: Built, start: Start, see: Callable[[list[str]], Seen], unit: Path
) -> None:
    run = " ".join(cable.left.argv(*client(built("uring"))))
    seen = see(["sh", "-ec", f"echo $$ > {unit}/cgroup.procs; exec {run}"])
    assert seen.facts.cgroup == "storescp.service"


def test_a_pid_that_is_used_again(
    cable: Any, cache: Path, start: Start, collect: Collect, built: Built
) -> None:
    start(cable.left.code(SERVER), ready="ready")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        pid = int(cable.left.run(cable.left.argv(built("same_pid"), "127.0.0.1", PORT)))
        events = [event for event in collect(monitor, 4, port=PORT) if event.remote_port == PORT]
        first, second = sorted(events, key=lambda event: event.owner_started_ns)
        facts = [monitor.owner(event.pid, event.owner_started_ns) for event in (first, second)]
    assert (first.pid, second.pid) == (pid, pid)
    assert (first.process, second.process) == ("first", "second")
    assert first.owner_started_ns < second.owner_started_ns
    assert facts == [None, OwnerFacts(uid=0, executable=str(built("same_pid")), cgroup=own_cgroup())]


def test_a_server_older_than_the_agent(cable: Any, cache: Path, start: Start) -> None:
    """Known from the first look at the file tables, before it does anything."""
    server = start(cable.left.code(SERVER), ready="ready")
    with open_monitor(netns=cable.left.inode, cache=cache) as monitor:
        (listener,) = (event for event in monitor.snapshot() if event.local_port == PORT)
        facts = monitor.owner(listener.pid, listener.owner_started_ns)
        assert monitor.owner(listener.pid, listener.owner_started_ns + 1) is None
    assert listener.pid == server.pid
    assert facts is not None
    assert facts.executable == str(Path(f"/proc/{server.pid}/exe").readlink())
