"""READ FIRST for the server: the parts, wired.

::

    agents ── agent listener ─┬─ enrolment ── state (SQLite)      people ── report listener ── visitor, tenant
                              ├─ ingest ── store (spool, Parquet)                                  │
                              └─ signalling ── realm: hub ── cycles (the plan, run) ── desk, core ─┘
    agents ── STUN (UDP)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from fastapi import FastAPI

from analytics.clock import now_us
from analytics.errors import AnalyticsError, LakeError
from analytics.rules.load import Rules, load_rules
from analytics.store.facts import EMBEDDED, Storage
from analytics.store.store import Store
from server import enrolment, ingest, signalling
from server.accounts import office
from server.accounts.office import Office
from server.agent_app import agent_app
from server.alerts.parts import alert_desk, oldest_waiting_us
from server.alerts.receivers.config import AlertsConfig, load_receivers
from server.alerts.rules import AlertRules, load_alert_rules
from server.api.events import Events
from server.audit import Audit
from server.background import Background
from server.core import Core
from server.cycles import Cycles
from server.database import DEFAULT_TENANT
from server.desk import Desk
from server.errors import ServerError
from server.grants import Signer
from server.history import History, Told, remembered
from server.hub import Hub
from server.ingest import Ingest
from server.lately import Lately
from server.listeners import Listener, given_socket, http_listener, stun_responders, tcp_socket
from server.metrics.meter import Meter
from server.metrics.own import READINGS, Failures, Own, readings
from server.metrics.push import OtlpPusher, read_headers
from server.pages.app import report_app
from server.realm import Realm, Realms
from server.running import Plan
from server.schedule import Pair
from server.settings import Address, Settings
from server.settings_told import settings_told
from server.signalling import Signalling
from server.state import State
from server.stun import Counters
from server.trend import Trends
from server.turn import Relays

log: Final = logging.getLogger("pathgrade.server")

LOG_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
FIRST_RUN: Final = (
    "no account yet: pathgrade server account add NAME --role admin --data DIR makes one, or, on this host,"
    " %s/setup with the code %s"
)
STALE_CYCLES: Final = 3
FILED_EACH_S: Final = 3_600.0
SWITCH_S: Final = 0.001
"""How long a thread may hold Python's lock while others want it: a page waits for that at each of its turns
beside a thread that checks a batch or builds a board. By itself Python takes 5 ms."""
LOOK_S: Final = 1.0
"""How often it is looked whether pages' answers are to be made anew."""
Tasks = Iterable[asyncio.Task[None]]
ANY_HOSTS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, not bound


