"""The switch on the host itself: a file, seen by an agent that runs, kept whatever the server says."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent import local_switch
from agent.errors import FolderError
from agent.local_switch import MESH, PASSIVE, SWITCHES, Switch, Switches
from agent.orders import Orders
from agent.outbox import Outbox
from analytics import wire
from analytics.measurement import Rung
from analytics.wire import LocalOff, MeshSwitch, Welcome
from pathgrade import command_line

OFF = LocalOff(since_us=1_700_000_000_000_000, by="ada", note="maintenance")
WELCOME = Welcome(tenant="default", server_version="1")


def test_it_is_kept_in_the_folder_and_says_who_when_and_why(tmp_path: Path) -> None:
    assert MESH.read(tmp_path) is None
    assert MESH.off(tmp_path, OFF) == OFF
    assert (tmp_path / MESH.file_name).stat().st_mode & 0o777 == 0o600
    later = LocalOff(since_us=OFF.since_us + 1, by="bob")
    assert MESH.off(tmp_path, later) == OFF  # what is off stays as it was
    assert MESH.read(tmp_path) == OFF
    assert MESH.on(tmp_path) == OFF
    assert MESH.on(tmp_path) is None
    assert [*tmp_path.iterdir()] == []


def test_what_is_no_file_of_its_own_is_off_and_is_not_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for switch in SWITCHES:
        (tmp_path / switch.file_name).symlink_to("pipe")
        off = switch.read(tmp_path)
        assert off is not None
        assert off.by == "not known"
    assert MESH._replace(file_name="pipe").read(tmp_path) is not None  # and nobody waits for who writes to it


@pytest.mark.parametrize("damage", [b"", b"nonsense", b'{"since_us":-1,"by":""}', b"\xff" * 9_000])
def test_a_damaged_file_is_off(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / MESH.file_name).write_bytes(damage)
    off = MESH.read(tmp_path)
    assert off is not None
    assert off.by == "not known"
    assert "damaged" in off.note
    MESH.on(tmp_path)
    assert MESH.read(tmp_path) is None


def test_a_change_is_seen_within_two_seconds(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[Any] = []
        switches = Switches(tmp_path)
        with switches.heard(lambda *told: seen.append(told)):
            async with switches.watched():
                for act, then in (
                    (lambda: MESH.off(tmp_path, OFF), [(MESH, OFF)]),
                    (lambda: MESH.on(tmp_path), [(MESH, OFF), (MESH, None)]),
                    (lambda: PASSIVE.off(tmp_path, OFF), [(MESH, OFF), (MESH, None), (PASSIVE, OFF)]),
                ):
                    await asyncio.sleep(0)
                    act()
                    async with asyncio.timeout(20):
                        while seen != then:  # noqa: ASYNC110  # a file tells nobody
                            await asyncio.sleep(0.05)
        assert (switches.off[MESH], switches.off[PASSIVE]) == (None, OFF)
        assert Switches(tmp_path).off == switches.off  # as after a restart

    assert local_switch.LOOK_S <= 1
    asyncio.run(scenario())


class World:
    """Orders with a tester that never ends."""

    def __init__(self, folder: Path, off: LocalOff | None = None) -> None:
        self.running = 0
        self.said: list[Any] = []
        self.switched: list[bool] = []
        self.orders = Orders(
            self.test, Outbox(folder / "outbox", "a"), self.say, switched=self.switched.append, local_off=off
        )

    async def test(self, _order: Any, _link: Any) -> Any:
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1

    async def say(self, message: Any) -> None:
        self.said.append(message)

    def order(self, test: str) -> None:
        self.orders.take(
            wire.TestOrder(
                test=test,
                cycle=1,
                peer="b",
                peer_fingerprint="",
                controlling=True,
                rungs=[Rung.LAN],
                ice_servers=[],
            )
        )


def test_running_tests_end_and_no_server_can_switch_it_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.orders.take(WELCOME)
        world.order("t1")
        await asyncio.sleep(0.01)
        assert (world.running, world.orders.on) == (1, True)
        world.orders.switch_here(OFF)
        await asyncio.sleep(0.01)
        assert (world.running, world.orders.on) == (0, False)
        for word in (MeshSwitch(on=True), WELCOME):
            world.orders.take(word)
            world.order("t2")
            await asyncio.sleep(0.01)
            assert (world.running, world.orders.on) == (0, False)
            assert "own host" in world.said[-1].error
        world.orders.take(MeshSwitch(on=False))
        world.orders.switch_here(None)
        assert not world.orders.on  # the server's word holds too
        world.orders.take(MeshSwitch(on=True))
        world.order("t3")
        await asyncio.sleep(0.01)
        assert world.running == 1
        await world.orders.close()

    asyncio.run(scenario())


def test_an_agent_that_starts_while_it_is_off_tests_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, OFF)
        world.orders.take(WELCOME)
        world.order("t1")
        await asyncio.sleep(0.01)
        assert world.running == 0
        assert world.switched == [False]

    asyncio.run(scenario())


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
def test_the_command_works_while_no_agent_runs(tmp_path: Path, switch: Switch) -> None:
    config = tmp_path / "agent.toml"
    data = tmp_path / "data"
    data.mkdir()
    config.write_text(f'server="https://192.0.2.1:8440"\nname="a"\nsite="s"\ndata="{data}"\n')
    runner = CliRunner()

    def told(*words: str) -> dict[str, Any]:
        result = runner.invoke(
            command_line(), ["agent", switch.name, *words, "--config", str(config), "--json"]
        )
        assert result.exit_code == 0, result.output
        return json.loads(result.output)  # type: ignore[no-any-return]  # JSON has no types

    assert told("status") == {switch.name: True, "off": None}
    off = told("off", "--note", "PACS maintenance")
    assert (off[switch.name], off["off"]["note"], off["off"]["by"]) == (
        False,
        "PACS maintenance",
        local_switch.who(),
    )
    assert told("status") == off
    words = runner.invoke(command_line(), ["agent", switch.name, "status", "--data", str(data)]).output
    assert words.startswith(f"{switch.of}: off on this host since ")
    assert told("on") == {switch.name: True, "off": None}


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    for folder in (tmp_path / "no", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(FolderError, match="switch active tests in") as caught:
            MESH.require_folder(folder)
        assert "--config" in caught.value.remedy
