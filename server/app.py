"""READ FIRST for the server: the parts, wired.

::

    agents ── agent listener ─┬─ enrolment, renewal ── state      people ── report listener ── visitor, tenant
                              ├─ ingest ── store (spool, Parquet)                                  │
                              └─ signalling ── realm: hub ── cycles (the plan, run) ── desk, core ─┘
    agents ── STUN (UDP)
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI

from analytics.memory import be_small, settle
from analytics.systemd import Notifier, Signs
from server import enrolment, ingest, keepers, renewal, signalling
from server.accounts import office
from server.accounts.office import Office
from server.agent_app import agent_app
from server.agent_tls import listener_context
from server.alerts.parts import oldest_waiting_us
from server.alerts.receivers.config import of_nobody
from server.api.events import Events
from server.authority import Authority, keep_presenting
from server.background import Background
from server.core import Core
from server.credentials import Gate
from server.cycles import Cycles
from server.database import DEFAULT_TENANT
from server.door import Door, make_room
from server.grants import Signer
from server.ingest import Ingest
from server.listeners import Listener, given_socket, http_listener, stun_responders, tcp_socket
from server.metrics.own import Dropped, Own
from server.pages.app import report_app
from server.parts import Shared, alerting_of, plan_of, pusher_of, realm_of, rules_of, store_of
from server.realm import Realms
from server.renewal import Issuer
from server.settings import Address, Settings
from server.settings_told import settings_told
from server.signalling import Signalling
from server.state import State
from server.stun import Counters
from server.turn import Relays

log: Final = logging.getLogger("pathgrade.server")

LOG_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
FIRST_RUN: Final = (
    "no account yet: pathgrade server account add NAME --role admin --data DIR makes one, or, on this host,"
    " %s/setup with the code %s"
)
SWITCH_S: Final = 0.001
"""How long a thread may hold Python's lock while others want it: a page waits for that at each of its turns
beside a thread that checks a batch or builds a board. By itself Python takes 5 ms."""
HEAPS: Final = 2
"""Of glibc's. By itself it begins up to sixteen on two CPUs, and each keeps what is freed."""
GARBAGE: Final = (2_000, 10, 100)
"""How many objects come before the collector looks through the young ones, and those of middle age; and how
often that before all (``gc.set_threshold``). A board alone is 100,000, which die without it; it stops all
threads for 100 ms to find that out, and by itself would do so every few seconds."""
MAPPED_FROM_BYTES: Final = 128 * 1024
"""asyncio has a buffer of 256 KiB for each TLS connection, of which hardly any is used: mapped, what is not
used takes no memory."""
Tasks = Iterable[asyncio.Task[None]]


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
    be_small(HEAPS, MAPPED_FROM_BYTES)
    make_room()
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(_until_signalled(settings))


