"""READ FIRST for the agent: enrol, watch, hold the control connection, run what the server orders.

::

    watch (eBPF) ── flows ──┐
      │ pathgrade flows     ├─ outbox (disk) ── upload ── POST /v1/batches
    orders ── test_pair ────┘
      ▲ │
      │ └─ TestEnded, Signal ──┐
      └── control connection ──┴── WS /v1/control

    run        what needs root (start), then live until a signal
    live       what outlives servers (host), then one session with a server after the other
    Agent      one session: its parts, wired; work() runs them all
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import msgspec

from agent import health
from agent.addresses import own_addresses
from agent.config import Config
from agent.control import Control
from agent.credential import Credential
from agent.enrol import enrolled
from agent.errors import AuthorityMovedError, CredentialRefusedError, ServerSilentError
from agent.host import Host
from agent.host import opened as opened_host
from agent.http import httpx
from agent.local import SOCKET_NAME, serve
from agent.local_switch import MESH, PASSIVE, Switch
from agent.mesh.icmp import QuotedHeaders
from agent.mesh.refusals import Refusals
from agent.mesh.stamps import StampingLoop
from agent.orders import Orders
from agent.outbox import Outbox
from agent.passive.source import Passive
from agent.renewal import Renewal, ask_again
from agent.reporting import Reporting
from agent.retry import backoff_s
from agent.start import started
from agent.tester import Shared, guard_of, tester_of
from agent.upload import Uploader
from analytics.measurement import Flow
from analytics.memory import settle
from analytics.systemd import Notifier, Signs
from analytics.wire import FromAgent, FromServer, Health, Hello, LocalOff, Welcome

if TYPE_CHECKING:
    from agent.passive.watch import Watch

log: Final = logging.getLogger("pathgrade.agent")

SURVEY_WITHIN_S: Final = 5.0
"""After a connection; agents that come back together do not all ask the STUN server at once."""
FLUSH_S: Final = 1.0
"""How much of what was seen a kill may cost."""


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises ``AgentError`` or ``EbpfError`` if it cannot go on.

    What needs root comes first, then root is given up, then the event loop and its threads start.
    """
    with started(config) as ready, asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(_until_signalled(*ready))


async def live(
    config: Config,
    passive: Passive,
    headers: QuotedHeaders | None = None,
    *,
    signs: Signs | None = None,
) -> None:
    """Be an agent until cancelled: what needs this host to be right fails first, the server comes last.

    The data folder is this agent's own by now (``folder.exclusive``).
    """
    async with opened_host(config, passive, headers=headers, signs=signs) as host:
        for attempt in itertools.count():
            try:
                await Agent(host, await enrolled(config, host.identity)).work()
            except AuthorityMovedError as error:
                log.info("beginning anew why=%r", str(error))
                await asyncio.sleep(backoff_s(attempt))
            except CredentialRefusedError as error:
                log.warning("credential refused why=%r", str(error))
                await ask_again(config, host.identity)
                await asyncio.sleep(backoff_s(attempt))


