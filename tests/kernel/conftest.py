"""Two network namespaces, joined by a bad cable, for tests of the eBPF programs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest

from ebpf.events import SessionEvent, decode_run
from ebpf.load import Monitor

APPS = Path(__file__).parent / "apps"
PATIENCE = int(os.environ.get("PATHGRADE_TEST_PATIENCE", "1"))  # more than 1 where the machine is emulated
LIMIT_S = 90 * PATIENCE
COLLECT_LIMIT_S = 30 * PATIENCE
LOSS_PER_MILLE = 30


@dataclass(frozen=True)
class Namespace:
    """A network namespace of this test run."""

    name: str
    v4: str
    v6: str

    @property
    def inode(self) -> int:
        return Path(f"/run/netns/{self.name}").stat().st_ino

    def app(self, name: str, *arguments: str | int) -> list[str]:
        """Command line of one of the programs in ``apps``."""
        return self.python(APPS / name, *arguments)

    def code(self, text: str) -> list[str]:
        """Command line that runs Python code."""
        return self.python("-c", text)

    def run(self, argv: list[str]) -> str:
        """Run a command line of this namespace to its good end; give what it printed."""
        return run(argv)

    def run_app(self, name: str, *arguments: str | int) -> str:
        return run(self.app(name, *arguments))

    def run_code(self, text: str) -> str:
        return run(self.code(text))

    def python(self, *arguments: str | int | Path) -> list[str]:
        return self.argv(sys.executable, *arguments)

    def argv(self, *command: str | int | Path) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, command)]


def run(argv: list[str]) -> str:
    """Run a command to its good end; give what it printed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout


@dataclass(frozen=True)
class Cable:
    """Two namespaces and what joins them."""

    left: Namespace
    right: Namespace


@pytest.fixture(scope="session", autouse=True)
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.fail("the kernel tests need root: they load eBPF programs and make network namespaces")


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """End a test that waits for something that does not come: no wait in a test needs a limit of its own."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One compilation serves all tests."""
    return tmp_path_factory.mktemp("ebpf-cache")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compile a C program of ``apps``, once; give where it is."""
    folder = tmp_path_factory.mktemp("apps")
    folder.chmod(0o755)

    def compiled(name: str) -> Path:
        program = folder / name
        if not program.exists():
            run(["cc", "-O2", "-o", str(program), str(APPS / f"{name}.c")])
        return program

    return compiled


@pytest.fixture(scope="session")
def cable() -> Iterator[Cable]:
    """Make the namespaces, without loss."""
    left = Namespace(f"pgk-{os.getpid()}-l", "192.0.2.1", "2001:db8::1")
    right = Namespace(f"pgk-{os.getpid()}-r", "192.0.2.2", "2001:db8::2")
    with ExitStack() as undo:
        for namespace in (left, right):
            run(["ip", "netns", "add", namespace.name])
            undo.callback(run, ["ip", "netns", "delete", namespace.name])
        run(f"ip -n {left.name} link add veth0 type veth peer veth0 netns {right.name}".split())
        for namespace in (left, right):
            in_it = ("ip", "-n", namespace.name)
            run([*in_it, "link", "set", "lo", "up"])
            run([*in_it, "link", "set", "veth0", "up"])
            run([*in_it, "address", "add", f"{namespace.v4}/24", "dev", "veth0"])
            run([*in_it, "address", "add", f"{namespace.v6}/64", "dev", "veth0", "nodad"])
        yield Cable(left, right)


@pytest.fixture
def lossy(cable: Cable) -> Iterator[Cable]:
    """Drop packets at random at both ends of the cable, for one test."""
    rule = f'iifname "veth0" numgen random mod 1000 < {LOSS_PER_MILLE} counter drop'
    table = f"table inet loss {{ chain in {{ type filter hook prerouting priority 0; {rule}; }}; }}"
    for namespace in (cable.left, cable.right):
        run(namespace.argv("nft", table))
    yield cable
    for namespace in (cable.left, cable.right):
        run(namespace.argv("nft", "delete", "table", "inet", "loss"))


@pytest.fixture
def jumbled(cable: Cable, start: Callable[..., subprocess.Popen[str]]) -> Cable:
    """Join the namespaces by a second cable, which is slow and lets packets overtake each other."""
    left = Namespace(cable.left.name, "198.51.100.1", "2001:db8:1::1")
    right = Namespace(cable.right.name, "198.51.100.2", "2001:db8:1::2")
    start(left.app("jumble.py", "jumble0", "jumble1"), ready="ready")
    run(["ip", "-n", left.name, "link", "set", "jumble1", "netns", right.name])
    for namespace, device in ((left, "jumble0"), (right, "jumble1")):
        in_it = ("ip", "-n", namespace.name)
        run([*in_it, "address", "add", f"{namespace.v4}/24", "dev", device])
        run([*in_it, "address", "add", f"{namespace.v6}/64", "dev", device, "nodad"])
        run([*in_it, "link", "set", device, "up"])
    return Cable(left, right)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that end with the test; wait for their first line where asked to."""
    with ExitStack() as undo:

        def started(argv: list[str], *, ready: str | None = None) -> subprocess.Popen[str]:
            # A group, to end what it forks; no session of its own: the kernel shares the CPUs out among
            # sessions (autogroup), and a storm would have as much as the test and all that runs beside it.
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
            )
            undo.callback(end, process)
            if ready is not None:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == ready
            return process

        yield started


def end(process: subprocess.Popen[str]) -> None:
    """End a process and what it forked: they are a group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=LIMIT_S)


@pytest.fixture
def collect(cable: Cable) -> Callable[..., list[SessionEvent]]:
    """Wait until that many sessions of the two namespaces closed (with a port, if one is given); give them.

    The ends of a session close one after the other, a moment after the applications let go, and tell nobody.
    A repeated handshake can make a second socket, thrown away before it is established: only those that were
    established are given, unless the others are asked for.
    """
    ours = {cable.left.inode, cable.right.inode}

    def collected(
        monitor: Monitor, count: int, *, port: int | None = None, established: int = 1
    ) -> list[SessionEvent]:
        events: list[SessionEvent] = []
        end = time.monotonic() + COLLECT_LIMIT_S
        while len(events) < count and time.monotonic() < end:
            drained = [event for event in decode_run(monitor.drain()) if event.netns in ours]
            told = [e for e in drained if port in {None, e.local_port, e.remote_port}]
            events += [event for event in told if event.established == established]
            time.sleep(0.01)
        return events

    return collected
