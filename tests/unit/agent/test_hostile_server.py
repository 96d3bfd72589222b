"""A server that has its keys and means harm: what an agent does not do for it, whatever it says."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import enrol, tls
from agent.errors import EnrolmentError, RungError, ServerSilentError
from agent.http import MOST_ANSWER, answer_of, httpx
from agent.identity import load_or_create
from agent.mesh.asked import HOUR_NS, MOST, AskedServers
from agent.mesh.stamps import StampingLoop
from agent.mesh.survey import survey
from agent.outbox import Outbox
from agent.retry import Pace
from agent.upload import Uploader
from analytics import wire
from analytics.channel import present, tls_1_3
from analytics.errors import MessageError
from analytics.measurement import Flow, Rung
from analytics.wire import IceServer, RenewalReply, decode_from_server, encode
from server import authority

FAR = "https://192.0.2.1:8440"
SECOND = 10**9


class World:
    """An agent's judge of servers, with a clock and names of its own."""

    def __init__(self, allowed: list[str] | None = None, *, server: str = FAR) -> None:
        self.now_ns = 0
        self.looked_up: list[str] = []
        self.names = {"inside": "10.0.0.7", "here": "127.0.0.1", "cloud": "169.254.169.254"}
        self.asked = AskedServers(
            allowed, own_server=server, monotonic_ns=lambda: self.now_ns, resolve=self.resolve
        )

    async def resolve(self, url: str) -> tuple[str, int]:
        self.looked_up.append(url)
        host, _, port = url.partition("?")[0].partition(":")[2].partition(":")
        if host == "nowhere":
            raise RungError("cannot resolve nowhere")
        return self.names.get(host, host), int(port)

    def admitted(self, *urls: str) -> list[str]:
        servers = [IceServer(url=url) for url in urls]
        return [one.url for one in asyncio.run(self.asked.admit(servers)).servers]


def test_addresses_where_no_such_server_is_are_not_asked() -> None:
    world = World()
    for url in (
        "turn:here:22?transport=tcp",
        "turn:cloud:80",
        "stun:224.0.0.1:34",
        "turn:0.0.0.0:1",
    ):
        assert world.admitted(url) == []
    assert world.asked.refused == 4
    assert world.admitted("turn:nowhere:3478", "turn:y:99999", "turn://[x", "http://z") == []
    beside = World(server="https://127.0.0.1:8440")  # a trial on one machine
    assert beside.admitted("stun:here:3478") == ["stun:127.0.0.1:3478"]


def test_what_is_asked_is_what_was_judged_and_the_first_of_each_kind_only() -> None:
    world = World()
    urls = ("stun:inside:3478", "turn:inside:3478?transport=tcp", "turns:inside:5349")
    many = [url.replace("inside", f"10.0.1.{n}") for n in range(20) for url in urls]
    assert world.admitted(*urls, *many) == [
        "stun:10.0.0.7:3478",
        "turn:10.0.0.7:3478?transport=tcp",
        "turns:inside:5349",  # its certificate has that name
    ]
    assert len(world.looked_up) == 3


def test_of_plain_stun_servers_the_next_few_are_known_too() -> None:
    urls = [f"stun:10.0.0.{n}:3478" for n in range(1, 9)]
    assert asyncio.run(World().asked.admit_stun(["turn:inside:22", *urls])) == urls[:3]


def test_a_few_different_ones_an_hour_and_no_more() -> None:
    world = World()
    ports = range(20, 60)
    found = [port for port in ports if world.admitted(f"turn:inside:{port}?transport=tcp")]
    assert found == list(ports)[:MOST]
    assert world.admitted(f"turn:inside:{ports[0]}") == [f"turn:10.0.0.7:{ports[0]}"]  # known already
    world.now_ns = HOUR_NS + 1
    assert len([port for port in ports if world.admitted(f"turn:inside:{port}")]) == MOST


def test_the_hosts_own_list_is_asked_before_any_name_is_looked_up() -> None:
    world = World(["Inside"])
    assert world.admitted("stun:leak.example:3478", "turn:inside:3478") == ["turn:10.0.0.7:3478"]
    assert world.looked_up == ["turn:inside:3478"]
    assert World([]).admitted("stun:inside:3478") == []


def test_no_datagram_reaches_what_is_not_admitted() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
            inside.bind(("127.0.0.1", 0))
            inside.setblocking(False)
            asked = AskedServers(None, own_server=FAR, monotonic_ns=lambda: 0)
            url = f"stun:127.0.0.1:{inside.getsockname()[1]}"
            report = await survey(await asked.admit_stun([url]))
            assert not report.udp
            with pytest.raises(BlockingIOError):
                inside.recv(2048)

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(scenario())


def test_the_hosts_own_name_may_be_loopback_to_itself() -> None:
    """As on Debian, where it is 127.0.1.1: the server's name is the configuration's word."""
    world = World(server="https://here:8440")
    assert world.admitted("stun:here:3478") == ["stun:127.0.0.1:3478"]
    assert world.admitted("turn:127.0.0.1:22?transport=tcp") == []


