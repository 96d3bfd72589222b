"""Who is let in where many knock: real connections to a real server, with small bounds."""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from server import door as doors
from server.door import ADDRESS, AGENT, FULL, LONGEST, Door, Most

Run = Callable[[Callable[[Any], Any]], None]


@contextlib.contextmanager
def pairs(count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as opened:
        made = [socket.socketpair() for _ in range(count)]
        for both in made:
            for one in both:
                opened.enter_context(one)
        yield [one for one, _ in made]


def test_of_one_address_so_many_strangers_and_who_is_known_does_not_count() -> None:
    door = Door(most=Most(open=100, strangers=50, of_address=2))
    with pairs(6) as (one, two, three, four, five, six):
        assert door.admit(one, ("192.0.2.1", 1))
        assert door.admit(two, ("192.0.2.1", 2))
        assert not door.admit(three, ("192.0.2.1", 3))
        assert door.admit(four, ("192.0.2.2", 1))
        door.known(one.fileno())
        assert door.admit(five, ("192.0.2.1", 4))
        two.close()  # nobody tells; it is seen when the address asks again
        assert door.admit(six, ("192.0.2.1", 5))
        assert door.refused == Counter({ADDRESS: 1})


def test_an_address_of_ipv6_is_its_network() -> None:
    door = Door(most=Most(of_address=1))
    with pairs(3) as (one, two, three):
        assert door.admit(one, ("2001:db8::1", 1, 0, 0))
        assert not door.admit(two, ("2001:db8::2", 1, 0, 0))
        assert door.admit(three, ("2001:db8:0:1::1", 1, 0, 0))


def test_where_strangers_are_too_many_the_one_that_was_first_goes() -> None:
    door = Door(most=Most(open=100, strangers=3, of_address=100))
    with pairs(5) as made:
        for number, one in enumerate(made[:3]):
            assert door.admit(one, (f"192.0.2.{number}", 1))
        door.known(made[0].fileno())  # is no stranger, so it stays
        for number, one in enumerate(made[3:], start=3):
            assert door.admit(one, (f"192.0.2.{number}", 1))
        assert made[0].send(b"x") == 1
        with pytest.raises(BrokenPipeError):
            made[1].send(b"x")
        assert (door.refused[LONGEST], door.strangers) == (1, 3)


def test_where_all_are_too_many_nobody_is_let_in_until_one_goes() -> None:
    door = Door(most=Most(open=2, strangers=10, of_address=10))
    with pairs(4) as (one, two, three, four):
        assert door.admit(one, ("192.0.2.1", 1))
        assert door.admit(two, ("192.0.2.2", 1))
        door.known(one.fileno())
        assert not door.admit(three, ("192.0.2.3", 1))
        one.close()
        assert door.admit(four, ("192.0.2.4", 1))
        assert door.refused == Counter({FULL: 1})
        assert len(door) == 2


def test_an_agent_has_so_many_and_another_comes_in_once_one_is_gone() -> None:
    door, a, b = Door(most=Most(of_agent=2)), ("default", "a"), ("default", "b")
    with pairs(4) as made:
        for one in made:
            assert door.admit(one, ("192.0.2.1", 1))
        numbers = [one.fileno() for one in made]
        assert door.enter(numbers[0], a)
        assert door.enter(numbers[1], a)
        assert not door.enter(numbers[2], a)
        assert door.enter(numbers[3], b)
        assert (door.strangers, door.refused) == (1, Counter({AGENT: 1}))
        door.leave(a)
        assert door.enter(numbers[2], a)
        for agent in (a, a, b):
            door.leave(agent)
        assert not door._of_agent


def test_only_a_certificate_that_lets_one_in_makes_one_known_and_only_so_often(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        door = site.running.realms.of("default").meter._own.doors[0]
        door._most = door._most._replace(of_agent=2)
        a, b = await site.enrol("a"), await site.enrol("b")
        assert (await site.report.delete("/v1/agents/b")).status_code == 204
        before = door.strangers

        async def asked(opened: contextlib.AsyncExitStack, context: ssl.SSLContext) -> int:
            made = httpx.AsyncClient(base_url=site.agents.base_url, verify=context, trust_env=False)
            client = await opened.enter_async_context(made)
            return (await client.post("/v1/batches", content=b"", timeout=30)).status_code

        async with contextlib.AsyncExitStack() as opened:
            assert await asked(opened, b.context) == 401
            assert (door.strangers, door._of_agent) == (before + 1, {})
            assert [await asked(opened, a.context) for _ in range(2)] == [400, 400]
            assert (door.strangers, door._of_agent) == (before + 1, {("default", "a"): 2})
            with pytest.raises(httpx.TransportError):
                await asked(opened, a.context)
            assert door.refused[AGENT] == 1
        async with asyncio.timeout(30):
            while door._of_agent:  # noqa: ASYNC110  # nobody tells when one is gone
                await asyncio.sleep(0.01)

    with_server(scenario)


def test_what_is_kept_of_who_knocked_is_bounded() -> None:
    door = Door(most=Most(open=10**6, strangers=8, of_address=4))
    for number in range(2_000):
        with pairs(1) as (one,):
            door.admit(one, (f"192.0.{number // 250}.{number % 250}", 1))
    assert door.strangers <= 8
    assert len(door._from) <= 8
    assert len(door._of_address) <= 9  # and the one that was looked up last
    assert len(door._open) <= 1


def test_a_server_full_of_silent_strangers_answers_whoever_speaks(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors.Most, "__new__", _small)

    async def scenario(site: Any) -> None:
        for client, told in ((site.report, True), (site.agents, False)):
            where = urlsplit(str(client.base_url))
            silent = [await asyncio.open_connection(where.hostname, where.port) for _ in range(40)]
            if told:
                assert (await site.report.get("/v1/status")).status_code == 200
            gone = [await asyncio.wait_for(reader.read(1), 60) == b"" for reader, _ in silent[:20]]
            assert all(gone)
            for _, writer in silent:
                writer.close()
        told = (await site.report.get("/metrics")).text.splitlines()
        name = "pathgrade_server_connections_refused_total"
        (refused,) = (float(line.split()[-1]) for line in told if line.startswith(name))
        assert refused >= 60

    with_server(scenario)


def _small(cls: Any, *_: int) -> Most:
    return tuple.__new__(cls, (100, 8, 100, 100))
