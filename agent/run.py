"""READ FIRST for the agent: enrol, watch, hold the control connection, run what the server orders.

::

    watch (eBPF) ── flows ──┐
      │ pathgrade flows     ├─ outbox (disk) ── upload ── POST /v1/batches
    orders ── test_pair ────┘
      ▲ │
      │ └─ TestEnded, Signal ──┐
      └── control connection ──┴── WS /v1/control
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import msgspec

from agent import credential as kept
from agent import folder, health, privileges
from agent.addresses import own_addresses
from agent.config import Config
from agent.control import Control
from agent.credential import Credential
from agent.enrol import enrolled, renewed
from agent.errors import CredentialRefusedError, EnrolmentError, FolderError, ServerSilentError
from agent.footprint import be_prompt
from agent.host import Host
from agent.host import opened as opened_host
from agent.http import httpx
from agent.identity import Identity
from agent.local import SOCKET_NAME, serve
from agent.local_switch import MESH, PASSIVE, Switch
from agent.mesh.icmp import QuotedHeaders
from agent.mesh.refusals import Refusals
from agent.mesh.stamps import StampingLoop
from agent.orders import Orders
from agent.outbox import Outbox
from agent.passive.source import Passive, opened
from agent.retry import StateLine, backoff_s
from agent.tester import Shared, guard_of, tester_of
from agent.upload import Uploader
from analytics.measurement import Flow
from analytics.memory import be_small, settle
from analytics.systemd import Notifier, Signs
from analytics.wire import FromAgent, FromServer, Hello, LocalOff, Welcome
from ebpf.events import SessionSource

if TYPE_CHECKING:
    from agent.passive.watch import Watch

log: Final = logging.getLogger("pathgrade.agent")

LOG_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
SURVEY_WITHIN_S: Final = 5.0
"""After a connection; agents that come back together do not all ask the STUN server at once."""
LOOK_S: Final = 60.0
"""Between looks whether the certificate is to be renewed,"""
LOOKS: Final = 40
"""or so many in its life, if that is more."""
FLUSH_S: Final = 1.0
"""How much of what was seen a kill may cost."""


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises ``AgentError`` or ``EbpfError`` if it cannot go on.

    What needs root comes first, then root is given up, then the event loop and its threads start.
    """
    _log_to_stderr()
    be_small()
    with folder.exclusive(config.data), opened(config) as passive:
        if config.realtime:
            be_prompt()  # not before: the compiler of the eBPF programs would inherit it
        config = config.with_token()
        headers = _quoted_headers(config)
        _give_up_privileges(config, passive.source)
        with asyncio.Runner(loop_factory=StampingLoop) as runner:
            runner.run(_until_signalled(config, passive, headers))


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
            except CredentialRefusedError as error:
                log.warning("credential refused why=%r", str(error))
                await _ask_again(config, host.identity)
                await asyncio.sleep(backoff_s(attempt))


async def _ask_again(config: Config, identity: Identity) -> None:
    """Renew the credential, as where the server's clock was set; forget it only if the server says so."""
    known = kept.read(config)
    try:
        if isinstance(known, Credential):
            return kept.keep(config, await renewed(known, identity))
    except (ServerSilentError, EnrolmentError) as error:
        log.warning("not renewed, and kept why=%r", str(error))
        return None  # it is refused again once a server is there that knows what this is about
    except CredentialRefusedError as error:
        log.warning("enrolling again why=%r", str(error))
    return kept.forget(config)