async def _until_signalled(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    notifier = Notifier.from_environment()
    async with serving(settings, Signs(notifier)) as running:
        _settle()
        log.info("ready agents=%s report=%s stun=%s", running.agents, running.report, _join(running.stun))
        if running.people.known.first_run():
            log.info(FIRST_RUN, running.people.public_url or f"http://{running.report}", running.people.code)
        notifier.ready()
        await stop.wait()
        notifier.stopping()
        log.info("stopping")


def _settle() -> None:
    """Look through what is there from the start for garbage once, and never again.

    Half a million pairs that are remembered took it a second, each time, in which nobody was answered.
    """
    settle()
    gc.set_threshold(*GARBAGE)


@asynccontextmanager
async def serving(settings: Settings, signs: Signs | None = None) -> AsyncIterator[Running]:
    """Run a server for as long as the context lasts: nothing acknowledged is lost when it ends.

    ``signs`` are of its life, where somebody waits for them.

    What was opened first is closed last: state and store outlive everything that uses them.
    """
    relays, alerting = Relays(settings.turn, settings.turn_secret()), alerting_of(settings)
    async with AsyncExitStack() as opened:
        aside = [opened.enter_context(contextlib.closing(Background(name))) for name in ("upkeep", "board")]
        state = opened.enter_context(contextlib.closing(State.open(settings.data)))
        people = opened.enter_context(office.opened(settings))
        store = opened.enter_context(contextlib.closing(store_of(settings)))
        sockets = _listening(settings, opened)
        asked = Counters()
        stun = await _stun(settings, asked, opened)
        own = Own(data=settings.data, store=store)
        signer = Signer.open(settings.data)
        opened.callback(keepers.sign_once, state, signer, own.failures)
        shared = Shared(
            release=version("pathgrade"),
            state=state,
            store=store,
            rules=rules_of(settings),
            plan=plan_of(settings, stun, relays),
            signer=signer,
            data=settings.data,
            alerting=alerting,
            own=own,
        )
        authority = Authority.open(settings.data)
        tls = listener_context(authority, own.turned_away)
        realms = Realms(lambda tenant: realm_of(tenant, shared), state.tenants())
        opened.callback(realms.close)
        for said in of_nobody(alerting.config, state.tenants()):
            log.warning(said)
        own.tallies = lambda: [one.tally for realm in realms.all() for one in realm.alerts.couriers]
        own.oldest_waiting_us = lambda: oldest_waiting_us(realm.alerts for realm in realms.all())
        pusher = pusher_of(settings, realms, release=shared.release, failures=own.failures)
        addresses = [_address_of(sock.getsockname()) for sock in sockets]
        events, sealed = Events(), asyncio.Event()
        gate = Gate(state, refused=own.turned_away)
        doors = Door(own.turned_away, knows=gate.knows), Door(own.turned_away)
        own.doors, own.stun = doors, asked
        own.dropped = lambda: Dropped(
            audit_rows=sum(realm.audit.dropped for realm in realms.all()),
            too_slow=sum(realm.hub.too_slow for realm in realms.all()),
        )
        apps = (
            _agents_app(settings, shared, realms, authority, gate),
            _report_app(settings, shared, realms, people, events),
        )

        async with asyncio.TaskGroup() as tasks:
            steps = keepers.upkeep_of(store, state, settings, signer)
            running = [
                tasks.create_task(keepers.file_days(realms), name="file days"),
                tasks.create_task(
                    keepers.seal(store, realms, settings.seal_s, own.failures, sealed), name="seal"
                ),
                tasks.create_task(keepers.keep_up(steps, aside[0], own.failures, sealed), name="keep up"),
                tasks.create_task(keepers.keep_ready(realms, aside[1], sealed), name="keep ready"),
                tasks.create_task(keepers.sign_audit(state, signer, own.failures), name="sign audit"),
                tasks.create_task(people.run(), name="accounts"),
                tasks.create_task(keep_presenting(authority, tls), name="certificate"),
                tasks.create_task(keepers.keep_out(state, realms), name="keep out"),
                tasks.create_task(keepers.keep_tidy(), name="keep tidy"),
            ]
            if pusher is not None:
                running.append(tasks.create_task(pusher.run(), name="OTLP"))
            served = {
                listener: tasks.create_task(listener.serve([sock]))
                for listener, sock in zip(map(http_listener, apps, (tls, None), doors), sockets, strict=True)
            }
            realms.start(tasks)
            if signs is not None:
                signs.tasks = {
                    **dict(zip(("agents' listener", "report's listener"), served.values(), strict=True)),
                    **{task.get_name(): task for task in [*running, *realms.keepers, *realms.meshes]},
                }
                running.append(tasks.create_task(signs.run()))
            first = realms.of(DEFAULT_TENANT)
            try:
                yield Running(
                    addresses[0], addresses[1], stun, first.core, first.cycles, realms, people, apps
                )
            finally:
                events.close()
                await _stop(realms.meshes, served, [*realms.keepers, *running])


async def _stun(settings: Settings, asked: Counters, opened: AsyncExitStack) -> tuple[Address, ...]:
    responders = await stun_responders(settings.stun, asked)
    opened.callback(_close_all, responders)
    return tuple(_address_of(responder.get_extra_info("sockname")) for responder in responders)


def _agents_app(
    settings: Settings, shared: Shared, realms: Realms, authority: Authority, gate: Gate
) -> FastAPI:
    """Whoever shows the certificate of an agent comes in here, and who is to get one."""
    state, signer, turned_away = shared.state, shared.signer, shared.own.turned_away
    known = renewal.vouched(authority, signer)
    moved_to = known if authority.former else None
    issuer = Issuer(state, authority, life_s=settings.certificate_s, moved_to=moved_to, refused=turned_away)
    return agent_app(
        enrolment.router(state, issuer, signer.public_key, turned_away),
        renewal.router(issuer, known),
        ingest.router(Ingest(gate, shared.store, heard=realms.hear, refused=shared.own.refused)),
        signalling.router(Signalling(state, gate, realms, signer, version=shared.release)),
    )


def _report_app(
    settings: Settings, shared: Shared, realms: Realms, people: Office, events: Events
) -> FastAPI:
    """People, and programs with a token, come in here."""
    return report_app(
        realms,
        people.known,
        version=shared.release,
        office=people,
        events=events,
        settings=settings_told(settings, os.environ),
    )


def _listening(settings: Settings, opened: AsyncExitStack) -> tuple[socket.socket, socket.socket]:
    """Open both listeners' sockets before anything is promised to anyone."""
    agents = opened.enter_context(tcp_socket(settings.agents, "agents"))
    if settings.report_fd is not None:
        return agents, opened.enter_context(given_socket(settings.report_fd))
    return agents, opened.enter_context(tcp_socket(settings.report, "the report"))


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
