"""A real server on loopback for the tests of this folder."""

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import Parameters, Type

from agent.identity import Identity, create
from server.accounts.tokens import create_access_token
from server.app import Running, serving
from server.settings import Settings
from server.state import create_token
from tests.unit.server.enrolling import Member, enrolment, member_of, nobodys

LIMIT_S = 60
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Site:
    """A running server and a client for each of its doors."""

    running: Running
    settings: Settings
    agents: httpx.AsyncClient  # without a certificate
    report: httpx.AsyncClient  # with an admin's token
    token: str  # the same, for a command
    actor: str  # whom the audit log names for it

    opened: AsyncExitStack
    members: dict[int, httpx.AsyncClient]  # clients of members, by the id of their context

    async def enrol(
        self, name: str, site: str = "here", *, identity: Identity | None = None, tenant: str = "default"
    ) -> Member:
        data, own = self.settings.data, identity or create(name)
        token = await asyncio.to_thread(create_token, data, 1, 60, tenant=tenant)
        answer = await self.agents.post("/v1/enrol", json=enrolment(token, name, site, identity=own))
        assert answer.status_code == 200, answer.text
        return member_of(data, own, answer.content)

    async def as_member(self, member: Member) -> httpx.AsyncClient:
        """Give a client that shows a member's certificate."""
        found = self.members.get(id(member.context))
        if found is None:
            made = client(f"https://{self.running.agents}", member.context)
            found = self.members[id(member.context)] = await self.opened.enter_async_context(made)
        return found

    async def send(self, member: Member, body: bytes, **headers: str) -> httpx.Response:
        return await (await self.as_member(member)).post("/v1/batches", content=body, headers=headers)


def client(url: str, context: ssl.SSLContext | bool = False) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, verify=context)


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash in no time: 64 MiB and three passes are many at once here. ``test_who.py`` has the real ones."""
    cheap = Parameters(
        type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=64, parallelism=1
    )
    monkeypatch.setattr("server.accounts.passwords.RFC_9106_LOW_MEMORY", cheap)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A server of this test's own: free ports, no waiting for the fleet to settle for long."""
    anywhere = "127.0.0.1:0"
    return Settings.load(
        data=tmp_path / "data", agents=anywhere, report=anywhere, stun=[anywhere], settle_s=0.05
    )


@asynccontextmanager
async def visited(settings: Settings) -> AsyncIterator[Site]:
    async with AsyncExitStack() as opened:
        running = await opened.enter_async_context(serving(settings))
        anyone = client(f"https://{running.agents}", nobodys(settings.data))
        agents = await opened.enter_async_context(anyone)
        report = await opened.enter_async_context(client(f"http://{running.report}"))
        name = f"tests-{next(_NUMBERS)}"  # a server may be started again over the same folder
        token = await asyncio.to_thread(create_access_token, settings.data, name, scope="admin", tenant="*")
        report.headers["Authorization"] = f"Bearer {token}"
        yield Site(running, settings, agents, report, token, f"token:{name}", opened, {})


@pytest.fixture
def with_server(settings: Settings) -> Callable[[Callable[[Site], Coroutine[Any, Any, None]]], None]:
    """Run a scenario against a running server, and stop the server."""

    def run(scenario: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(LIMIT_S), visited(settings) as site:
                await scenario(site)

        asyncio.run(whole())

    return run