@dataclass(frozen=True, slots=True)
class Running:
    """Where a running server is reached, port 0 resolved, and its parts for who embeds it."""

    agents: Address
    report: Address
    stun: tuple[Address, ...]
    core: Core  # the first tenant's
    cycles: Cycles
    realms: Realms
    people: Office
    apps: tuple[FastAPI, FastAPI]  # of agents and of the report


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``ServerError`` or ``AnalyticsError`` if it cannot start."""
    _log_to_stderr()
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(_until_signalled(settings))


async def _until_signalled(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(settings) as running:
        log.info("ready agents=%s report=%s stun=%s", running.agents, running.report, _join(running.stun))
        if running.people.known.first_run():
            log.info(FIRST_RUN, running.people.public_url or f"http://{running.report}", running.people.code)
        await stop.wait()
        log.info("stopping")


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Running]:
    """Run a server for as long as the context lasts: nothing acknowledged is lost when it ends.

    What was opened first is closed last: state and store outlive everything that uses them.
    """
    relays = Relays(settings.turn, settings.turn_secret())
    alerting = Alerting(
        load_alert_rules(settings.alert_rules, readings=READINGS),
        load_receivers(settings.alerts),
        settings.metrics_pairs,
    )
    async with AsyncExitStack() as opened:
        aside = [opened.enter_context(contextlib.closing(Background(name))) for name in ("upkeep", "board")]
        state = opened.enter_context(contextlib.closing(State.open(settings.data)))
        people = opened.enter_context(office.opened(settings))
        store = opened.enter_context(
            contextlib.closing(
                Store.open(
                    settings.data,
                    limits=settings.limits(),
                    keep=settings.keep(),
                    storage=_storage(settings),
                )
            )
        )
        sockets = _listening(settings, opened)
        responders = await stun_responders(settings.stun, Counters())
        opened.callback(_close_all, responders)
        stun = tuple(_address_of(responder.get_extra_info("sockname")) for responder in responders)

        rules, signer = _rules(settings), Signer.open(settings.data)
        plan = _plan(settings, stun, relays)
        release = version("pathgrade")

        own = Own(data=settings.data, store=store)

        def realm(tenant: str) -> Realm:
            return _realm(
                tenant,
                release=release,
                state=state,
                store=store,
                rules=rules,
                plan=plan,
                signer=signer,
                data=settings.data,
                alerting=alerting,
                own=own,
            )

        realms = Realms(realm, state.tenants())
        opened.callback(realms.close)
        own.tallies = lambda: [one.tally for realm in realms.all() for one in realm.alerts.couriers]
        own.oldest_waiting_us = lambda: oldest_waiting_us(realm.alerts for realm in realms.all())
        doors = (
            enrolment.router(state, signer.public_key),
            ingest.router(Ingest(state, store, heard=realms.hear, refused=own.refused)),
            signalling.router(Signalling(state, realms, signer, version=release)),
        )
        pusher = _pusher(settings, realms, release=release, failures=own.failures)
        addresses = [_address_of(sock.getsockname()) for sock in sockets]
        events, sealed = Events(), asyncio.Event()
        apps = (
            agent_app(*doors),
            report_app(
                realms,
                people.known,
                version=release,
                office=people,
                events=events,
                settings=settings_told(settings, os.environ),
            ),
        )

        async with asyncio.TaskGroup() as tasks:
            keepers = [
                tasks.create_task(_file_days(realms)),
                tasks.create_task(_seal(store, realms, settings.seal_s, own.failures, sealed)),
                tasks.create_task(_keep_up(_upkeep(store, state, settings), aside[0], own.failures, sealed)),
                tasks.create_task(_keep_ready(realms, aside[1])),
                tasks.create_task(people.run()),
            ]
            if pusher is not None:
                keepers.append(tasks.create_task(pusher.run()))
            served = {
                (listener := http_listener(app)): tasks.create_task(listener.serve([sock]))
                for app, sock in zip(apps, sockets, strict=True)
            }
            realms.start(tasks)
            first = realms.of(DEFAULT_TENANT)
            try:
                yield Running(
                    addresses[0], addresses[1], stun, first.core, first.cycles, realms, people, apps
                )
            finally:
                events.close()
                await _stop(realms.meshes, served, [*realms.keepers, *keepers])


class Alerting(NamedTuple):
    """What raises alerts, and who is told of them."""

    rules: AlertRules
    config: AlertsConfig
    pairs: bool  # metrics path by path, too


def _realm(
    tenant: str,
    *,
    release: str,
    state: State,
    store: Store,
    rules: Rules,
    plan: Plan,
    signer: Signer,
    data: Path,
    alerting: Alerting,
    own: Own,
) -> Realm:
    """Wire what one tenant has of its own."""
    hub, audit, lately = Hub(), Audit(state, tenant), Lately(rules)
    cycles = Cycles(hub, audit, plan, signer=signer)
    cycles.on_start = lately.began
    cycles.planner.history = _history(store, tenant)
    core = Core(
        version=release,
        tenant=tenant,
        state=state,
        store=store,
        hub=hub,
        cycles=cycles,
        rules=rules,
        lately=lately,
        signer=signer,
        data=data,
        period_us=round(plan.period_s * 1_000_000),
    )
    desk = Desk(state, tenant, hub=hub, cycles=cycles, audit=audit, rules=rules)
    alerts = alert_desk(
        tenant,
        state=state,
        core=core,
        audit=audit,
        rules=alerting.rules,
        profiles=rules,
        config=alerting.config,
        own=(lambda: readings(own)) if tenant == DEFAULT_TENANT else dict,
        failures=own.failures,
    )
    # The server itself is the business of who runs it: the first tenant.
    ours = own if tenant == DEFAULT_TENANT else None
    meter = Meter(core, alerts, alerts.watcher, own=ours, pairs=alerting.pairs)
    return Realm(
        tenant=tenant,
        hub=hub,
        audit=audit,
        cycles=cycles,
        lately=lately,
        core=core,
        desk=desk,
        alerts=alerts,
        meter=meter,
        trends=Trends(core),
    )


def _listening(settings: Settings, opened: AsyncExitStack) -> tuple[socket.socket, socket.socket]:
    """Open both listeners' sockets before anything is promised to anyone."""
    agents = opened.enter_context(tcp_socket(settings.agents, "agents"))
    if settings.report_fd is not None:
        return agents, opened.enter_context(given_socket(settings.report_fd))
    return agents, opened.enter_context(tcp_socket(settings.report, "the report"))


