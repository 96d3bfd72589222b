"""What the server does by itself, beside what agents and people ask for: seal, keep up, make ready, file.

Each runs until it is cancelled. What fails is said and tried again: a mistake of ours in one of these must
not end the taking in of measurements.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import pyarrow as pa

from analytics.clock import now_us
from analytics.errors import AnalyticsError
from analytics.memory import give_back
from analytics.store.store import UNSEALED_BYTES_MOST, Store
from server.audit_age import Ages
from server.audit_seal import Sealer
from server.background import Background
from server.core import Core
from server.errors import ServerError
from server.hub import OVER, REVOKED
from server.metrics.own import Failures
from server.realm import Realm, Realms
from server.settings import Settings
from server.state import State

log: Final = logging.getLogger("pathgrade.server")

FILED_EACH_S: Final = 3_600.0
SIGNED_EACH_S: Final = 60.0
"""Rows of so long may be changed unseen by who writes into the state's file; earlier ones no more."""
LOOK_S: Final = 1.0
"""How often it is looked whether pages' answers are to be made anew, and how much waits to be sealed."""
KEPT_OUT_S: Final = 2.0
"""How often it is looked who was revoked."""
TIDY_S: Final = 60.0
"""How often it is looked for garbage that refers to itself. By itself Python would wait for two millions of
objects of it (``server.app.GARBAGE``), which is hundreds of megabytes; the look takes a tenth of a second."""
SEAL_FROM_BYTES: Final = UNSEALED_BYTES_MOST // 4
"""Waiting in memory: where much comes, it is sealed before it comes to where batches are refused."""


async def seal(
    store: Store, realms: Realms, period_s: float, failures: Failures, sealed: asyncio.Event
) -> None:
    """Turn acknowledged rows into Parquet: after a cycle, every ``period_s``, when many wait, at the end."""
    most = SEAL_FROM_BYTES
    try:
        while True:
            await _until_due(store, realms.ended, period_s, most)
            realms.ended.clear()
            done = await asyncio.to_thread(_seal_once, store, failures)
            most = SEAL_FROM_BYTES if done else UNSEALED_BYTES_MOST  # what fails is not tried each second
            sealed.set()
            for realm in realms.all():
                realm.alerts.watcher.woken.set()
    finally:
        _seal_once(store, failures)


async def _until_due(store: Store, ended: asyncio.Event, period_s: float, most: int) -> None:
    """Wait for the end of a cycle, for ``period_s``, or until ``most`` bytes are waiting."""
    for _ in range(math.ceil(period_s / LOOK_S)):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LOOK_S, period_s)):
                await ended.wait()
                return
        if store.health().unsealed_bytes > most:
            return


def _seal_once(store: Store, failures: Failures) -> bool:
    """Tell whether it is done."""
    try:
        store.seal()
        return True
    except AnalyticsError as error:
        # Nothing is lost: the rows stay in the spool, and the next seal takes them.
        failures.seal_failures += 1
        log.error("not sealed why=%r try=%r", str(error), error.remedy)
    except Exception:  # a mistake of ours must not end the taking in, which goes on from the spool
        failures.seal_failures += 1
        log.exception("not sealed")
    return False


async def sign_audit(state: State, sealer: Sealer, failures: Failures) -> None:
    """Sign how far the chains of audit rows have come, as long as it runs; the last time: ``sign_once``."""
    while True:
        await asyncio.sleep(SIGNED_EACH_S)
        await asyncio.to_thread(sign_once, state, sealer, failures)


def sign_once(state: State, sealer: Sealer, failures: Failures) -> None:
    """Sign, or say loudly why not."""
    try:
        for mark in state.sign_audit(sealer, now_us=now_us()):
            told = (mark.tenant, mark.chain, mark.seq, mark.hash.hex())
            log.info("audit chain signed tenant=%s head=%s:%d:%s", *told)
    except (AnalyticsError, ServerError) as error:
        failures.audit_failures += 1
        log.error("audit not signed why=%r try=%r", str(error), error.remedy)
    except Exception:  # as above
        failures.audit_failures += 1
        log.exception("audit not signed")


def upkeep_of(
    store: Store, state: State, settings: Settings, sealer: Sealer
) -> tuple[Callable[[], None], ...]:
    """Say what is kept up after each sealing; a step that fails does not hold up the next."""
    return store.upkeep, partial(_prune_audit, state, settings, sealer)


async def keep_up(
    steps: Iterable[Callable[[], None]], aside: Background, failures: Failures, sealed: asyncio.Event
) -> None:
    """Roll up, compact, let go of what is old after each sealing; beside it, as it may take minutes.

    And once at the start, when boards are ready: what is sealed and not taken up is slow to ask for.
    """
    while True:
        await sealed.wait()
        sealed.clear()
        for step in steps:
            await aside.run(_keep_up_once, step, failures)


def _prune_audit(state: State, settings: Settings, sealer: Sealer) -> None:
    keep = Ages(settings.keep_audit_days, settings.keep_test_audit_days)
    if gone := state.prune_audit(keep, now_us=now_us(), sealer=sealer):
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


async def file_days(realms: Realms) -> None:
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


async def keep_ready(realms: Realms, aside: Background, first: asyncio.Event) -> None:
    """Have ready what pages of a large fleet ask for; ``first``: once that is so, it is told.

    All of it in a thread that stands back, the first time too: the board's database has its workers from the
    thread that opens it, for hours.
    """
    await _make_ready(realms, aside)
    first.set()
    while True:
        await asyncio.sleep(LOOK_S)
        await _make_ready(realms, aside)


async def _make_ready(realms: Realms, aside: Background) -> None:
    for realm in realms.all():
        await aside.run(_keep_ready_once, realm.core)


def _keep_ready_once(core: Core) -> None:
    try:
        core.keep_ready()
    except AnalyticsError as error:
        log.error("the board is not up to date why=%r try=%r", str(error), error.remedy)
    except Exception:  # as above: pages show the board before
        log.exception("the board is not up to date")


async def keep_tidy() -> None:
    """Look for garbage now and then, and give back what is free: Arrow keeps a pool beside the heap."""
    while True:
        await asyncio.sleep(TIDY_S)
        await asyncio.to_thread(_give_back)


def _give_back() -> None:
    give_back()
    pa.default_memory_pool().release_unused()


async def keep_out(state: State, realms: Realms) -> None:
    """Disconnect who was revoked, here or by a command beside this server, and whose certificate is over."""
    while True:
        try:
            await asyncio.to_thread(state.see_revoked)
        except ServerError as error:
            log.error("revocations not read why=%r try=%r", str(error), error.remedy)
        except Exception:  # as above; what was revoked here is known all the same
            log.exception("revocations not read")
        _disconnect(state, realms, now_us())
        await asyncio.sleep(KEPT_OUT_S)


def _disconnect(state: State, realms: Realms, at_us: int) -> None:
    for realm in realms.all():
        for connection in realm.hub.connections():
            agent = connection.agent
            if state.is_revoked(agent.tenant, agent.name):
                log.warning("agent revoked name=%s", agent.name)
                realm.hub.expel(connection, REVOKED, "it was revoked")
            elif not state.is_enrolled(agent):
                realm.hub.expel(connection, REVOKED, "its name is another's now")
            elif max(connection.until_us, state.certified_until_us(agent)) <= at_us:
                realm.hub.expel(connection, OVER, "its certificate is over")
