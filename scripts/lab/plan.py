"""From a scenario to a network: every namespace, interface, address, route and rule, decided, not yet made.

::

    host ─┐ lan          wan ╌╌ cable ╌╌ customer  trunk ╌╌ cable ╌╌ to-SITE
    host ─┴─ gateway (NAT) ── uplink ── provider ── backbone ── core ──┬── server
             192.168.7.1       203.0.113.0/24     198.51.100.0/25      └── turn
                                                                      198.51.100.128/25

Addresses outside the LANs are from the documentation networks (RFC 5737); nothing leaves the lab. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from typing import Final

from lab.firewall import gateway_rules
from lab.scenario import Link, Nat, Scenario, Site

UPLINKS: Final = IPv4Network("203.0.113.0/24")
BACKBONES: Final = IPv4Network("198.51.100.0/25")
CORE_HOSTS: Final = IPv4Network("198.51.100.128/25")
FIRST_HOST: Final = 10  # hosts of a LAN start at .10; .1 is the gateway
DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Interface:
    """A device of a node, with its address; a bridge is made with the node, the others come as cable ends."""

    device: str
    address: IPv4Interface
    bridge: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One namespace."""

    name: str
    namespace: str
    interfaces: tuple[Interface, ...]
    routes: tuple[tuple[str, str], ...]  # (network, via)
    forwards: bool = False  # routes between its interfaces
    rules: str = ""  # nftables


@dataclass(frozen=True, slots=True)
class Patch:
    """A plain veth without delay; ``bridge`` is what its second end joins, if anything."""

    node_a: str
    device_a: str
    node_b: str
    device_b: str
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class Cable:
    """An emulated cable; ``up`` runs from a to b."""

    link: str
    node_a: str
    device_a: str
    node_b: str
    device_b: str
    seed: int


@dataclass(frozen=True, slots=True)
class Host:
    """Where an agent stands."""

    agent: str
    site: str
    nat: Nat
    address: str
    public_address: str  # as the core sees it
    gateway_lan: str
    gateway_wan: str
    provider_customer: str  # the provider's address that faces the gateway
    provider_core: str  # and the one that faces the core
    core_address: str  # the core's address that faces the provider


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole network."""

    lab: str
    nodes: dict[str, Node]
    patches: tuple[Patch, ...]
    cables: tuple[Cable, ...]
    links: dict[str, Link]
    hosts: dict[str, Host]
    server_address: str
    turn_address: str

    def namespace(self, node: str) -> str:
        """Name of a node's namespace."""
        return self.nodes[node].namespace


@dataclass(slots=True)
class _Draft:
    """What the steps of ``make_plan`` add to."""

    lab: str
    nodes: dict[str, Node] = field(default_factory=dict)
    patches: list[Patch] = field(default_factory=list)
    cables: list[Cable] = field(default_factory=list)
    hosts: dict[str, Host] = field(default_factory=dict)
    core_interfaces: list[Interface] = field(default_factory=list)
    core_routes: list[tuple[str, str]] = field(default_factory=list)

    def add(
        self, name: str, interfaces: list[Interface], routes: list[tuple[str, str]], **more: object
    ) -> None:
        self.nodes[name] = Node(
            name=name,
            namespace=f"pg-{self.lab}-{name}",
            interfaces=tuple(interfaces),
            routes=tuple(routes),
            **more,  # type: ignore[arg-type]  # forwards and rules, as Node has them
        )


def make_plan(scenario: Scenario, lab: str) -> Plan:
    """Decide the network of a scenario. Site by site, then the core and the two hosts on it."""
    draft = _Draft(lab)
    for number, site in enumerate(scenario.sites):
        _add_site(draft, site, number, scenario.seed)
    server = _add_core_host(draft, "server", 0)
    turn = _add_core_host(draft, "turn", 1)
    draft.add("core", draft.core_interfaces, draft.core_routes, forwards=True)
    return Plan(
        lab=lab,
        nodes=draft.nodes,
        patches=tuple(draft.patches),
        cables=tuple(draft.cables),
        links=scenario.links(),
        hosts=draft.hosts,
        server_address=server,
        turn_address=turn,
    )


def _ends(network: IPv4Network, number: int, prefix: int = 30) -> tuple[IPv4Interface, IPv4Interface]:
    """Both usable addresses of the ``number``-th /30 of a network."""
    first = int(network.network_address) + 4 * number
    return IPv4Interface((first + 1, prefix)), IPv4Interface((first + 2, prefix))


