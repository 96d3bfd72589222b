"""A real server on loopback for the tests of this folder."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import Parameters, Type

from agent.identity import Identity
from analytics.wire import EnrolReply
from server.accounts.tokens import create_access_token
from server.app import Running, serving
from server.settings import Settings
from server.state import create_token
from tests.unit.server.enrolling import enrolment

LIMIT_S = 60
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Site:
    """A running server and a client for each of its doors."""

    running: Running
    settings: Settings
    agents: httpx.AsyncClient
    report: httpx.AsyncClient  # with an admin's token
    token: str  # the same, for a command
    actor: str  # whom the audit log names for it

    async def enrol(self, name: str, site: str = "here", *, identity: Identity | None = None) -> EnrolReply:
        token = await asyncio.to_thread(create_token, self.settings.data, 1, 60)
        asked = enrolment(token, name, site, identity=identity)
        answer = await self.agents.post("/v1/enrol", json=asked)
        assert answer.status_code == 200, answer.text
        return EnrolReply(**answer.json())

    async def send(self, secret: str, body: bytes, **headers: str) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {secret}"}
        return await self.agents.post("/v1/batches", content=body, headers={**bearer, **headers})


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
    async with (
        serving(settings) as running,
        httpx.AsyncClient(base_url=f"http://{running.agents}", trust_env=False, timeout=30) as agents,
        httpx.AsyncClient(base_url=f"http://{running.report}", trust_env=False, timeout=30) as report,
    ):
        name = f"tests-{next(_NUMBERS)}"  # a server may be started again over the same folder
        token = await asyncio.to_thread(create_access_token, settings.data, name, scope="admin", tenant="*")
        report.headers["Authorization"] = f"Bearer {token}"
        yield Site(running, settings, agents, report, token, f"token:{name}")


@pytest.fixture
def with_server(settings: Settings) -> Callable[[Callable[[Site], Coroutine[Any, Any, None]]], None]:
    """Run a scenario against a running server, and stop the server."""

    def run(scenario: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(LIMIT_S), visited(settings) as site:
                await scenario(site)

        asyncio.run(whole())

    return run
