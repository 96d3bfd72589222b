"""A real server on loopback, and an agent's configuration for it."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from agent import folder
from agent.config import Config
from agent.passive.source import Passive
from agent.run import live
from analytics.report import Member
from server.app import Running, serving
from server.settings import Settings
from server.state import create_token


class Place:
    """One server's folder and port, kept from one life of it to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.data = folder / "server"

    def serving(self) -> AbstractAsyncContextManager[Running]:
        settings = Settings.load(
            data=self.data,
            agents=f"127.0.0.1:{self.port}",
            report="127.0.0.1:0",
            stun=["127.0.0.1:0"],
            settle_s=0.05,
        )
        return serving(settings)

    def token(self) -> str:
        return create_token(self.data, 1, 60)

    def config(self, name: str = "pacs", **changes: object) -> Config:
        given = {
            "server": f"https://127.0.0.1:{self.port}",
            "name": name,
            "site": "here",
            "data": self.folder / name,
            "passive": "off",
            "mesh": False,
        }
        return Config(**(given | changes))  # type: ignore[arg-type]  # values of several types


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@asynccontextmanager
async def running_agent(config: Config) -> AsyncIterator[asyncio.Task[None]]:
    """Let an agent live; what ends it before its time is raised."""
    life = asyncio.create_task(whole_life(config))
    try:
        yield life
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life


async def whole_life(config: Config) -> None:
    """What ``agent.run.run`` does, but in this process, which keeps its privileges."""
    with folder.exclusive(config.data):
        await live(config, Passive(None, "off"))


@pytest.fixture
def life_of() -> Callable[[Config], object]:
    return whole_life


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may pass, as /var/lib: an agent that root starts becomes somebody else."""
    with tempfile.TemporaryDirectory(prefix="pathgrade-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def agent_of() -> Callable[[Config], object]:
    return running_agent


@pytest.fixture
def until() -> object:
    """Wait until something is so; fail with the last state if it never is."""

    async def until(so: Callable[[], object], life: asyncio.Task[None] | None = None) -> None:
        async with asyncio.timeout(30):
            while not so():
                if life is not None and life.done():
                    life.result()
                await asyncio.sleep(0.02)

    return until


def member(running: Running, name: str) -> Member | None:
    return next((member for member in running.core.members() if member.name == name), None)


@pytest.fixture
def online() -> Callable[[Running, str], bool]:
    def online(running: Running, name: str) -> bool:
        found = member(running, name)
        return found is not None and found.online

    return online