def _pusher(settings: Settings, realms: Realms, *, release: str, failures: Failures) -> OtlpPusher | None:
    """Who sends metrics on; None where nobody is to have them. Raises ``SettingsError``."""
    if settings.otlp_url is None:
        return None
    return OtlpPusher(
        settings.otlp_url,
        lambda: {realm.tenant: realm.meter.families() for realm in realms.all()},
        version=release,
        interval_s=settings.otlp_interval_s,
        headers=read_headers(settings.otlp_headers_file),
        failures=failures,
    )


def _storage(settings: Settings) -> Storage:
    place = settings.lake()
    if place is None:
        return EMBEDDED
    from analytics.store.lake_storage import LakeStorage  # noqa: PLC0415  # only who has a lake loads it

    return LakeStorage(place, os.environ)


def _history(store: Store, tenant: str) -> dict[Pair, History]:
    """Recall what was tested; without the lake, start as if nothing had been."""
    try:
        # As columns: a million readings as structs take the better part of a minute, with nobody served.
        latest = store.latest_table(tenant, Told._fields)
        return remembered(map(Told.of, *(latest[name].to_pylist() for name in Told._fields)))
    except LakeError as error:
        log.warning("earlier tests are not known why=%r", str(error))
        return {}


def _plan(settings: Settings, stun: tuple[Address, ...], relays: Relays) -> Plan:
    return Plan(
        period_s=settings.cycle_s,
        settle_s=settings.settle_s,
        deadline_s=settings.test_deadline_s,
        probe=settings.plan,
        stun=tuple((None if at.host in ANY_HOSTS else at.host, at.port) for at in stun),
        relays=relays,
        budget_cpu_bp=settings.budget_cpu_bp,
        budget_bytes_per_hour=settings.budget_bytes_per_hour,
        jitter_s=settings.jitter_s,
        tests_at_once=settings.tests_at_once,
        watch_s=settings.watch_s,
    )


def _rules(settings: Settings) -> Rules:
    """Take the rules and the fleet's own; nothing is stale before three cycles, however long those are."""
    rules = load_rules(own=settings.profiles)
    return msgspec.structs.replace(
        rules, stale_after_s=max(rules.stale_after_s, STALE_CYCLES * settings.cycle_s)
    )


async def _seal(
    store: Store, realms: Realms, period_s: float, failures: Failures, sealed: asyncio.Event
) -> None:
    """Turn acknowledged rows into Parquet after each cycle and every ``period_s``; a last time at the end."""
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await realms.ended.wait()
            realms.ended.clear()
            await asyncio.to_thread(_seal_once, store, failures)
            sealed.set()
            for realm in realms.all():
                realm.alerts.watcher.woken.set()
    finally:
        _seal_once(store, failures)