class Agent:
    """The parts of one enrolled life, wired."""

    def __init__(self, host: Host, credential: Credential) -> None:
        self._host = host
        self._config = config = host.config
        self._credential = credential
        self._context = credential.context(host.identity.identity_key)
        self._client = httpx.AsyncClient(base_url=config.server, trust_env=False, verify=self._context)
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
        )
        tester = tester_of(shared) if config.mesh else None
        self._uploader = Uploader(host.outbox, self._client, sends=host.bounds.sends)
        self._certified = asyncio.Event()  # the certificate is in force, by this host's clock
        self._tell_health = asyncio.Event()
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
        host.bounds.thrift.serve(self._orders, self._tell_health.set)
        self._control = Control(
            credential,
            self._context,
            _hello(host),
            on_message=self._take,
            on_lost=self._orders.cancel_all,
            greet=self._greet,
        )

    async def work(self) -> None:
        """Do everything at once until cancelled or refused; what was measured is on disk afterwards."""
        settle()
        signs, switches = self._host.signs, self._host.switches
        try:
            with switches.heard(self._on_local_switch):
                async with asyncio.TaskGroup() as tasks:
                    essential = signs.tasks = {
                        "control": tasks.create_task(self._once_certified(self._control.run)),
                        "upload": tasks.create_task(self._once_certified(self._uploader.run)),
                        "certificate": tasks.create_task(self._keep_certified()),
                        "flush": tasks.create_task(self._keep_flushing()),
                        "health": tasks.create_task(self._keep_telling_health()),
                        "limits": tasks.create_task(self._host.bounds.keep()),
                    }
                    if switches.watching is not None:
                        essential["switch"] = switches.watching
                    if self._host.capture is not None:
                        essential["watch"] = tasks.create_task(self._host.capture.run(self._watch))
        except ExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, CredentialRefusedError):
                    raise error from None
            raise
        finally:
            signs.tasks = {}
            if self._surveying is not None:
                self._surveying.cancel()
            await self._orders.close()
            await self._client.aclose()
            _flush_all(self._host.outbox)

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
        self._tell_health.set()

    def _on_switched(self, on: bool) -> None:
        """Say so at once; what is in front of this host is asked only while active tests are on."""
        self._tell_health.set()
        if self._surveying is not None:
            self._surveying.cancel()
        if on and self._welcome is not None and self._welcome.stun:
            self._surveying = asyncio.create_task(self._tell_nat(self._welcome.stun))

    async def _tell_nat(self, stun: Sequence[str]) -> None:
        """Find out what is in front of this host: it may have moved while it was not connected."""
        from agent.mesh.survey import survey  # noqa: PLC0415  # not loaded where the mesh is off

        await asyncio.sleep(random.uniform(0, SURVEY_WITHIN_S))  # noqa: S311  # spreads load
        report = await survey(stun)
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

    async def _keep_certified(self) -> None:
        """Renew the certificate at half of its life; what runs goes on. Raises ``CredentialRefusedError``.

        Looked at now and then, as a sleep does not count the time that a laptop is shut.
        """
        line, share = StateLine(log), random.uniform(0.4, 0.5)  # noqa: S311  # spreads load
        attempt = 0
        while True:
            try:
                if self._credential.is_due(kept.now_s(), share=share):
                    await self._renew()
                attempt = 0
            except (ServerSilentError, EnrolmentError, FolderError, OSError) as error:
                line.say(f"certificate not renewed, or not kept why={str(error)!r}", level=logging.WARNING)
                attempt += 1
            if not self._credential.is_due(kept.now_s(), share=1.0):
                self._certified.set()
            look_s = min(LOOK_S, self._credential.life_s / LOOKS)
            await asyncio.sleep(backoff_s(attempt) if attempt else look_s)

    async def _renew(self) -> None:
        self._credential = await renewed(self._credential, self._host.identity)
        self._credential.shown_in(self._context, self._host.identity.identity_key)
        log.info("certificate renewed life_s=%d", self._credential.life_s)
        kept.keep(self._config, self._credential)

    async def _once_certified(self, talk: Callable[[], Awaitable[None]]) -> None:
        """Talk to the server once there is a certificate that it will take."""
        await self._certified.wait()
        await talk()

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(_flush_all, self._host.outbox)
            self._uploader.soon()

    async def _keep_telling_health(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(health.EVERY_S):
                    await self._tell_health.wait()
            self._tell_health.clear()
            now = health.health(
                self._host.passive.source.counters() if self._host.passive.source else None,
                batches_waiting=len(self._host.outbox),
                packets_refused=self._orders.packets_refused,
                refusals=self._refusals,
                grants_refused=self._guard.refused,
                receipts_refused=self._unsigned,
                servers_refused=self._control.unproven + self._uploader.unproven,
                mesh=self._orders.on,
                local_off=self._host.switches.off[MESH],
                passive_off=self._host.switches.off[PASSIVE],
                bytes_sent=health.sent_bytes(),
                governor=self._host.bounds.thrift.governor,
                dropped=self._dropped(),
            )
            log.info("%s", health.line(now))
            with contextlib.suppress(ServerSilentError):  # the next one says as much
                await self._control.say(now)

    def _dropped(self) -> dict[str, int]:
        """What found no room, by its name in docs/limits.md."""
        return {
            "outbox rows": self._host.outbox.dropped_rows,
            "outbox batches": self._host.outbox.dropped_batches,
            "signals": self._orders.signals_dropped,
            "flow rows": self._watcher.dropped if self._watcher is not None else 0,
        }

    async def _say(self, message: FromAgent) -> None:
        await self._control.say(message)


def _quoted_headers(config: Config) -> QuotedHeaders | None:
    """Open the raw ICMP sockets while this process may."""
    if not (config.mesh and config.quoted_headers):
        return None
    headers = QuotedHeaders.open()
    if headers is None:
        log.warning("quoted_headers is set, but no raw ICMP socket can be opened: start it with CAP_NET_RAW")
    return headers


def _give_up_privileges(config: Config, source: SessionSource | None) -> None:
    """Stop being root. Raises ``PrivilegesError`` or ``FolderError``, also where nothing works after it."""
    to = privileges.account(config.user) if os.geteuid() == 0 else None
    if to is not None:
        folder.hand_over(config.data, uid=to.uid, gid=to.gid)
    now = privileges.drop(source.source if source else "off", to)
    log.info("privileges %s", now)
    uid, gid = now.uids[1], now.gids[1]
    folder.require_usable(config.data, uid=uid, gid=gid)
    privileges.require_program(uid)


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


def _log_to_stderr() -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    for chatty in ("httpx", "httpcore", "websockets", "aioice", "aiortc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
