"""A whole agent against a real server on loopback, without mesh and eBPF (their own tests have those)."""

import asyncio
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent import run
from agent.credential import FILE_NAME
from agent.errors import ConfigError, CredentialRefusedError, EnrolmentError, FolderError
from agent.host import Host
from agent.outbox import Outbox
from analytics.channel import EnrolToken
from analytics.measurement import Flow
from analytics.wire import Dependence, NatReport
from tests.stopwatch import ended_after_s
from tests.unit.server.enrolling import UNKNOWN_TOKEN

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "pathgrade"]
LIMIT_S = 60


def fill(folder: Path, batches: int, agent: str = "pacs") -> None:
    """Leave batches behind, as an earlier life of the agent would."""
    outbox = Outbox(folder / agent / "outbox", agent)
    for window in range(batches):
        outbox.add(
            "flows",
            [
                Flow(
                    tenant="default",
                    agent=agent,
                    window_us=time.time_ns() // 1000 + window,
                    window_length_us=1,
                )
            ],
        )
        outbox.flush()


def test_it_enrols_connects_and_sends_what_waits(place: Any, agent_of: Any, until: Any, online: Any) -> None:
    async def scenario() -> None:
        fill(place.folder, 3)
        async with place.serving() as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: online(server, "pacs"), life)
            await until(lambda: server.core.status().rows["flows"] == 3, life)
            await until(lambda: not list((place.folder / "pacs" / "outbox").iterdir()), life)
        credential = place.folder / "pacs" / FILE_NAME
        assert credential.stat().st_mode & 0o077 == 0
        async with place.serving() as server, agent_of(place.config()) as life:  # no token any more
            await until(lambda: online(server, "pacs"), life)

    asyncio.run(scenario())


def test_it_waits_for_a_server_that_is_not_there_and_says_so_once(
    place: Any, agent_of: Any, until: Any, online: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        token = place.token()
        async with agent_of(place.config(token=token)) as life:
            await until(lambda: "not enrolled" in caplog.text, life)
            await asyncio.sleep(2)  # several attempts
            assert caplog.text.count("not enrolled") == 1
            for _ in range(2):
                async with place.serving() as server:
                    await until(lambda: online(server, "pacs"), life)
            assert caplog.text.count("enrolled server=") == 2  # "not enrolled ..." and "enrolled ..."

    asyncio.run(scenario())


def test_a_refused_token_ends_it_with_a_remedy(place: Any, life_of: Any) -> None:
    async def scenario() -> None:
        async with place.serving():
            unknown = EnrolToken("never-made", EnrolToken.parse(place.token()).pin)
            for config, words in (
                (place.config(token=str(unknown)), "unknown token"),
                (place.config(token="pg-of-before"), "not a token"),
                (place.config(), "no token"),
            ):
                with pytest.raises(EnrolmentError, match=words) as caught:
                    await life_of(config)
                assert caught.value.remedy
                assert caught.value.exit_code == 77

    asyncio.run(scenario())


def test_a_name_that_is_taken_ends_it_with_a_remedy(
    place: Any, agent_of: Any, life_of: Any, until: Any, online: Any
) -> None:
    async def scenario() -> None:
        async with place.serving() as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: online(server, "pacs"), life)
            impostor = place.config(token=place.token(), data=place.folder / "impostor")
            with pytest.raises(EnrolmentError, match="'pacs' belongs to another agent") as caught:
                await life_of(impostor)
            assert caught.value.remedy

    asyncio.run(scenario())


def test_a_server_that_forgot_it_is_enrolled_at_again(
    place: Any, agent_of: Any, life_of: Any, until: Any, online: Any
) -> None:
    async def scenario() -> None:
        async with place.serving() as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: online(server, "pacs"), life)
        for path in (place.data).glob("state.sqlite*"):
            path.unlink()
        fill(place.folder, 1)
        async with place.serving() as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: online(server, "pacs"), life)
            await until(lambda: server.core.status().rows["flows"] == 1, life)
        (place.data / "state.sqlite").unlink()
        async with place.serving():
            with pytest.raises(EnrolmentError, match="no token"):
                await life_of(place.config())

    asyncio.run(scenario())


