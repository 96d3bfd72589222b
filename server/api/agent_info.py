"""What is known of one agent, but for its paths: shown on its page and by ``GET /v1/agents/{name}``."""

from __future__ import annotations

import msgspec

from analytics.shapes import Service
from analytics.wire import Health, LocalOff, NatReport
from server.api.controls import BudgetNow, Off


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent costs and what it lost, as it said itself."""

    at_us: int  # when it said so, by the server's clock
    over_s: int  # the time that the next two are of; 0: it has told once only
    cpu_bp: int | None  # CPU time of one core
    bytes_per_hour: int | None  # sent over UDP: tests; None also for an agent of before
    latest: Health


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One enrolled agent. What it says itself is None or empty while it is not connected."""

    name: str
    site: str
    label: str
    online: bool
    enrolled_us: int
    seen_us: int  # when it was connected last; now where it is
    tags: list[str]
    services: list[Service]
    revoked: bool = False  # it is let in no more
    off: Off | None  # what switches active tests off for it; None = on
    local_off: LocalOff | None = None  # switched off on its own host: nobody here can switch it on
    passive_off: LocalOff | None = None  # passive capture, likewise
    budget: BudgetNow
    version: str
    passive: str  # "ebpf (7 hooks)"
    mesh: bool | None  # whether it takes part in active tests, by its own configuration
    addresses: list[str]
    nat: NatReport | None
    vitals: Vitals | None


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A port of an agent's host that others' sessions ended at: perhaps a service to tag."""

    agent: str
    port: int
    process: str  # empty = unknown
    clients: int  # addresses
    sessions: int
    seen_us: int  # start of the latest window
