"""What is left of root in a real agent process, and that it still works. No server runs: it keeps trying."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.credential import Credential
from agent.identity import load_or_create
from agent.local import SOCKET_NAME, ask
from agent.outbox import unseal
from agent.privileges import DYNAMIC_UIDS
from agent.standing import Standing, mask, standing
from server.authority import create
from tests.unit.server.enrolling import UNKNOWN_TOKEN

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "pathgrade"]
SERVER = "https://127.0.0.1:9"  # nobody listens there
LIMIT_S = 60 * int(os.environ.get("PATHGRADE_TEST_PATIENCE", "1"))
STORM = 101
MODES = {
    "ebpf": {"CAP_BPF", "CAP_PERFMON"},
    "inet_diag": {"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"},
    "off": set(),
}

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder as /var/lib is: root's, and everybody may pass."""
    with tempfile.TemporaryDirectory(prefix="pga3-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def configured(place: Path, cache: Path, *, data: Path | None = None, **changes: object) -> Path:
    values = {
        "server": SERVER,
        "name": "pacs",
        "site": "here",
        "token": UNKNOWN_TOKEN,
        "data": data or place / "data",
        "cache": cache,
    } | changes
    path = place / "agent.toml"
    path.write_text("".join(f'{key} = "{value}"\n' for key, value in values.items()) + "mesh = false\n")
    return path


def enrolled_before(data: Path) -> None:
    """Leave what an agent that was root all its life would have left."""
    data.mkdir(mode=0o700)
    authority, identity = create(), load_or_create(data, "pacs")
    certificate = authority.agent_certificate(
        "default", "pacs", identity.public_key, life=timedelta(days=1), now=datetime.now(UTC)
    )
    credential = Credential(
        server=SERVER,
        agent="pacs",
        tenant="default",
        server_key=bytes(32),
        authority=authority.der,
        certificate=certificate,
        got_s=time.time(),
        life_s=86_400,
    )
    (data / "credential.json").write_bytes(msgspec.json.encode(credential))
    (data / "credential.json").chmod(0o600)
    (data / "outbox").mkdir()
    (data / "outbox" / "old.refused").touch()


def until(so: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def threads_of(pid: int) -> list[Standing]:
    return [standing(task / "status") for task in Path(f"/proc/{pid}/task").iterdir()]


def started(start: Start, command: list[str], ready: Path) -> int:
    """Start an agent, and wait for a file that it makes once it is at work."""
    agent = start(command)
    until(lambda: ready.exists() or agent.poll() is not None, f"no {ready}")
    assert agent.poll() is None
    return agent.pid


@pytest.mark.parametrize("mode", MODES)
def test_root_becomes_nobody_with_just_what_the_mode_needs(
    cable: Any, cache: Path, place: Path, start: Start, mode: str
) -> None:
    data = place / "data"
    enrolled_before(data)
    config = configured(place, cache, passive=mode)
    if mode == "off":
        (data / "identity.pem").unlink()  # it has no socket, so it is at work once this is there again:
        (data / "credential.json").unlink()  # with another key, and waiting for the server to enrol at
    ready = data / ("identity.pem" if mode == "off" else SOCKET_NAME)
    pid = started(start, cable.left.argv(*COMMAND, "agent", "run", "--config", str(config)), ready)
    held = mask(MODES[mode])
    for now in threads_of(pid):
        assert len({*now.uids, *now.gids}) == 1
        assert now.uids[0] in DYNAMIC_UIDS  # no account "pathgrade" on a machine of tests
        assert (now.effective, now.permitted) == (held, held)
        assert now == now._replace(groups=(), inheritable=0, bounding=0, ambient=0, no_new_privs=True)
    owners = {path.stat(follow_symlinks=False).st_uid for path in (data, *data.rglob("*"))}
    assert owners == {threads_of(pid)[0].uids[0]}
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0  # not dumpable: out of reach of its own user


def test_it_still_sees_and_tells_every_session(cable: Any, cache: Path, place: Path, start: Start) -> None:
    data = place / "data"
    enrolled_before(data)
    config = configured(place, cache, passive="ebpf")
    pid = started(
        start, cable.left.argv(*COMMAND, "agent", "run", "--config", str(config)), data / SOCKET_NAME
    )
    port = 4242
    serving = f"import socket, time; s = socket.create_server(('127.0.0.1', {port}), backlog=9)"
    start(cable.left.code(f"{serving}; print('up', flush=True); time.sleep(300)"), ready="up")
    held = (
        f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); print('up', flush=True)"
    )
    start(cable.left.code(f"{held}; time.sleep(300)"), ready="up")
    cable.left.run_app("storm.py", STORM)

    def told(open_ones: bool) -> list[Any]:
        found = ask(data / SOCKET_NAME)
        return [session for session in found if session.open == open_ones and session.established]

    until(lambda: len(told(False)) == 2 * STORM, "the storm is not all told")
    assert {session.executable for session in told(False)} == {os.path.realpath(sys.executable)}
    (client,) = (session for session in told(True) if session.remote_port == port)
    assert client.process.startswith("python")
    until(lambda: list((data / "outbox").glob("*.batch")), "no window was handed over")
    batch = next((data / "outbox").glob("*.batch"))
    assert batch.stat().st_uid == threads_of(pid)[0].uids[0]
    assert unseal(batch.read_bytes())


def test_who_starts_it_as_a_user_keeps_only_what_it_needs(
    cable: Any, cache: Path, place: Path, start: Start
) -> None:
    """As systemd does with User= and AmbientCapabilities=."""
    data, shared = place / "data", place / "cache"
    enrolled_before(data)
    shared.mkdir(mode=0o700)
    for path in (data, shared, *data.rglob("*")):
        os.chown(path, 61_500, 61_500)
    given = "+bpf,+perfmon,+net_raw"
    user = ["setpriv", "--reuid=61500", "--regid=61500", "--clear-groups"]
    user += [f"--inh-caps={given}", f"--ambient-caps={given}"]
    config = configured(place, shared, passive="ebpf")
    command = cable.left.argv(*user, *COMMAND, "agent", "run", "--config", str(config))
    pid = started(start, command, data / SOCKET_NAME)
    for now in threads_of(pid):
        assert now.uids == (61_500,) * 4
        assert now.permitted == now.effective == mask(MODES["ebpf"])
        assert (now.inheritable, now.ambient, now.no_new_privs) == (0, 0, True)


def dropping(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run lines of Python in a process that gave root up as an agent with eBPF does."""
    head = ["import json, os, subprocess", "from agent import privileges"]
    gone = ["left = privileges.drop('ebpf', privileges.account('pathgrade'))"]
    code = "\n".join([*head, *lines]).replace("DROP", gone[0])
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def test_no_program_gives_anything_back(place: Path) -> None:
    setuid = place / "setuid"
    setuid.write_bytes(Path("/usr/bin/cat").read_bytes())
    setuid.chmod(0o4755)
    done = dropping("DROP", f"print(subprocess.check_output(['{setuid}', '/proc/self/status'], text=True))")
    (place / "status").write_text(done.stdout)
    now = standing(place / "status")
    assert now.uids[1] in DYNAMIC_UIDS
    assert (now.permitted, now.effective, now.inheritable, now.bounding) == (0, 0, 0, 0)


def test_root_cannot_be_had_back() -> None:
    done = dropping(
        "DROP",
        "for again in (os.setuid, os.setgid, lambda _: os.setgroups([0])):",
        "    try: again(0)",
        "    except PermissionError: print('refused')",
    )
    assert done.stdout.split() == ["refused"] * 3, done.stderr


def test_a_supervisors_death_signal_outlives_the_change_of_user() -> None:
    done = dropping(
        "import ctypes",
        "libc, number = ctypes.CDLL(None), ctypes.c_int()",
        "libc.prctl(1, 15)",
        "DROP",
        "libc.prctl(2, ctypes.byref(number)); print(number.value)",
    )
    assert done.stdout.split() == ["15"], done.stderr


def test_with_threads_it_refuses() -> None:
    done = dropping(
        "import threading, time",
        "threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
        "DROP",
    )
    assert "PrivilegesError" in done.stderr
    assert "threads" in done.stderr


@pytest.mark.parametrize("trick", ["symbolic link", "hard link"])
def test_a_file_of_roots_cannot_be_smuggled_in(cache: Path, place: Path, trick: str) -> None:
    data, target = place / "data", place / "shadow"
    data.mkdir()
    os.chown(data, 61_500, 61_500)
    target.write_text("root's")
    target.chmod(0o600)
    entry = data / "credential.json"
    entry.symlink_to(target) if trick == "symbolic link" else entry.hardlink_to(target)
    done = run(configured(place, cache, passive="off"))
    assert "not handed over name=credential.json" in done.stderr
    assert (target.stat().st_uid, stat.S_IMODE(target.stat().st_mode)) == (0, 0o600)


def test_a_folder_out_of_its_users_reach_is_one_error(cache: Path, place: Path) -> None:
    (place / "private").mkdir(mode=0o700)
    done = run(configured(place, cache, passive="off", data=place / "private" / "data"))
    assert done.returncode == 73
    assert f"cannot pass {place}/private\n  try: " in done.stderr


def test_root_that_may_not_become_anybody_is_refused(cache: Path, place: Path) -> None:
    config = configured(place, cache, passive="off")
    done = run(config, ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"])
    assert done.returncode == 77
    assert "lacks CAP_SETUID\n  try: " in done.stderr


def test_a_token_only_root_can_read_is_still_used(cache: Path, place: Path, start: Start) -> None:
    """The agent comes as far as asking the server: without a token it would end."""
    token = place / "token"
    token.touch(mode=0o600)
    token.write_text(UNKNOWN_TOKEN)
    config = configured(place, cache, passive="off")
    config.write_text(config.read_text().replace(f'token = "{UNKNOWN_TOKEN}"', f'token_file = "{token}"'))
    log = place / "log"
    with log.open("w") as out:
        agent = subprocess.Popen([*COMMAND, "agent", "run", "--config", str(config)], cwd=ROOT, stderr=out)
    try:
        until(lambda: "not enrolled" in log.read_text(), "it did not ask")
    finally:
        agent.terminate()
        assert agent.wait(LIMIT_S) == 0


def run(config: Path, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run an agent that is expected to end; without a token it ends at the enrolment."""
    config.write_text(config.read_text().replace(f'token = "{UNKNOWN_TOKEN}"\n', ""))
    done = subprocess.run(
        [*(before or []), *COMMAND, "agent", "run", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_check_says_who_the_agent_would_be(cache: Path, place: Path) -> None:
    config = configured(place, cache, passive="ebpf")
    command = [*COMMAND, "agent", "check", "--json", "--config", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["works"]
    agent = {one["name"]: one for one in found["agent"]}
    assert agent["agent's user"]["seen"].startswith("root becomes uid 6")
    assert all(one["ok"] for one in agent.values())
    assert not (place / "data").exists()