def _seal_once(store: Store, failures: Failures) -> None:
    try:
        store.seal()
    except AnalyticsError as error:
        # Nothing is lost: the rows stay in the spool, and the next seal takes them.
        failures.seal_failures += 1
        log.error("not sealed why=%r try=%r", str(error), error.remedy)
    except Exception:  # a mistake of ours must not end the taking in, which goes on from the spool
        failures.seal_failures += 1
        log.exception("not sealed")


def _upkeep(store: Store, state: State, settings: Settings) -> tuple[Callable[[], None], ...]:
    """Say what is kept up after each sealing; a step that fails does not hold up the next."""
    return store.upkeep, partial(_prune_audit, state, settings)


async def _keep_up(
    steps: Iterable[Callable[[], None]], aside: Background, failures: Failures, sealed: asyncio.Event
) -> None:
    """Roll up, compact, let go of what is old after each sealing; beside it, as it may take minutes."""
    while True:
        await sealed.wait()
        sealed.clear()
        for step in steps:
            await aside.run(_keep_up_once, step, failures)


def _prune_audit(state: State, settings: Settings) -> None:
    if gone := state.prune_audit(keep_days=settings.keep_audit_days, now_us=now_us()):
        log.info("let go of %d audit rows older than they are kept", gone)


def _keep_up_once(step: Callable[[], None], failures: Failures) -> None:
    try:
        step()
    except (AnalyticsError, ServerError) as error:
        failures.upkeep_failures += 1
        log.error("upkeep failed why=%r try=%r", str(error), error.remedy)
    except Exception:  # as above: rollups can wait, agents cannot
        failures.upkeep_failures += 1
        log.exception("upkeep failed")


async def _file_days(realms: Realms) -> None:
    """File what each day said, for SLA reports: readings are let go of before anyone may ask."""
    while True:
        await asyncio.sleep(FILED_EACH_S)
        for realm in realms.all():
            await asyncio.to_thread(_file_days_once, realm)


def _file_days_once(realm: Realm) -> None:
    try:
        realm.core.file_days()
    except AnalyticsError as error:
        log.error("days not filed tenant=%s why=%r try=%r", realm.tenant, str(error), error.remedy)
    except Exception:  # as above
        log.exception("days not filed tenant=%s", realm.tenant)


async def _keep_ready(realms: Realms, aside: Background) -> None:
    """Have ready what pages of a large fleet ask for; the first time at once, as people wait for it."""
    for realm in realms.all():
        await asyncio.to_thread(_keep_ready_once, realm.core)
    while True:
        for realm in realms.all():
            await aside.run(_keep_ready_once, realm.core)
        await asyncio.sleep(LOOK_S)


def _keep_ready_once(core: Core) -> None:
    try:
        core.keep_ready()
    except AnalyticsError as error:
        log.error("the board is not up to date why=%r try=%r", str(error), error.remedy)
    except Exception:  # as above: pages show the board before
        log.exception("the board is not up to date")


async def _stop(meshes: Tasks, served: dict[Listener, asyncio.Task[None]], keepers: Tasks) -> None:
    """End in order: no new tests, no new requests, then write what is left."""
    for mesh in meshes:
        mesh.cancel()
    for listener in served:
        listener.stop()
    await asyncio.wait(served.values())
    for keeper in keepers:
        keeper.cancel()
    await asyncio.wait(keepers)


def _close_all(transports: Iterable[asyncio.DatagramTransport]) -> None:
    for transport in transports:
        transport.close()


def _address_of(sockname: tuple[str, int]) -> Address:
    return Address(*sockname[:2])


def _join(addresses: Iterable[Address]) -> str:
    return ",".join(map(str, addresses)) or "off"


def _log_to_stderr() -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