class Agent:
    """The parts of one enrolled life, wired."""

    def __init__(self, host: Host, credential: Credential) -> None:
        self._host = host
        self._config = config = host.config
        self._credential = credential
        context = credential.context(host.identity.identity_key)
        self._client = httpx.AsyncClient(base_url=config.server, trust_env=False, verify=context)
        self._renewal = Renewal(config, host.identity, credential, context)
        self._guard = guard_of(credential, host.identity, host.peers, host.bounds.own)
        self._refusals = Refusals()
        self._unsigned = Counter[str]()
        self._surveying: asyncio.Task[None] | None = None
        shared = Shared(
            config=config,
            credential=credential,
            identity=host.identity,
            guard=self._guard,
            refusals=self._refusals,
            unsigned=self._unsigned,
            headers=host.headers,
            trains=host.bounds.trains,
            own=host.bounds.own,
            servers=host.bounds.servers,
        )
        tester = tester_of(shared) if config.mesh else None
        self._uploader = Uploader(host.outbox, self._client, sends=host.bounds.sends)
        self._reporting = Reporting(self._health, self._say)
        self._welcome: Welcome | None = None
        self._orders = Orders(
            tester,
            host.outbox,
            self._say,
            saved=self._uploader.soon,
            switched=self._on_switched,
            local_off=host.switches.off[MESH],
        )
        self._watcher: Watch | None = None
        host.bounds.thrift.serve(self._orders, self._reporting.soon)
        self._control = Control(
            credential,
            context,
            _hello(host),
            on_message=self._take,
            on_lost=self._orders.cancel_all,
            greet=self._greet,
        )

    async def work(self) -> None:
        """Do everything at once until cancelled or refused; what was measured is on disk afterwards."""
        settle()
        host, renewal = self._host, self._renewal
        essential: dict[str, Coroutine[None, None, None]] = {
            "control": renewal.once_certified(self._control.run),
            "upload": renewal.once_certified(self._uploader.run),
            "certificate": renewal.run(),
            "flush": self._keep_flushing(),
            "health": self._reporting.run(),
            "limits": host.bounds.keep(),
            **({"watch": host.capture.run(self._watch)} if host.capture else {}),
        }
        try:
            with host.switches.heard(self._on_local_switch):
                async with asyncio.TaskGroup() as tasks:
                    running = {name: tasks.create_task(part) for name, part in essential.items()}
                    host.signs.tasks = running | host.switches.tasks
        except ExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, CredentialRefusedError | AuthorityMovedError):
                    raise error from None
            raise
        finally:
            host.signs.tasks = {}
            if self._surveying is not None:
                self._surveying.cancel()
            await self._orders.close()
            await self._client.aclose()
            _flush_all(host.outbox)

    def _greet(self, hello: Hello) -> Hello:
        """Add what is of this connection only."""
        return msgspec.structs.replace(
            hello,
            addresses=own_addresses(),  # they may have changed since it was connected last
            local_off=self._host.switches.off[MESH],
            passive_off=self._host.switches.off[PASSIVE],
            challenge=self._guard.challenge(),
            binding=self._host.identity.binding(self._credential.tenant, now_s=int(time.time())),
        )

    def _take(self, message: FromServer) -> None:
        if isinstance(message, Welcome):
            self._guard.on_welcome(message)
            self._welcome = message
        self._orders.take(message)

    def _on_local_switch(self, switch: Switch, off: LocalOff | None) -> None:
        if switch is MESH:
            self._orders.switch_here(off)
        self._reporting.soon()

    def _on_switched(self, on: bool) -> None:
        """Say so at once; what is in front of this host is asked only while active tests are on."""
        self._reporting.soon()
        if self._surveying is not None:
            self._surveying.cancel()
        if on and self._welcome is not None and self._welcome.stun:
            self._surveying = asyncio.create_task(self._tell_nat(self._welcome.stun))

    async def _tell_nat(self, stun: Sequence[str]) -> None:
        """Find out what is in front of this host: it may have moved while it was not connected."""
        from agent.mesh.survey import survey  # noqa: PLC0415  # not loaded where the mesh is off

        await asyncio.sleep(random.uniform(0, SURVEY_WITHIN_S))  # noqa: S311  # spreads load
        asked = await self._host.bounds.servers.admit_stun(stun)
        if not asked:
            return  # who does not ask does not know
        report = await survey(asked)
        log.info("nat udp=%s mapped=%s mapping=%r filtering=%r hairpin=%s cgnat=%s",
                 report.udp, report.mapped, report.mapping.value, report.filtering.value,
                 report.hairpin, report.cgnat)  # fmt: skip
        with contextlib.suppress(ServerSilentError):  # it is found out again on the next connection
            await self._say(report)

    async def _watch(self) -> None:
        from agent.passive.watch import Watch  # noqa: PLC0415  # not loaded where passive is off

        assert self._host.passive.source is not None
        watch = Watch(
            self._host.passive.source,
            agent=self._credential.agent,
            tenant=self._credential.tenant,
            sink=self._take_flows,
            recent_s=self._config.recent_minutes * 60,
        )
        self._watcher = watch
        self._host.bounds.thrift.watched(watch)
        async with serve(self._config.data / SOCKET_NAME, watch.sessions):
            await watch.run()

    def _take_flows(self, flows: list[Flow]) -> None:
        self._host.outbox.add("flows", flows)

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(_flush_all, self._host.outbox)
            self._uploader.soon()

    def _health(self) -> Health:
        host = self._host
        return health.health(
            host.passive.source.counters() if host.passive.source else None,
            batches_waiting=len(host.outbox),
            packets_refused=self._orders.packets_refused,
            refusals=self._refusals,
            grants_refused=self._guard.refused,
            receipts_refused=self._unsigned,
            servers_refused=self._control.unproven + self._uploader.unproven,
            mesh=self._orders.on,
            local_off=host.switches.off[MESH],
            passive_off=host.switches.off[PASSIVE],
            bytes_sent=health.sent_bytes(),
            governor=host.bounds.thrift.governor,
            dropped=self._dropped(),
        )

    def _dropped(self) -> dict[str, int]:
        """What found no room, by its name in docs/limits.md."""
        return {
            "outbox rows": self._host.outbox.dropped_rows,
            "outbox batches": self._host.outbox.dropped_batches,
            "signals": self._orders.signals_dropped,
            "servers to ask": self._host.bounds.servers.refused,
            "flow rows": self._watcher.dropped if self._watcher is not None else 0,
        }

    async def _say(self, message: FromAgent) -> None:
        await self._control.say(message)


def _hello(host: Host) -> Hello:
    return Hello(
        version=version("pathgrade"), boot=host.outbox.boot, mesh=host.config.mesh, passive=host.passive.told
    )


def _flush_all(outbox: Outbox) -> None:
    while outbox.flush():
        pass


async def _until_signalled(config: Config, passive: Passive, headers: QuotedHeaders | None) -> None:
    if headers is not None:
        headers.watch(asyncio.get_running_loop())
    notifier = Notifier.from_environment()
    signs = Signs(notifier)
    life = asyncio.create_task(live(config, passive, headers, signs=signs))

    def stop() -> None:
        notifier.stopping()
        life.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    notifier.ready()  # not only once enrolled: the server may be away for longer than systemd waits
    giving = asyncio.create_task(signs.run())
    with contextlib.suppress(asyncio.CancelledError):
        await life
    giving.cancel()
    log.info("stopped")
