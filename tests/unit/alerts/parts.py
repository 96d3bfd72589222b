"""A tenant's desk over a made-up fleet, with state on disk. Only tests import this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from analytics.measurement import Letter
from analytics.rules.load import load_rules
from server.alerts.desk import AlertDesk
from server.alerts.parts import alert_desk
from server.alerts.receivers.config import NO_RECEIVERS, AlertsConfig
from server.alerts.rules import AlertRules, load_alert_rules
from server.audit import Audit
from server.metrics.meter import Meter
from server.metrics.own import Failures, Own, readings
from server.state import State
from tests.unit.web.fleet import FixtureCore

RULES = load_alert_rules()
AT_ONCE = msgspec.structs.replace(
    RULES,
    rules={
        name: msgspec.structs.replace(rule, hold_s=0, quiet_s=0)
        for name, rule in RULES.rules.items()
        if name in {"cause", "alone", "agents", "refused"}
    },
)
"""Without waiting: a look decides."""

HOTEL_BAD = {
    ("pacs", "radiologist"): Letter.D,
    ("radiologist", "pacs"): Letter.D,
    ("home", "radiologist"): Letter.D,
    ("radiologist", "home"): Letter.D,
    ("clinic", "radiologist"): Letter.F,
    ("office-1", "radiologist"): Letter.D,
}
WELL = {
    (src, dst): Letter.A
    for src in ("clinic", "home", "office-1", "office-2", "pacs", "radiologist")
    for dst in ("clinic", "home", "office-1", "office-2", "pacs", "radiologist")
}


class Parts(NamedTuple):
    """What a test needs."""

    core: FixtureCore
    desk: AlertDesk
    own: Own
    meter: Meter
    state: State


class Nothing:
    """A store in which nothing happened."""

    def health(self) -> object:
        from analytics.store.shelf import StoreHealth

        return StoreHealth(*[0] * len(StoreHealth.__dataclass_fields__))

    def counts(self) -> dict[str, int]:
        return {}


@contextmanager
def parts(
    folder: Path,
    *,
    rules: AlertRules = AT_ONCE,
    config: AlertsConfig = NO_RECEIVERS,
    letters: Mapping[tuple[str, str], Letter] = WELL,
    pairs: bool = False,
) -> Iterator[Parts]:
    core = FixtureCore(letters=dict(letters))
    with closing(State.open(folder / "data")) as state:
        own = Own(data=folder, store=Nothing(), failures=Failures())
        desk = alert_desk(
            "default",
            state=state,
            core=core,
            audit=Audit(state, "default"),
            rules=rules,
            profiles=load_rules(),
            config=config,
            own=lambda: readings(own),
            failures=own.failures,
        )
        own.tallies = lambda: [one.tally for one in desk.couriers]
        yield Parts(core, desk, own, Meter(core, desk, desk.watcher, own=own, pairs=pairs), state)


def worsen(of: Parts) -> None:
    """The hotel's uplink goes bad."""
    of.core.letters = {**WELL, **HOTEL_BAD}


def mend(of: Parts) -> None:
    of.core.letters = dict(WELL)


def deliver(of: Parts) -> None:
    """Let every courier bring what it has."""

    async def bring() -> None:
        for courier in of.desk.couriers:
            await courier.once()

    asyncio.run(bring())


def tick() -> None:
    time.sleep(0.001)  # occurrences are told apart by the microsecond
