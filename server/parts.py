"""The server's parts, each made from the settings; and what each tenant has of its own, wired."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from analytics.errors import LakeError
from analytics.rules.load import Rules, load_rules
from analytics.store.facts import EMBEDDED, Storage
from analytics.store.store import Store
from server.alerts.parts import alert_desk
from server.alerts.receivers.config import AlertsConfig, load_receivers
from server.alerts.rules import AlertRules, load_alert_rules
from server.audit import Audit
from server.core import Core
from server.cycles import Cycles
from server.database import DEFAULT_TENANT
from server.desk import Desk
from server.grants import Signer
from server.history import History, Told, remembered
from server.hub import Hub
from server.lately import Lately
from server.metrics.meter import Meter
from server.metrics.own import READINGS, Failures, Own, readings
from server.metrics.push import OtlpPusher, read_headers
from server.own_switches import OwnSwitches
from server.policing import Policing
from server.realm import Realm, Realms
from server.receipts import Fleet
from server.running import Plan
from server.schedule import Pair
from server.settings import Address, Settings
from server.state import State
from server.trend import Trends
from server.turn import Relays

log: Final = logging.getLogger("pathgrade.server")

STALE_CYCLES: Final = 3
ANY_HOSTS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, not bound


class Alerting(NamedTuple):
    """What raises alerts, and who is told of them."""

    rules: AlertRules
    config: AlertsConfig
    pairs: bool  # metrics path by path, too


def alerting_of(settings: Settings) -> Alerting:
    """Read the rules and the receivers. Raises ``SettingsError``."""
    rules = load_alert_rules(settings.alert_rules, readings=READINGS)
    return Alerting(rules, load_receivers(settings.alerts), settings.metrics_pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all tenants share."""

    release: str
    state: State
    store: Store
    rules: Rules
    plan: Plan
    signer: Signer
    data: Path
    alerting: Alerting
    own: Own


def realm_of(tenant: str, shared: Shared) -> Realm:
    """Wire what one tenant has of its own."""
    state, store, rules, own = shared.state, shared.store, shared.rules, shared.own
    hub, audit, lately = Hub(), Audit(state, tenant), Lately(rules)
    policing = Policing(
        clock=time.monotonic,
        sites=lambda: {agent.name: agent.site for agent in state.agents(tenant)},
        tags=lambda: state.controls.tags(tenant),
    )
    cycles = Cycles(hub, audit, shared.plan, signer=shared.signer, policing=policing)
    cycles.on_start = lately.began
    cycles.fleet = lambda: _fleet(state, tenant)
    cycles.planner.history = _history(store, tenant)
    core = Core(
        version=shared.release,
        tenant=tenant,
        state=state,
        store=store,
        hub=hub,
        cycles=cycles,
        rules=rules,
        lately=lately,
        signer=shared.signer,
        data=shared.data,
        period_us=round(shared.plan.period_s * 1_000_000),
    )
    desk = Desk(state, tenant, hub=hub, cycles=cycles, audit=audit, rules=rules)
    alerts = alert_desk(
        tenant,
        state=state,
        core=core,
        audit=audit,
        rules=shared.alerting.rules,
        profiles=rules,
        config=shared.alerting.config,
        own=(lambda: readings(own)) if tenant == DEFAULT_TENANT else dict,
        failures=own.failures,
    )
    # The server itself is the business of who runs it: the first tenant.
    ours = own if tenant == DEFAULT_TENANT else None
    meter = Meter(core, alerts, alerts.watcher, own=ours, pairs=shared.alerting.pairs)
    return Realm(
        tenant=tenant,
        hub=hub,
        audit=audit,
        own_switches=OwnSwitches(audit),
        cycles=cycles,
        lately=lately,
        core=core,
        desk=desk,
        alerts=alerts,
        meter=meter,
        trends=Trends(core),
    )


def _fleet(state: State, tenant: str) -> Fleet:
    """Say what decides of which tests both ends sign."""
    agents, tagged = state.agents(tenant), state.services(tenant)
    return Fleet(len(agents), frozenset(one.name for one in agents if one.services or tagged.get(one.name)))


def pusher_of(settings: Settings, realms: Realms, *, release: str, failures: Failures) -> OtlpPusher | None:
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


def store_of(settings: Settings) -> Store:
    """Open the store. Raises ``AnalyticsError`` or ``SettingsError``."""
    return Store.open(
        settings.data, limits=settings.limits(), keep=settings.keep(), storage=storage_of(settings)
    )


def storage_of(settings: Settings) -> Storage:
    """Say where sealed rows go. Raises ``SettingsError``."""
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


def plan_of(settings: Settings, stun: tuple[Address, ...], relays: Relays) -> Plan:
    """Say what the operator set about cycles and tests."""
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
        receipts=settings.receipts,
    )


def rules_of(settings: Settings) -> Rules:
    """Take the rules and the fleet's own; nothing is stale before three cycles, however long those are."""
    rules = load_rules(own=settings.profiles)
    return msgspec.structs.replace(
        rules, stale_after_s=max(rules.stale_after_s, STALE_CYCLES * settings.cycle_s)
    )
