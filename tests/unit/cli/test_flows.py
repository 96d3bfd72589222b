"""``pathgrade flows`` on an agent's host: a process of its own against a real socket."""

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import local, terminal
from agent.commands.flows import Sort
from analytics.measurement import Direction, Session
from tests.unit.analytics.tcp_sessions import NEAR, session

ROOT = Path(__file__).parents[3]
V6 = "2001:db8:1234:5678:9abc:def0:1234:5678"
EVIL = "a\x1b]0;\x07[/b]"
PLAIN_EVIL = "a\N{REPLACEMENT CHARACTER}]0;\N{REPLACEMENT CHARACTER}[/b]"
NONE = terminal.NOTHING
ORTHANC: dict[str, Any] = NEAR | {
    "id": "1f77e0a1b2",
    "open": True,
    "state": "CLOSE_WAIT",
    "process": "Orthanc",
    "pid": 77,
    "direction": Direction.IN,
    "local_port": 4242,
    "remote_port": 51_000,
    "remote_address": V6,
    "bytes_sent": 52_600_000,
    "segments_retransmitted": 29,
}
KEPT = [
    session(id="1f00c2ab94", duration_us=3_000_000, busy_us=2_900_000),
    session(**ORTHANC),
    session(id="2c00000000", process="pathgrade", pid=9, remote_address="203.0.113.9"),
    session(id="3d00000000", process=EVIL, executable=EVIL, pid=None, duration_us=None, srtt_us=None),
]


def kept(process: str | None, remote: str | None, limit: int) -> list[Session]:
    fitting = (one for one in KEPT if process in (None, one.process) and remote in (None, one.remote_address))
    return list(fitting)[:limit]


@contextmanager
def agent_at(data: Path) -> Iterator[None]:
    """Serve the socket from a thread, as an agent does."""
    ready = threading.Event()
    ended = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with local.serve(data / local.SOCKET_NAME, kept):
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("agent")
    with agent_at(folder):
        yield folder


def environment(**more: str) -> dict[str, str]:
    known = ("COLUMNS", "LINES", "PATHGRADE_URL", "PATHGRADE_AGENT_DATA")
    return {key: value for key, value in os.environ.items() if key not in known} | more


def flows(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pathgrade", "flows", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def words(line: str) -> str:
    return " ".join(line.split())


def test_in_a_pipe_every_column_once(data: Path) -> None:
    done = flows("--data", str(data))
    lines = [words(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0, done.stderr
    assert lines == [
        "process pid remote port state lasted srtt least resent in out held up by id",
        "storescu 4121 → 198.51.100.7 4242 closed 3.0 s 260 ms 259 ms 0 % 3.0 kB 4.0 MB network 1f00c2ab94",
        f"Orthanc 77 ← {V6} 4242 close-wait 14 s 0.34 ms 0.30 ms 1.0 % 3.0 kB 52.6 MB network 1f77e0a1b2",
        f"{PLAIN_EVIL} {NONE} → 198.51.100.7 4242 closed {NONE} {NONE} 259 ms 0 % 3.0 kB 4.0 MB network"
        " 3d00000000",
        "3 sessions; pathgrade flows show ID tells one",
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 140])
def test_every_width_keeps_its_lines_and_numbers(data: Path, columns: int) -> None:
    done = flows("--data", str(data), COLUMNS=str(columns))
    lines = done.stdout.splitlines()

    assert max(map(len, lines)) <= columns
    assert [line.split()[0] for line in lines[:3]] == ["process", "storescu", "Orthanc"]
    assert " 260 ms" in lines[1]
    assert "0.34 ms" in lines[2]  # the address gives way, not the numbers
    assert columns < 80 or lines[2].endswith("1f77e0a1b2")


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], ["1f00c2ab94", "1f77e0a1b2", "3d00000000"]),
        (["--own"], ["1f00c2ab94", "1f77e0a1b2", "2c00000000", "3d00000000"]),
        (["--process", "pathgrade"], ["2c00000000"]),
        (["--remote", V6], ["1f77e0a1b2"]),
        (["--limit", "1"], ["1f00c2ab94"]),
        (["--sort", "bytes"], ["1f77e0a1b2", "1f00c2ab94", "3d00000000"]),
        (["--sort", "loss", "--limit", "1"], ["1f77e0a1b2"]),
        (["--sort", "rtt", "--limit", "1"], ["1f00c2ab94"]),
        (["--sort", "age"], ["1f77e0a1b2", "1f00c2ab94", "3d00000000"]),
        (["--sort", "process"], ["1f77e0a1b2", "3d00000000", "1f00c2ab94"]),
    ],
    ids=" ".join,
)
def test_json_filters_and_sorts(data: Path, arguments: list[str], ids: list[str]) -> None:
    done = flows("--json", *arguments, PATHGRADE_AGENT_DATA=str(data))

    assert [row["id"] for row in json.loads(done.stdout)] == ids, done.stderr


