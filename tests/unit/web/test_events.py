"""Changes as they happen: real connections, told once, and let go when the server stops."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api import events as module
from server.api.core import Status
from server.api.events import Change, Events, event, revision_of
from server.api.problem import ProblemError
from tests.unit.web.fleet import FixtureCore, serve


@pytest.fixture
def core() -> FixtureCore:
    return FixtureCore()


async def told(lines: AsyncIterator[bytes]) -> bytes:
    return await asyncio.wait_for(anext(lines), 10)


def listen(core: FixtureCore, events: Events, known: str = "") -> AsyncIterator[bytes]:
    return events.of(core, "default", "pacs", known)


def test_a_change_is_told_once_and_silence_is_a_sign_of_life(core: FixtureCore) -> None:
    async def scenario() -> None:
        events = Events(look_s=0.01, heartbeat_s=0.2)
        stream = listen(core, events)
        assert await told(stream) == b"retry: 3000\n\n"
        first = await told(stream)
        assert first.startswith(b"id: ")
        assert b'event: revision\ndata: {"revision":"' in first
        assert await told(stream) == b": still here\n\n"
        core.fleet = core.fleet[:4]
        second = await told(stream)
        while second.startswith(b":"):
            second = await told(stream)
        assert second.startswith(b"id: ")
        assert second != first
        await stream.aclose()  # type: ignore[attr-defined]
        assert events.listeners == 0

    asyncio.run(scenario())


def test_who_comes_back_with_what_is_still_so_is_told_nothing(core: FixtureCore) -> None:
    async def scenario() -> None:
        known = revision_of(core.revision("pacs"), core.status())
        stream = listen(core, Events(look_s=0.01, heartbeat_s=0.2), known)
        await told(stream)
        assert await told(stream) == b": still here\n\n"
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(scenario())


def test_the_listeners_of_a_profile_share_one_look(core: FixtureCore) -> None:
    async def scenario() -> None:
        events, looks = Events(look_s=0.05), []
        core.status = lambda: looks.append(1) or FixtureCore().status()  # type: ignore[method-assign,func-returns-value]
        streams = [listen(core, events) for _ in range(20)]
        await asyncio.gather(*(told(stream) for stream in streams))
        answers = await asyncio.gather(*(told(stream) for stream in streams))
        assert len(set(answers)) == 1
        assert len(looks) < 10
        assert events.listeners == 20
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        assert events.listeners == 0

    asyncio.run(scenario())


def test_no_more_listen_than_may(core: FixtureCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_TENANT", 2)

    async def scenario() -> None:
        events = Events()
        streams = [listen(core, events) for _ in range(2)]
        for stream in streams:
            events.admit("default")
            await told(stream)
        with pytest.raises(ProblemError):
            events.admit("default")
        events.admit("another")

    asyncio.run(scenario())


def test_one_visitor_does_not_keep_the_others_out(core: FixtureCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_VISITOR", 2)

    async def scenario() -> None:
        events = Events()
        for _ in range(9):  # all are admitted before the first listens
            events.admit("default", "eve")
        streams = [events.of(core, "default", "pacs", "", visitor="eve") for _ in range(9)]
        began = [[line async for line in _first(stream)] for stream in streams]
        assert [len(lines) for lines in began] == [1, 1, *[0] * 7]
        assert events.listeners == 2
        with pytest.raises(ProblemError):
            events.admit("default", "eve")
        events.admit("default", "ada")
        events.admit("another", "eve")
        await streams[0].aclose()  # type: ignore[attr-defined]
        events.admit("default", "eve")

    async def _first(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        with contextlib.suppress(StopAsyncIteration):
            yield await told(stream)

    asyncio.run(scenario())


@pytest.fixture
def site(core: FixtureCore) -> Iterator[str]:
    with serve(core) as url:
        yield url


def test_over_http_an_event_comes_and_the_stream_ends_with_the_server(core: FixtureCore) -> None:
    with serve(core) as url, httpx.Client(base_url=url, timeout=10) as client:
        with client.stream("GET", "/v1/events?profile=pacs") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("event")) == "event: revision"
        stream = httpx.Client(base_url=url, timeout=10)
        open_one = stream.send(stream.build_request("GET", "/v1/events"), stream=True)
        began = time.monotonic()
    # The fixture joins its server for 10 s at most: one that waits for its listeners would take all of it.
    assert time.monotonic() - began < 9
    open_one.close()
    stream.close()


def test_an_unknown_profile_is_a_problem(site: str) -> None:
    answer = httpx.get(f"{site}/v1/events?profile=nope")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@given(st.text(), st.text())
def test_an_event_is_three_lines_whatever_is_in_it(revision: str, profile: str) -> None:
    told_by = revision_of(revision, STATUS)
    assert event(Change(revision=told_by, profile=profile)).count(b"\n") == 4


STATUS = Status(
    version="",
    started_us=0,
    agents_enrolled=0,
    agents_online=0,
    paths_expected=0,
    paths_measured=0,
    cycle=None,
    cycle_running=False,
)