@dataclass(frozen=True, slots=True)
class _SiteAddresses:
    lan: IPv4Interface
    wan: IPv4Interface
    customer: IPv4Interface
    up: IPv4Interface
    core: IPv4Interface


def _site_addresses(site: Site, number: int) -> _SiteAddresses:
    network = IPv4Network(site.lan)
    customer, wan = _ends(UPLINKS, number)
    up, core = _ends(BACKBONES, number)
    return _SiteAddresses(IPv4Interface((network[1], network.prefixlen)), wan, customer, up, core)


def _add_site(draft: _Draft, site: Site, number: int, seed: int) -> None:
    addresses = _site_addresses(site, number)
    _add_gateway(draft, site, addresses)
    _add_provider(draft, site, addresses)
    _add_cables(draft, site, number, seed)
    draft.core_interfaces.append(Interface(f"to-{number}", addresses.core))
    draft.core_routes += [(str(net), str(addresses.up.ip)) for net in _behind_provider(site, addresses)]
    for position, agent in enumerate(site.agents):
        _add_agent_host(draft, site, addresses, agent.name, position)


def _behind_provider(site: Site, addresses: _SiteAddresses) -> list[IPv4Network]:
    """Networks that the core reaches through the site's provider; a LAN only where nothing hides it."""
    routed = [IPv4Network(site.lan)] if site.nat is Nat.NONE else []
    return [addresses.wan.network, *routed]


def _add_gateway(draft: _Draft, site: Site, addresses: _SiteAddresses) -> None:
    name = f"gw-{site.name}"
    forwards = [(forward.port, host_address(site, forward.agent)) for forward in site.forwards]
    draft.add(
        name,
        [Interface("lan", addresses.lan, bridge=True), Interface("wan", addresses.wan)],
        [(DEFAULT, str(addresses.customer.ip))],
        forwards=True,
        rules=gateway_rules(site.nat, forwards),
    )


def _add_provider(draft: _Draft, site: Site, addresses: _SiteAddresses) -> None:
    routes = [(DEFAULT, str(addresses.core.ip))]
    if site.nat is Nat.NONE:
        routes.append((site.lan, str(addresses.wan.ip)))
    draft.add(
        f"isp-{site.name}",
        [Interface("customer", addresses.customer), Interface("trunk", addresses.up)],
        routes,
        forwards=True,
    )


def _add_cables(draft: _Draft, site: Site, number: int, seed: int) -> None:
    provider, gateway = f"isp-{site.name}", f"gw-{site.name}"
    base = seed * 1_000 + number * 2
    draft.cables += [
        Cable(f"{site.name}-uplink", gateway, "wan", provider, "customer", base),
        Cable(f"{site.name}-backbone", provider, "trunk", "core", f"to-{number}", base + 1),
    ]


def host_address(site: Site, agent: str) -> str:
    """Address of an agent's host in its LAN."""
    position = [one.name for one in site.agents].index(agent)
    return str(IPv4Network(site.lan)[FIRST_HOST + position])


def _add_agent_host(draft: _Draft, site: Site, addresses: _SiteAddresses, agent: str, position: int) -> None:
    own = IPv4Interface((host_address(site, agent), addresses.lan.network.prefixlen))
    draft.add(agent, [Interface("eth0", own)], [(DEFAULT, str(addresses.lan.ip))])
    draft.patches.append(Patch(agent, "eth0", f"gw-{site.name}", f"port{position}", bridge="lan"))
    draft.hosts[agent] = Host(
        agent=agent,
        site=site.name,
        nat=site.nat,
        address=str(own.ip),
        public_address=str(own.ip if site.nat is Nat.NONE else addresses.wan.ip),
        gateway_lan=str(addresses.lan.ip),
        gateway_wan=str(addresses.wan.ip),
        provider_customer=str(addresses.customer.ip),
        provider_core=str(addresses.up.ip),
        core_address=str(addresses.core.ip),
    )


def _add_core_host(draft: _Draft, name: str, number: int) -> str:
    core_end, own = _ends(CORE_HOSTS, number)
    draft.core_interfaces.append(Interface(name, core_end))
    draft.add(name, [Interface("eth0", own)], [(DEFAULT, str(core_end.ip))])
    draft.patches.append(Patch(name, "eth0", "core", name))
    return str(own.ip)