def test_every_order_of_the_command_is_one_of_the_table() -> None:
    assert {sort.value for sort in Sort} == set(terminal.SORTS)


@pytest.mark.parametrize("where", ["before", "after", "environment"])
def test_show_tells_one_session(data: Path, where: str) -> None:
    before = ["--data", str(data)] if where == "before" else []
    after = ["--data", str(data)] if where == "after" else []
    variables = {"PATHGRADE_AGENT_DATA": str(data)} if where == "environment" else {}
    lines = flows(*before, "show", "1f00", *after, **variables).stdout.splitlines()

    assert lines[0] == "storescu[4121] → 198.51.100.7 port 4242, closed after 3.0 s"
    assert words(" ".join(lines[1:3])).startswith(
        "Held up by the network: 100 % of the 2.9 s that it had data to send it waited for acknowledgements,"
    )
    assert lines[-1] == "Session 1f00c2ab94. Rule tcp.distance.v1, rules 2026-11-24."


def test_show_as_json_has_the_session_and_its_rules(data: Path) -> None:
    told = json.loads(flows("--data", str(data), "show", "1F77", "--json").stdout)

    assert told["session"]["id"] == told["life"]["session"] == "1f77e0a1b2"
    assert (told["life"]["verdict"], told["life"]["rule"]) == ("network", "tcp.loss.v1")
    assert all(sentence["rule"].startswith("tcp.") for sentence in told["life"]["sentences"])


def test_names_reach_the_terminal_as_text_only(data: Path) -> None:
    shown = flows("--data", str(data), "show", "3d").stdout

    assert f"program {PLAIN_EVIL}" in words(shown)
    assert [char for char in shown if not char.isprintable() and char != "\n"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "error", "ways"),
    [
        (["show", "ff"], 65, "error: no session has an id that begins with 'ff'", 2),
        (["show", "1f"], 65, "error: '1f' begins several ids", 1),
        (["--process", "x" * 65], 65, "error: ask the agent at ", 1),
        (
            ["--data", "/nonexistent"],
            69,
            "error: no agent of this host answers at /nonexistent/agent.sock: ",
            3,
        ),
    ],
)
def test_mistakes(data: Path, arguments: list[str], code: int, error: str, ways: int) -> None:
    done = flows(*arguments, PATHGRADE_AGENT_DATA=str(data))
    first, *rest = done.stderr.splitlines()

    assert (done.returncode, done.stdout) == (code, "")
    assert first.startswith(error)
    assert [line[:7] for line in rest] == ["  try: ", *["  or:  "] * (ways - 1)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sort", "age", "--agent", "x"], "the server's rows are newest first"),
        (["--data", "x", "--agent", "x"], "one is of this host, the other of the server"),
        (["--agent", "x", "show", "1f"], "sessions stay on their host: run show there"),
        (["--sort", "luck"], "is not one of"),
        (["list"], "No such command 'list'"),
    ],
)
def test_options_that_exclude_each_other(arguments: list[str], said: str) -> None:
    done = flows(*arguments)

    assert done.returncode == 2
    assert said in words(done.stderr)


def test_the_server_is_asked_where_it_is_named() -> None:
    for arguments, variables in (
        (["--agent", "pacs", "--url", "http://127.0.0.1:9"], {}),
        ([], {"PATHGRADE_URL": "http://127.0.0.1:9"}),
    ):
        done = flows(*arguments, **variables)

        assert done.returncode == 69
        assert done.stderr.startswith("error: GET http://127.0.0.1:9/v1/flows")


def test_the_command_line_wins_over_the_environment(data: Path) -> None:
    done = flows("--data", str(data), "--json", PATHGRADE_URL="http://127.0.0.1:9")

    assert len(json.loads(done.stdout)) == 3


def test_a_terminal_is_refreshed_until_ctrl_c(data: Path) -> None:
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 90, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "pathgrade", "flows", "--data", str(data)],
        cwd=ROOT,
        env=environment(TERM="xterm"),
        stdin=end,
        stdout=end,
        stderr=subprocess.PIPE,
        # Who runs the tests in a script's background ignores it, and so would all of their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one thread here
    ) as live:
        os.close(end)
        shown = b""
        while shown.count(b"sessions; pathgrade flows show ID") < 2:
            shown += os.read(screen, 65_536)
        live.send_signal(signal.SIGINT)
        errors = live.communicate(timeout=60)[1]
    os.close(screen)

    assert (live.returncode, errors) == (0, b"")
    assert b"2 sessions; " in shown  # as many as there is room for
