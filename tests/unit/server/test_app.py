"""The server as a process: what stops it from starting, how it stops, and what a kill costs."""

import asyncio
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.identity import create
from analytics.batch import pack_batch
from analytics.measurement import Flow
from analytics.store.store import Store
from server import keepers
from server.app import serving
from server.errors import ListenError
from server.settings import Settings
from server.state import State, create_token
from tests.stopwatch import ended_after_s
from tests.unit.server import test_core as core_facts
from tests.unit.server.conftest import Site
from tests.unit.server.enrolling import Member, enrolment, member_of, nobodys

Run = Callable[[Callable[[Any], Any]], None]
COMMAND = [sys.executable, "-m", "pathgrade", "server", "run"]
ROOT = Path(__file__).parents[3]
LIMIT_S = 60


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(*arguments: str, before: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run a server that cannot start; its exit code and what it says."""
    done = subprocess.run(
        [*before, *COMMAND, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@contextmanager
def server_process(*arguments: str, pass_fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LIMIT_S)


def wait_ready(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if " ready " in line:
            return line
    raise AssertionError("the server ended before it was ready")


def test_an_occupied_port_is_one_error(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        code, said = refused("--data", str(tmp_path), "--agents", f"127.0.0.1:{port}")
    assert code == 69
    assert f"error: listen on 127.0.0.1:{port} for agents: Address already in use" in said
    assert "  try: " in said


def test_an_occupied_stun_port_is_one_error_and_everything_else_is_let_go(settings: Settings) -> None:
    with closing(socket.socket(type=socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        stun = f"127.0.0.1:{taken.getsockname()[1]}"
        occupied = Settings.load(data=settings.data, agents="127.0.0.1:0", report="127.0.0.1:0", stun=[stun])

        async def start() -> None:
            async with serving(occupied):
                pass

        with pytest.raises(ListenError, match="for STUN: Address already in use"):
            asyncio.run(start())
    State.open(settings.data).close()


def test_a_fault_of_the_upkeep_or_of_sealing_is_logged_and_the_server_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    called = {"seal": asyncio.Event(), "upkeep": asyncio.Event()}
    often = Settings.load(data=settings.data, agents="127.0.0.1:0", report="127.0.0.1:0", stun=[], seal_s=1)

    async def visit() -> None:
        loop = asyncio.get_running_loop()

        def fails(name: str) -> None:
            loop.call_soon_threadsafe(called[name].set)
            raise RuntimeError(f"a fault of {name}")

        for name in called:
            monkeypatch.setattr(Store, name, lambda store, name=name: fails(name))
        async with serving(often) as running:
            for _ in range(2):
                for event in called.values():
                    await asyncio.wait_for(event.wait(), LIMIT_S)
                    event.clear()
            async with httpx.AsyncClient() as reader:
                assert (await reader.get(f"http://{running.report}/v1/status")).status_code == 200

    asyncio.run(visit())
    assert "a fault of seal" in caplog.text
    assert "a fault of upkeep" in caplog.text


def test_many_rows_are_sealed_before_the_minute_is_over(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "SEAL_FROM_BYTES", 0)

    async def scenario(site: Site) -> None:
        reply = await site.enrol("a", "here")
        told = core_facts.reading("a", "b", 300, ended_us=time.time_ns() // 1_000)
        body = pack_batch(agent="a", boot="6f1c0a2b9d3e4f50", batch=0, tables={"readings": [told]})
        assert (await site.send(reply, body)).status_code == 200
        for _ in range(20 * LIMIT_S):
            if list(site.settings.data.glob("parquet/tenant=default/readings/*/*.parquet")):
                return
            await asyncio.sleep(0.05)
        pytest.fail("nothing is sealed")

    with_server(scenario)


def test_who_listens_for_changes_is_let_go_when_the_server_stops(settings: Settings) -> None:
    """A stream that is cut off has no last chunk, which httpx says; this one has."""

    async def visit() -> list[str]:
        async with httpx.AsyncClient(timeout=LIMIT_S, trust_env=False) as reader:
            async with serving(settings) as running:
                asked = reader.build_request("GET", f"http://{running.report}/v1/events")
                stream = await reader.send(asked, stream=True)
                lines = stream.aiter_lines()
                first = [await anext(lines) for _ in range(3)]
            return [*first, *[line async for line in lines]]

    told = asyncio.run(visit())
    assert told[0] == "retry: 3000"
    assert told[2].startswith("id: ")


def test_a_read_only_data_folder_is_one_error(tmp_path: Path) -> None:
    """Root ignores modes, so the folder is a read-only file system of a mount namespace of its own."""
    mounted = f'mount -t tmpfs -o ro,size=1m none {tmp_path} && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mounted, "sh")
    code, said = refused("--data", str(tmp_path), "--agents", "127.0.0.1:0", before=before)
    assert code == 74
    assert f"error: use {tmp_path}: Read-only file system" in said
    assert "  try: " in said
    token = ["token", "--data", str(tmp_path)]
    done = subprocess.run(
        [*before, *COMMAND[:-1], *token],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 74
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--agents", "nonsense"], 78, "agents: 'nonsense' is not HOST:PORT"),
        (["--turn", "turn:192.0.2.1:3478"], 78, "without --turn-secret-file"),
        (["--turn", "turn:192.0.2.1:3478", "--turn-secret-file", "/nowhere"], 78, "/nowhere: No such file"),
        (["--report-fd", "99"], 69, "take descriptor 99 for the report: Bad file descriptor"),
        (["--agents", "192.0.2.1:0"], 69, "for agents: Cannot assign requested address"),
    ],
)
def test_a_setting_that_does_not_hold_is_one_error(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    seen, said = refused("--data", str(tmp_path), "--agents", "127.0.0.1:0", *arguments)
    assert seen == code
    assert words in said
    assert "  try: " in said


def test_two_servers_do_not_share_a_data_folder(settings: Settings) -> None:
    State.open(settings.data).close()
    with closing(State.open(settings.data)):
        code, said = refused("--data", str(settings.data), "--agents", "127.0.0.1:0")
    assert code == 75
    assert "another pathgrade server holds it" in said


def test_sigterm_seals_what_was_taken_and_ends_in_time(tmp_path: Path) -> None:
    """The report comes over a socket that was handed over, as the lab does it."""
    token = create_token(tmp_path, 1, 60)
    with closing(socket.create_server(("127.0.0.1", 0))) as report:
        fd = report.fileno()
        arguments = ["--data", str(tmp_path), "--agents", "127.0.0.1:0", "--stun", "127.0.0.1:0"]
        with server_process(*arguments, "--report-fd", str(fd), pass_fds=(fd,)) as process:
            agents = wait_ready(process).split("agents=")[1].split()[0]
            member = enrol(tmp_path, agents, token)
            with client_of(agents, member.context) as client:
                assert post(client, 0)
                where = f"http://127.0.0.1:{report.getsockname()[1]}/v1/status"
                assert httpx.get(where, trust_env=False).json()["rows"]["flows"] == 1
                process.send_signal(signal.SIGTERM)
                assert ended_after_s(process, LIMIT_S) < 5
                assert process.returncode == 0
    assert list((tmp_path / "parquet/tenant=default/flows").rglob("*.parquet"))
    assert not list((tmp_path / "spool").glob("*.spool"))


def test_kill_9_during_uploads_loses_nothing_acknowledged_and_doubles_nothing(tmp_path: Path) -> None:
    """The sender does as the agent: it keeps a batch until it is acknowledged, and sends it again."""
    token = create_token(tmp_path, 1, 60)
    port = free_port()
    arguments = ["--data", str(tmp_path), "--agents", f"127.0.0.1:{port}", "--report", "127.0.0.1:0"]
    batches = range(96)
    acknowledged: set[int] = set()
    with client_of(f"127.0.0.1:{port}", context := nobodys(tmp_path)) as client:
        for kill_after in (20, 60):
            with server_process(*arguments, "--stun", "127.0.0.1:0") as process:
                wait_ready(process)
                if kill_after == 20:
                    member = enrol(tmp_path, f"127.0.0.1:{port}", token)
                    member.identity.identity_key.present(context, member.reply.certificate)
                send_and_kill(
                    client,
                    sorted(set(batches) - acknowledged),
                    acknowledged,
                    process=process,
                    kill_after=kill_after,
                )
            assert kill_after <= len(acknowledged) < len(batches)
        with server_process(*arguments, "--stun", "127.0.0.1:0") as process:
            report = wait_ready(process).split("report=")[1].split()[0]
            new = {number for number in batches if post(client, number)}
            rows = httpx.get(f"http://{report}/v1/status", trust_env=False).json()["rows"]
    assert not new & acknowledged
    assert rows["flows"] == len(batches)


def client_of(at: str, context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(base_url=f"https://{at}", trust_env=False, verify=context)


def enrol(data: Path, at: str, token: str) -> Member:
    identity = create("pacs")
    with client_of(at, nobodys(data)) as client:
        answer = client.post("/v1/enrol", json=enrolment(token, "pacs", identity=identity))
    assert answer.status_code == 200, answer.text
    return member_of(data, identity, answer.content)


def post(client: httpx.Client, number: int) -> bool:
    """Send one batch; True if the server had not kept it before."""
    row = Flow(tenant="default", agent="pacs", window_us=time.time_ns() // 1000, window_length_us=1)
    body = pack_batch(agent="pacs", boot="6f1c0a2b9d3e4f50", batch=number, tables={"flows": [row]})
    answer = client.post("/v1/batches", content=body)
    assert answer.status_code == 200, answer.text
    return not answer.json()["duplicate"]


def send_and_kill(
    client: httpx.Client,
    waiting: list[int],
    acknowledged: set[int],
    *,
    process: subprocess.Popen[str],
    kill_after: int,
) -> None:
    """Send eight at a time, and kill the server while the rest is on its way."""

    def send(number: int) -> None:
        with suppress(httpx.TransportError):
            post(client, number)
            acknowledged.add(number)
        if len(acknowledged) >= kill_after:
            process.kill()

    with ThreadPoolExecutor(8) as senders:
        list(senders.map(send, waiting))
