"""READ FIRST for the agent: enrol, watch, hold the control connection, run what the server orders.

::

    watch (eBPF) ── flows ──┐
                            ├─ outbox (disk) ── upload ── POST /v1/batches
    orders ── test_pair ────┘
      ▲ │
      │ └─ TestEnded, Signal ──┐
      └── control connection ──┴── WS /v1/control
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from agent import health
from agent.config import Config
from agent.control import Control
from agent.enrol import Credential, enrolled, forget
from agent.errors import CredentialRefusedError, FolderError, ServerSilentError
from agent.identity import Identity, load_or_create
from agent.mesh.stamps import StampingLoop
from agent.orders import Link, Orders, Result, Tester
from agent.outbox import Outbox
from agent.retry import backoff_s
from agent.upload import Uploader
from analytics.measurement import Flow
from analytics.wire import FromAgent, Hello, TestOrder

if TYPE_CHECKING:
    from ebpf.load import Monitor

log: Final = logging.getLogger("pathgrade.agent")

LOG_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
LOCK_NAME: Final = "agent.lock"
FLUSH_S: Final = 1.0
"""How much of what was seen a kill may cost."""


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises ``AgentError`` or ``EbpfError`` if it cannot go on."""
    _log_to_stderr()
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(_until_signalled(config))


async def live(config: Config) -> None:
    """Be an agent until cancelled: what needs this host to be right fails first, the server comes last."""
    with _folder(config.data):
        identity = load_or_create(config.data, config.name)
        outbox = Outbox(config.data / "outbox", config.name)
        async with AsyncExitStack() as opened:
            monitor = await _monitor(config, opened)
            client = await opened.enter_async_context(
                httpx.AsyncClient(base_url=config.server, trust_env=False)
            )
            for attempt in itertools.count():
                credential = await enrolled(config, identity, client)
                agent = Agent(
                    config, credential, identity=identity, outbox=outbox, monitor=monitor, client=client
                )
                try:
                    await agent.work()
                except CredentialRefusedError as error:
                    log.warning("credential refused, enrolling again why=%r", str(error))
                    forget(config)
                    await asyncio.sleep(backoff_s(attempt))


class Agent:
    """The parts of one enrolled life, wired."""

    def __init__(
        self,
        config: Config,
        credential: Credential,
        *,
        identity: Identity,
        outbox: Outbox,
        monitor: Monitor | None,
        client: httpx.AsyncClient,
    ) -> None:
        self._credential = credential
        self._outbox = outbox
        self._monitor = monitor
        tester = _tester(credential, identity) if config.mesh else None
        self._uploader = Uploader(outbox, credential, client)
        self._orders = Orders(tester, outbox, self._say, saved=self._uploader.soon)
        self._control = Control(
            credential,
            _hello(config, outbox, monitor),
            on_message=self._orders.take,
            on_lost=self._orders.cancel_all,
        )

    async def work(self) -> None:
        """Do everything at once until cancelled or refused; what was measured is on disk afterwards."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._control.run())
                tasks.create_task(self._uploader.run())
                tasks.create_task(self._keep_flushing())
                tasks.create_task(self._keep_telling_health())
                if self._monitor is not None:
                    tasks.create_task(self._watch(self._monitor))
        except ExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, CredentialRefusedError):
                    raise error from None
            raise
        finally:
            await self._orders.close()
            _flush_all(self._outbox)

    async def _watch(self, monitor: Monitor) -> None:
        from agent.passive.watch import watch  # noqa: PLC0415  # not loaded where passive is off

        await watch(
            monitor, agent=self._credential.agent, tenant=self._credential.tenant, sink=self._take_flows
        )

    def _take_flows(self, flows: list[Flow]) -> None:
        self._outbox.add("flows", flows)

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(_flush_all, self._outbox)
            self._uploader.soon()

    async def _keep_telling_health(self) -> None:
        while True:
            await asyncio.sleep(health.EVERY_S)
            now = health.health(
                self._monitor,
                batches_waiting=len(self._outbox),
                packets_refused=self._orders.packets_refused,
            )
            log.info("health cpu_us=%d rss_kb=%d waiting=%d", now.cpu_us, now.rss_kb, now.batches_waiting)
            with contextlib.suppress(ServerSilentError):  # the next one says as much
                await self._control.say(now)

    async def _say(self, message: FromAgent) -> None:
        await self._control.say(message)


def _tester(credential: Credential, identity: Identity) -> Tester:
    from agent.mesh.pair import SystemClock, test_pair  # noqa: PLC0415  # 30 MB, not loaded where the mesh is off

    async def test(order: TestOrder, link: Link) -> Result:
        return await test_pair(
            order,
            me=credential.agent,
            tenant=credential.tenant,
            identity=identity,
            signalling=link,
            clock=SystemClock(),
        )

    return test


async def _monitor(config: Config, opened: AsyncExitStack) -> Monitor | None:
    """Load the eBPF programs, unless switched off; raises ``EbpfError``."""
    if config.passive == "off":
        return None
    from ebpf.load import open_monitor  # noqa: PLC0415  # not loaded where passive is off

    netns = _own_netns() if config.namespaces == "own" else None
    monitor = await asyncio.to_thread(open_monitor, netns=netns, cache=config.cache_folder)
    return opened.enter_context(monitor)


def _own_netns() -> int:
    """Name this process's network namespace as the kernel does: by its inode."""
    return Path("/proc/self/ns/net").stat().st_ino


def _hello(config: Config, outbox: Outbox, monitor: Monitor | None) -> Hello:
    passive = "off" if monitor is None else f"ebpf ({len(monitor.hooks)} hooks)"
    return Hello(version=version("pathgrade"), boot=outbox.boot, mesh=config.mesh, passive=passive)


def _flush_all(outbox: Outbox) -> None:
    while outbox.flush():
        pass


@contextmanager
def _folder(data: Path) -> Iterator[None]:
    """Make the data folder and keep other agents out of it; raises ``FolderError``."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(
            f"use {data}: {error.strerror}", remedy="set data to a folder that the agent's user can write"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise FolderError(
            f"use {data}: another agent holds it", remedy="give each agent a data folder of its own"
        ) from error
    try:
        yield
    finally:
        os.close(lock)


async def _until_signalled(config: Config) -> None:
    life = asyncio.create_task(live(config))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await life
    log.info("stopped")


def _log_to_stderr() -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    for chatty in ("httpx", "httpcore", "websockets", "aioice", "aiortc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
