"""What belongs to one tenant, and the realms of all of them.

Tenants share the listeners, the store, the state and the server's keys, and nothing else: each has its own
agents on line, its own plan of tests and its own report. Whoever has a realm cannot ask for another's rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from analytics.batch import TableBlock
from server.alerts.desk import AlertDesk
from server.audit import Audit
from server.core import Core
from server.cycles import Cycles
from server.desk import Desk
from server.hub import Hub
from server.lately import Lately
from server.metrics.meter import Meter
from server.own_switches import OwnSwitches
from server.trend import Trends


@dataclass(frozen=True, slots=True, kw_only=True)
class Realm:
    """Everything of one tenant."""

    tenant: str
    hub: Hub
    audit: Audit
    own_switches: OwnSwitches
    cycles: Cycles
    lately: Lately
    core: Core
    desk: Desk
    alerts: AlertDesk
    trends: Trends
    meter: Meter


class Realms:
    """The realms, by tenant; one that is new is begun when somebody first asks for it."""

    def __init__(self, make: Callable[[str], Realm], tenants: Iterable[str]) -> None:
        self._make = make
        self._realms: dict[str, Realm] = {}
        self.ended = asyncio.Event()
        """Set at the end of each tenant's cycle, for whoever seals."""
        self._tasks: asyncio.TaskGroup | None = None
        self.keepers: list[asyncio.Task[None]] = []
        self.meshes: list[asyncio.Task[None]] = []
        for tenant in tenants:
            self.of(tenant)

    def of(self, tenant: str) -> Realm:
        """Find or begin a tenant's realm; on the event loop, for a tenant that the state knows."""
        realm = self._realms.get(tenant)
        if realm is None:
            realm = self._realms[tenant] = self._make(tenant)
            self._begin(realm)
        return realm

    def all(self) -> list[Realm]:
        """List the realms that have begun, by tenant."""
        known = self._realms.copy()
        return [known[tenant] for tenant in sorted(known)]

    def hear(self, tenant: str, block: TableBlock) -> None:
        """Hand packed readings to those who wait for a tenant's; from any thread."""
        realm = self._realms.get(tenant)
        if realm is not None:
            realm.lately.hear(block)

    def close(self) -> None:
        """Let go of what is kept ready for pages."""
        for realm in self.all():
            realm.core.close()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Run what each realm does by itself, now and when one is begun."""
        self._tasks = tasks
        for realm in self.all():
            self._begin(realm)

    def _begin(self, realm: Realm) -> None:
        realm.cycles.ended = self.ended
        if self._tasks is not None:
            keepers = {"audit": realm.audit.run(), "alerts": realm.alerts.run(), "trends": realm.trends.run()}
            for name, keeper in keepers.items():
                self.keepers.append(self._tasks.create_task(keeper, name=f"{name} of {realm.tenant}"))
            cycles = self._tasks.create_task(realm.cycles.run(), name=f"cycles of {realm.tenant}")
            self.meshes.append(cycles)