def test_a_server_that_refuses_it_again_and_again_resets_nothing_that_the_host_counts(
    place: Any, life_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: list[Host] = []

    class Refused:
        def __init__(self, host: Host, _credential: object) -> None:
            lives.append(host)

        async def work(self) -> None:
            raise CredentialRefusedError("no") if len(lives) < 3 else ConfigError("enough")

    async def at_once(*_: object) -> None:
        pass

    for name, in_place in (("Agent", Refused), ("enrolled", at_once), ("ask_again", at_once)):
        monkeypatch.setattr(run, name, in_place)
    monkeypatch.setattr(run, "backoff_s", lambda attempt: 0)
    with pytest.raises(ConfigError, match="enough"):
        asyncio.run(life_of(place.config()))
    first, *others = (life.bounds for life in lives)
    assert others  # own policy, trains, and the governor of limits
    assert all(other is first for other in others)


def test_a_batch_the_server_will_never_take_does_not_hold_up_the_rest(
    place: Any, agent_of: Any, until: Any
) -> None:
    async def scenario() -> None:
        outbox = Outbox(place.folder / "pacs" / "outbox", "hotel")  # a data folder that changed hands
        outbox.add("flows", [Flow(tenant="default", agent="hotel", window_us=1, window_length_us=1)])
        outbox.flush()
        fill(place.folder, 1)

        def left() -> list[Path]:
            return list((place.folder / "pacs" / "outbox").iterdir())

        async with place.serving() as server, agent_of(place.config(token=place.token())) as life:
            await until(lambda: server.core.status().rows["flows"] == 1, life)
            await until(lambda: len(left()) == 1, life)
            assert left()[0].suffix == ".refused"

    asyncio.run(scenario())


def test_it_keeps_what_a_killed_server_had_not_acknowledged(place: Any, agent_of: Any, until: Any) -> None:
    batches = 60
    left = place.folder / "pacs" / "outbox"
    arguments = ["--data", str(place.data), "--agents", f"127.0.0.1:{place.port}", "--report", "127.0.0.1:0"]
    command = [*COMMAND, "server", "run", *arguments, "--stun", "127.0.0.1:0"]

    async def scenario() -> None:
        fill(place.folder, batches)
        first = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=subprocess.DEVNULL)
        async with agent_of(place.config(token=place.token())) as life:
            try:
                await until(lambda: len(list(left.iterdir())) <= batches * 2 // 3, life)
            finally:
                first.kill()
                await first.wait()
            async with place.serving() as server:
                await until(lambda: not list(left.iterdir()), life)
                assert server.core.status().rows["flows"] == batches

    asyncio.run(scenario())


def test_it_tells_the_server_what_is_in_front_of_it(
    place: Any, agent_of: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.run.SURVEY_WITHIN_S", 0)

    async def scenario() -> None:
        config = place.config(token=place.token(), mesh=True)
        async with place.serving() as server, agent_of(config) as life:

            def nat() -> NatReport | None:
                return next((member.nat for member in server.core.members()), None)

            await until(lambda: nat() is not None, life)
            found = nat()
            assert found is not None
            assert (found.udp, found.mapped, found.mapping) == (True, "127.0.0.1", Dependence.NONE)

    asyncio.run(scenario())


def test_anchors_that_cannot_be_read_end_it_before_it_enrols(place: Any, life_of: Any) -> None:
    anchors = place.folder / "anchors.toml"

    async def scenario() -> None:
        with pytest.raises(ConfigError, match="identity_anchors") as caught:
            await life_of(place.config(token=UNKNOWN_TOKEN, identity_anchors=anchors))
        assert caught.value.remedy

    asyncio.run(scenario())


def test_two_agents_do_not_share_a_folder(place: Any, agent_of: Any, life_of: Any, until: Any) -> None:
    async def scenario() -> None:
        async with agent_of(place.config(token=UNKNOWN_TOKEN)) as life:
            await until((place.folder / "pacs" / "identity.pem").exists, life)
            with pytest.raises(FolderError, match="another agent holds it"):
                await life_of(place.config())

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["a file in its place", "read-only"])
def test_a_folder_it_cannot_write_is_one_error(place: Any, open_folder: Path, what: str) -> None:
    data = open_folder / "agent-data"
    config = write_config(open_folder, place.port, data=data)
    before: list[str] = []
    if what == "read-only":
        data.mkdir()
        script = f'mount -t tmpfs -o ro,size=1m none {data} && exec "$@"'
        before = ["unshare", "--mount", "sh", "-c", script, "sh"]
    else:
        data.write_text("in the way")
    code, said = run_agent(config, before)
    assert code == 73
    assert f"error: use {data}: " in said
    assert "  try: " in said


def test_without_the_capability_it_says_what_to_do(place: Any, open_folder: Path) -> None:
    config = write_config(open_folder, place.port, passive="ebpf")
    code, said = run_agent(config, ["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    assert code == 77
    assert "CAP_BPF" in said
    assert "  try: " in said


def test_sigterm_ends_it_within_two_seconds(place: Any, open_folder: Path, until: Any) -> None:
    config = write_config(open_folder, place.port, token=place.token())
    command = [*COMMAND, "agent", "run", "--config", str(config)]

    async def scenario() -> None:
        async with place.serving() as server:
            process = await asyncio.to_thread(subprocess.Popen, command, cwd=ROOT, text=True)
            try:
                await until(lambda: server.core.status().agents_online)
                process.terminate()
                assert await asyncio.to_thread(ended_after_s, process, 60) < 2
                assert process.returncode == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    process.wait()

    asyncio.run(scenario())


def write_config(folder: Path, port: int, **changes: object) -> Path:
    given = {
        "server": f"https://127.0.0.1:{port}",
        "name": "pacs",
        "site": "here",
        "token": UNKNOWN_TOKEN,
        "data": folder / "agent-data",
        "passive": "off",
    } | changes
    path = folder / "agent.toml"
    path.write_text("".join(f'{key} = "{value}"\n' for key, value in given.items()) + "mesh = false\n")
    return path


def run_agent(config: Path, before: list[str]) -> tuple[int, str]:
    done = subprocess.run(
        [*before, *COMMAND, "agent", "run", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr
