"""A scenario file: which sites, links, agents, services and faults a lab has.

``load`` reads TOML into ``Scenario`` and reports every mistake in it at once. Files write the units
people use (ms, percent, Mbit/s); ``LineSettings`` holds whole microseconds, parts per million and
kbit/s, as cables do.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from lab.errors import ScenarioError

FOLDER: Final = Path(__file__).parent / "scenarios"
MOST_SITES: Final = 16  # as many /30 networks as the plan has on each side of the core

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", max_length=24)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Nat(StrEnum):
    """What a site's gateway does to addresses (RFC 4787 behaviour in brackets)."""

    NONE = "none"  # routed, stateful firewall only
    ORDINARY = "ordinary"  # keeps the port: endpoint-independent mapping
    SYMMETRIC = "symmetric"  # a new random port for every destination: address- and port-dependent mapping


class LineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a cable, in the cable's own units; rate 0 = unlimited."""

    delay_us: int = 0
    jitter_us: int = 0
    loss_ppm: int = 0
    rate_kbps: int = 0
    queue_us: int = 100_000


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One direction of a link, in the file's units."""

    delay_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 0
    jitter_ms: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0  # sigma, half-normal, on top of the delay
    loss_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0
    rate_mbit: Annotated[float, msgspec.Meta(ge=0, le=100_000)] = 0  # 0 = unlimited
    queue_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 100

    @property
    def settings(self) -> LineSettings:
        """The same in the cable's units."""
        return LineSettings(**{UNITS[key][0]: to_cable(key, value) for key, value in _fields(self)})


UNITS: Final[dict[str, tuple[str, int]]] = {
    "delay_ms": ("delay_us", 1_000),
    "jitter_ms": ("jitter_us", 1_000),
    "loss_percent": ("loss_ppm", 10_000),
    "rate_mbit": ("rate_kbps", 1_000),
    "queue_ms": ("queue_us", 1_000),
}
"""Key in a file -> key of a cable, and how many of its units one of the file's is."""


def to_cable(key: str, value: float) -> int:
    """Convert a file's value to the cable's unit."""
    return round(value * UNITS[key][1])


def _fields(line: Line) -> Iterator[tuple[str, float]]:
    return ((key, getattr(line, key)) for key in UNITS)


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cable: ``up`` from the site towards the core, ``down`` back."""

    up: Line
    down: Line


class ServiceAt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service on an agent's host."""

    name: str
    profile: Name
    port: Port


class Agent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host with an agent on it."""

    name: Name
    label: Annotated[str, msgspec.Meta(max_length=60)] = ""
    services: list[ServiceAt] = []


class Forward(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TCP port of the gateway that leads to the same port of an agent's host."""

    port: Port
    agent: Name


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LAN behind a gateway: ``uplink`` leads to the provider, ``backbone`` from there to the core."""

    name: Name
    nat: Nat
    lan: str
    agents: Annotated[list[Agent], msgspec.Meta(min_length=1, max_length=50)]
    uplink: Link
    backbone: Link
    forwards: list[Forward] = []


class Pacs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A real Orthanc on an agent's host, holding one synthetic CT study."""

    agent: Name
    images: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100


class FetchTool(StrEnum):
    """What fetches: DICOM C-GET, or DICOMweb over HTTP."""

    GETSCU = "getscu"
    CURL = "curl"


class Fetch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"tool": "with"}):
    """One fetch of images from the PACS."""

    agent: Name
    tool: FetchTool
    images: Annotated[int, msgspec.Meta(ge=1, le=500)]


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a fault sets on one direction of a link; what is not named stays."""

    delay_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] | None = None
    jitter_ms: Annotated[float, msgspec.Meta(ge=0, le=10_000)] | None = None
    loss_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    rate_mbit: Annotated[float, msgspec.Meta(ge=0, le=100_000)] | None = None
    queue_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] | None = None

    def settings(self, direction: str) -> dict[str, int]:
        """Give the changes as the cable takes them: ``{"up.delay_us": 4000}``."""
        named = ((key, getattr(self, key)) for key in UNITS)
        return {f"{direction}.{UNITS[k][0]}": to_cable(k, v) for k, v in named if v is not None}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a link ``at_s`` seconds after the lab is up."""

    at_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)]
    link: str
    up: Change = Change()
    down: Change = Change()

    def settings(self) -> dict[str, int]:
        """Give the changes of both directions as the cable takes them."""
        return self.up.settings("up") | self.down.settings("down")


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole lab."""

    title: str
    sites: Annotated[list[Site], msgspec.Meta(min_length=1, max_length=MOST_SITES)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 1
    pacs: Pacs | None = None
    fetches: list[Fetch] = []
    faults: list[Fault] = []

    def agents(self) -> list[tuple[Site, Agent]]:
        """Every agent with its site, in the file's order."""
        return [(site, agent) for site in self.sites for agent in site.agents]

    def links(self) -> dict[str, Link]:
        """Every link by its name, ``SITE-uplink`` and ``SITE-backbone``."""
        named = {}
        for site in self.sites:
            named[f"{site.name}-uplink"] = site.uplink
            named[f"{site.name}-backbone"] = site.backbone
        return named


def load(path: Path) -> Scenario:
    """Read and check a scenario; raises ``ScenarioError`` with every mistake."""
    try:
        scenario = msgspec.toml.decode(path.read_bytes(), type=Scenario)
    except OSError as error:
        raise ScenarioError(str(path), [error.strerror or str(error)]) from error
    except msgspec.DecodeError as error:
        raise ScenarioError(str(path), [str(error)]) from error
    if mistakes := find_mistakes(scenario):
        raise ScenarioError(str(path), mistakes)
    return scenario


def find_mistakes(scenario: Scenario) -> list[str]:
    """List what does not hold across the file, one clause per mistake."""
    return [mistake for rule in RULES for mistake in rule(scenario)]


def _names_are_unique(scenario: Scenario) -> Iterator[str]:
    yield from _repeated("site", [site.name for site in scenario.sites])
    yield from _repeated("agent", [agent.name for _, agent in scenario.agents()])


def _repeated(kind: str, names: list[str]) -> Iterator[str]:
    return (f"{kind} '{name}' is there {n} times" for name, n in Counter(names).items() if n > 1)


def _lans_hold_their_hosts(scenario: Scenario) -> Iterator[str]:
    for site in scenario.sites:
        try:
            network = ipaddress.IPv4Network(site.lan)
        except ValueError as error:
            yield f"site '{site.name}': lan: {error}"
            continue
        if network.num_addresses < len(site.agents) + 12:  # network, gateway, hosts from .10, broadcast
            yield f"site '{site.name}': lan {site.lan} is too small for {len(site.agents)} hosts from .10 on"


def _forwards_lead_to_own_hosts(scenario: Scenario) -> Iterator[str]:
    for site in scenario.sites:
        own = {agent.name for agent in site.agents}
        yield from (
            f"site '{site.name}': port {forward.port} leads to '{forward.agent}', which is not of this site"
            for forward in site.forwards
            if forward.agent not in own
        )


def _agents_exist(scenario: Scenario) -> Iterator[str]:
    known = {agent.name for _, agent in scenario.agents()}
    asked = [("fetch", fetch.agent) for fetch in scenario.fetches]
    asked += [("pacs", scenario.pacs.agent)] if scenario.pacs else []
    yield from (f"{where}: there is no agent '{name}'" for where, name in asked if name not in known)


def _fetches_can_be_served(scenario: Scenario) -> Iterator[str]:
    if scenario.fetches and not scenario.pacs:
        yield "there are fetches, but no [pacs] to fetch from"
    held = scenario.pacs.images if scenario.pacs else 0
    yield from (
        f"fetch by '{fetch.agent}': {fetch.images} images, the pacs holds {held}"
        for fetch in scenario.fetches
        if scenario.pacs and fetch.images > held
    )


def _faults_name_links(scenario: Scenario) -> Iterator[str]:
    for fault in scenario.faults:
        if fault.link not in scenario.links():
            yield f"fault at {fault.at_s} s: there is no link '{fault.link}'"
        if not fault.settings():
            yield f"fault at {fault.at_s} s: changes nothing"


RULES: Final[tuple[Callable[[Scenario], Iterator[str]], ...]] = (
    _names_are_unique,
    _lans_hold_their_hosts,
    _forwards_lead_to_own_hosts,
    _agents_exist,
    _fetches_can_be_served,
    _faults_name_links,
)
