"""The control connection over real WebSockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agent.identity import create
from analytics import wire
from analytics.measurement import Rung
from server import signalling
from tests.unit.server.enrolling import Member, nobodys

Run = Callable[[Callable[[Any], Any]], None]

A, B = create("a"), create("b")


async def hear(socket: ClientConnection) -> wire.FromServer:
    async with asyncio.timeout(30):
        return wire.decode_from_server(await socket.recv())


async def say(socket: ClientConnection, message: wire.FromAgent) -> None:
    await socket.send(wire.encode(message))


@asynccontextmanager
async def raw(site: Any, member: Member | None) -> AsyncIterator[ClientConnection]:
    context = nobodys(site.settings.data) if member is None else member.context
    async with connect(f"wss://{site.running.agents}/v1/control", ssl=context, proxy=None) as socket:
        yield socket


@asynccontextmanager
async def connected(site: Any, member: Member, *, mesh: bool = True) -> AsyncIterator[ClientConnection]:
    async with raw(site, member) as socket:
        await say(socket, wire.Hello(version="1", boot="b", mesh=mesh))
        assert isinstance(await hear(socket), wire.Welcome)
        yield socket


def test_what_an_agent_found_out_about_its_nat_is_told_to_readers_while_it_is_there(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        member = await site.enrol("a", "s1", identity=A)
        report = wire.NatReport(
            udp=True, mapped="203.0.113.2", mapping=wire.Dependence.ADDRESS, hairpin=False
        )

        async def told() -> Any:
            return (await site.report.get("/v1/agents")).json()[0]["nat"]

        async with connected(site, member) as socket:
            assert await told() is None
            await say(socket, report)
            await say(socket, wire.Signal(test="none", body=wire.Abandon(why="")))
            assert isinstance(await hear(socket), wire.Notice)  # so the report before it has been taken
            nat = await told()
            assert (nat["mapping"], nat["mapped"], nat["hairpin"], nat["cgnat"]) == (
                "address-dependent",
                "203.0.113.2",
                False,
                None,
            )
        async with connected(site, member):
            assert await told() is None  # another connection, perhaps another place

    with_server(scenario)


def test_two_agents_are_ordered_to_test_each_other_and_talk_through_the_server(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        first_agent = await site.enrol("a", "s1", identity=A)
        second_agent = await site.enrol("b", "s2", identity=B)
        async with connected(site, first_agent) as a, connected(site, second_agent) as b:
            first, second = await hear(a), await hear(b)
            assert isinstance(first, wire.TestOrder)
            assert isinstance(second, wire.TestOrder)
            assert (first.peer, first.peer_fingerprint) == ("b", B.fingerprint)
            assert (second.peer, second.peer_fingerprint) == ("a", A.fingerprint)
            assert first.ice_servers[0].url == f"stun:127.0.0.1:{site.running.stun[0].port}"
            result = wire.RungResult(rung=Rung.LAN, ok=False, why="other network")
            await say(a, wire.Signal(test=first.test, body=result))
            assert await hear(b) == wire.Signal(test=first.test, body=result)
            status = (await site.report.get("/v1/status")).json()
            assert (status["agents_online"], status["cycle_running"], status["paths_expected"]) == (
                2,
                True,
                2,
            )
            for socket in (a, b):
                await say(socket, wire.TestEnded(test=first.test, rung=Rung.NONE, error="just a test"))
            async with asyncio.timeout(30):
                await site.running.cycles.ended.wait()
            await say(a, wire.Signal(test=first.test, body=result))
            notice = await hear(a)
            assert isinstance(notice, wire.Notice)
            assert notice.code == "no-test"
        async with asyncio.timeout(30):
            while (rows := (await site.report.get("/v1/audit")).json())[0]["action"] != "tested":
                pass  # it is written within half a second
        assert [row["action"] for row in rows[:2]] == ["tested", "test"]
        assert (rows[1]["actor"], rows[1]["subject"]) == ("a", "b")
        assert f"cycle={first.cycle}" in rows[1]["detail"]
        assert {row["action"] for row in rows[2:]} == {"enrol", "access-token", "token"}

    with_server(scenario)


def test_what_cannot_be_read_is_noticed_and_the_connection_kept(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        async with connected(site, await site.enrol("a")) as socket:
            for bad in ("{}", "not json", '{"type":"launch"}', b"\xff\xfe", '{"type":"health","cpu_us":-1}'):
                await socket.send(bad)
                notice = await hear(socket)
                assert isinstance(notice, wire.Notice)
                assert notice.code == "unreadable"
            await say(socket, wire.Hello(version="1", boot="b"))
            assert isinstance(await hear(socket), wire.Notice)
            await say(socket, wire.Health(cpu_us=1, rss_kb=2))
            await say(socket, wire.Notice(code="x", text="y"))
            await say(socket, wire.TestEnded(test="long gone", rung=Rung.NONE))
            await socket.send("{}")
            notice = await hear(socket)
            assert isinstance(notice, wire.Notice)
            assert notice.code == "unreadable"

    with_server(scenario)


def test_an_unknown_credential_is_refused_before_the_connection(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        with pytest.raises(InvalidStatus) as caught:
            async with raw(site, None):
                pass
        assert caught.value.response.status_code == 401
        assert b"remedy" in caught.value.response.body

    with_server(scenario)


@pytest.mark.parametrize("first", ['{"type":"launch"}', '{"type":"health","cpu_us":1,"rss_kb":1}', None])
def test_the_first_message_must_be_hello(
    with_server: Run, monkeypatch: pytest.MonkeyPatch, first: str | None
) -> None:
    monkeypatch.setattr(signalling, "HELLO_S", 0.1)

    async def scenario(site: Any) -> None:
        async with raw(site, await site.enrol("a")) as socket:
            if first is not None:
                await socket.send(first)
            with pytest.raises(ConnectionClosed):
                await hear(socket)
            assert socket.close_code == signalling.NO_HELLO

    with_server(scenario)


def test_a_second_connection_replaces_the_first(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        member = await site.enrol("a")
        async with connected(site, member) as first, connected(site, member) as second:
            with pytest.raises(ConnectionClosed):
                await hear(first)
            assert first.close_code == 4001
            await second.send("{}")
            assert isinstance(await hear(second), wire.Notice)
            assert (await site.report.get("/v1/status")).json()["agents_online"] == 1

    with_server(scenario)


def test_a_message_over_the_ceiling_ends_the_connection(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        async with connected(site, await site.enrol("a")) as socket:
            await socket.send("x" * (wire.MAX_MESSAGE + 1))
            with pytest.raises(ConnectionClosed):
                await hear(socket)
            assert socket.close_code == 1009

    with_server(scenario)


def test_an_agent_that_is_lost_in_a_test_is_told_to_its_peer(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        first_agent = await site.enrol("a", "s1", identity=A)
        second_agent = await site.enrol("b", "s2", identity=B)
        async with connected(site, first_agent) as a:
            async with connected(site, second_agent) as b:
                assert isinstance(await hear(a), wire.TestOrder)
                b.transport.abort()
            cancel = await hear(a)
            assert isinstance(cancel, wire.TestCancel)
            assert "b is gone" in cancel.why

    with_server(scenario)