def test_names_are_looked_up_at_once_and_one_that_is_none_costs_no_test() -> None:
    world = World()
    assert world.admitted("TURN:10.0.0.1:3478", "stun:nowhere:3478") == ["TURN:10.0.0.1:3478"]
    assert world.asked.refused == 0  # not refused: it is not known where it is
    real = AskedServers(None, own_server=FAR, monotonic_ns=lambda: 0)
    told = asyncio.run(real.admit([IceServer(url="turn:a..b:3478"), IceServer(url="stun:" + "x" * 64)]))
    assert told.servers == []
    assert all("is not asked: cannot resolve" in told.not_asked[kind] for kind in (Rung.RELAY_UDP, None))


# --- answers ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(
    head: bytes, body: Callable[[], bytes], most: int = 10**9
) -> AsyncIterator[tuple[str, Any]]:
    """A server that answers with a body that goes on; gives its URL, and how much it has sent."""
    context = tls_1_3(ssl.PROTOCOL_TLS_SERVER)
    own = authority.create()
    present(context, own.server_chain(now=datetime.now(UTC)))
    sent = [0]

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while sent[0] < most:
                piece = body()
                writer.write(piece)
                await writer.drain()
                sent[0] += len(piece)
        writer.close()

    async with await asyncio.start_server(answered, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", sent


def stranger(url: str) -> httpx.AsyncClient:
    """Whoever answers is taken for the server."""
    return httpx.AsyncClient(base_url=url, trust_env=False, verify=tls.unproven())


@pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized", b"503 Busy"])
def test_an_answer_that_goes_on_is_left_and_the_batch_stays(tmp_path: Path, status: bytes) -> None:
    async def scenario() -> None:
        outbox = Outbox(tmp_path / "outbox", "a")
        outbox.add("flows", [Flow(tenant="default", agent="a", window_us=1, window_length_us=1)])
        outbox.flush()
        head = b"HTTP/1.1 " + status + b"\r\nContent-Encoding: gzip\r\n\r\n"
        async with answering(head, lambda: b" " * 65_536) as (url, sent):
            async with stranger(url) as client:
                with pytest.raises(ServerSilentError, match="longer than"):
                    await Uploader(outbox, client).send_all()
            assert sent[0] < 100 * MOST_ANSWER  # what fits into the buffers on the way
        assert len(outbox) == 1

    asyncio.run(scenario())


def test_what_is_packed_is_not_unpacked() -> None:
    async def scenario() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"
        async with (
            answering(head, lambda: b"abcde", most=5) as (url, _),
            stranger(url) as client,
        ):
            assert (await answer_of(client, "GET", "/", timeout_s=5)).content == b"abcde"

    asyncio.run(scenario())


# --- words --------------------------------------------------------------------------------------------------


def test_a_flood_of_messages_is_taken_in_at_a_pace() -> None:
    pace, now_s, taken = Pace(40, 200), 1_000.0, 0
    while now_s < 1_010:
        now_s += pace.wait_s(now_s)
        taken += 1
    assert 200 + 40 * 10 - 2 <= taken <= 200 + 40 * 10 + 2
    assert pace.wait_s(now_s + 60) == 0


@pytest.mark.parametrize("life_s", [0, -5, 10**12])
def test_a_certificate_of_no_life_does_not_make_it_renew_all_the_time(life_s: int) -> None:
    answer = httpx.Response(200, json={"certificate": "", "life_s": life_s})
    with pytest.raises(EnrolmentError, match="does not answer as a pathgrade server"):
        enrol._read(FAR, answer, RenewalReply)


def order(**changes: Any) -> wire.TestOrder:
    given: dict[str, Any] = {
        "test": "t",
        "cycle": 1,
        "peer": "b",
        "peer_fingerprint": "",
        "controlling": True,
        "rungs": [Rung.LAN],
        "ice_servers": [],
    }
    return wire.TestOrder(**(given | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"rungs": [Rung.RELAY_TCP] * 17},
        {"ice_servers": [IceServer(url="stun:192.0.2.1:3478")] * 65},
        {"test": "t" * 65},
        {"peer": "p" * 65},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_order_without_measure_is_not_read(changes: dict[str, Any]) -> None:
    assert decode_from_server(encode(order())) == order()
    with pytest.raises(MessageError):
        decode_from_server(encode(order(**changes)))


def test_a_server_that_gives_it_another_name_is_not_enrolled_at(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = enrol._read

    def renaming(server: str, response: Any, kind: Any) -> Any:
        reply = read(server, response, kind)
        return msgspec.structs.replace(reply, agent="../../x") if kind is enrol.EnrolReply else reply

    async def scenario() -> None:
        monkeypatch.setattr(enrol, "_read", renaming)
        config = place.config(token=place.token())
        config.data.mkdir(parents=True)
        async with place.serving():
            with pytest.raises(EnrolmentError, match="it calls this agent"):
                await enrol.enrolled(config, load_or_create(config.data, config.name))
        assert not (config.data / "credential.json").exists()

    asyncio.run(scenario())
