"""Agents in a terminal: a list, and all of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.report import Member
from analytics.wire import Dependence, NatReport
from server.api.agent_info import AgentInfo, Vitals
from server.pages import control_words, text
from server.pages.tables import Column, draw, plain

NAT: Final[dict[Dependence, str]] = {
    Dependence.NONE: "none",
    Dependence.ENDPOINT_INDEPENDENT: "one port for all peers",
    Dependence.ADDRESS: "another port for each peer's address",
    Dependence.ADDRESS_AND_PORT: "another port for each peer",
    Dependence.NOT_PORT: "one port, for one address at least",
    Dependence.UNKNOWN: "not known",
}
"""What a NAT's mapping means to who must be reached through it (RFC 4787, section 4.1)."""


def listed(members: Sequence[Member], of: Sequence[Member], width: int) -> RenderableType:
    """Show agents, and how many of all there are."""
    online = sum(member.online for member in of)
    told = f"{text.plural(len(of), 'agent')}, {online} online"
    cut = f"; {len(members)} shown" if len(members) != len(of) else ""
    if not members:
        return Text(
            f"No agent fits; {told}." if of else "No agent has enrolled: pathgrade server token.", "dim"
        )
    ordered = sorted(map(plain, members), key=lambda member: (member.site, member.name))
    return Group(draw(COLUMNS, ordered, width), Text(told + cut, "dim"))


def one(info: AgentInfo) -> RenderableType:
    """Tell all of one agent."""
    grid = Table.grid(padding=(0, 2))
    told = plain(info)
    for name, value in _facts(told):
        grid.add_row(Text(name, "dim"), value if isinstance(value, Text) else Text(value))
    return Group(Text(told.name, "bold"), grid)


def _facts(info: AgentInfo) -> Iterator[tuple[str, str | Text]]:
    yield "called", info.label or info.name
    yield "site", info.site
    yield "state", _state_since(info)
    yield "enrolled", text.clock(info.enrolled_us)
    yield "version", info.version or text.NOTHING
    yield (
        "services",
        "; ".join(f"{s.name} at port {s.port}, for {s.profile}" for s in info.services) or "none",
    )
    yield "tags", ", ".join(info.tags) or "none"
    yield "passive", _passive(info)
    yield "active tests", _tests(info)
    yield "may take", f"{_core(info.budget.cpu_bp)}, {text.size(info.budget.bytes_per_hour)} sent an hour"
    yield from _vitals(info.vitals)
    yield "addresses", ", ".join(info.addresses) or text.NOTHING
    yield from _nat(info.nat)


def _state_since(info: AgentInfo) -> Text:
    if info.revoked:
        return Text("revoked: let in no more", "bold red")
    return _state(info) if info.online else _state(info).append(f" since {text.clock(info.seen_us)}", "")


def _passive(info: AgentInfo) -> str:
    return control_words.passive_off(info.passive_off) if info.passive_off else info.passive or text.NOTHING


def _tests(info: AgentInfo) -> str:
    if info.local_off is not None:
        off = info.local_off
        note = f": {off.note}" if off.note else ""
        return f"switched off on its own host since {text.clock(off.since_us)} by {off.by}{note}"
    if info.off is not None:
        whose = info.off.name or "the fleet"
        return f"off for {whose} since {text.clock(info.off.since_us)}, by {info.off.by}"
    return "off by its own configuration" if info.mesh is False else "on"


def _vitals(vitals: Vitals | None) -> Iterator[tuple[str, str]]:
    """Say what it costs and what it lost; a counter that is 0 is good news, and short."""
    if vitals is None:
        yield "takes", "not known while it is away"
        return
    latest = vitals.latest
    sent = text.NOTHING if vitals.bytes_per_hour is None else text.size(vitals.bytes_per_hour)
    cpu = text.NOTHING if vitals.cpu_bp is None else _core(vitals.cpu_bp)
    yield "takes", f"{cpu}, {text.size(latest.rss_kb * 1024)} of memory, {sent} sent an hour"
    yield "sessions", f"{latest.events_seen:,} closed, {latest.events_lost + latest.events_missed:,} lost"
    yield "waiting", text.plural(latest.batches_waiting, "batch", "batches")
    if latest.shed:
        yield "leaves out", f"{latest.shed}: {latest.shed_why}"
    if latest.dropped:
        yield "dropped", ", ".join(f"{count:,} {what}" for what, count in sorted(latest.dropped.items()))
    if latest.packets_refused or latest.grants_refused:
        orders = sum(latest.grants_refused.values())
        yield "refused", f"{latest.packets_refused:,} packets of tests, {text.plural(orders, 'order')}"
    if latest.servers_refused:
        yield (
            "other servers",
            f"refused {text.plural(latest.servers_refused, 'time')}: not the one enrolled at",
        )


def _core(bp: int) -> str:
    return f"{bp / 100:g}{text.NBSP}% of a core"


def _nat(nat: NatReport | None) -> Iterator[tuple[str, str]]:
    if nat is None:
        yield "NAT", "not known yet"
        return
    if not nat.udp:
        yield "NAT", "no STUN server answered: UDP is blocked, or none is set"
        return
    yield "NAT", NAT[nat.mapping] + (", of the provider (RFC 6598)" if nat.cgnat else "")
    yield "lets in", nat.filtering.value
    yield "public address", nat.mapped or text.NOTHING
    if nat.hairpin is not None:
        yield "hairpin", "yes" if nat.hairpin else "no"


def _state(member: Member | AgentInfo) -> Text:
    return Text("online", "green") if member.online else Text("away", "bold red")


def _nat_short(member: Member) -> str:
    nat = member.nat
    if nat is None:
        return text.NOTHING
    return NAT[nat.mapping] if nat.udp else "UDP blocked"


COLUMNS: Final[tuple[Column[Member], ...]] = (
    Column("agent", lambda member: member.name, side="left"),
    Column("site", lambda member: member.site, side="left"),
    Column("", _state, side="left"),
    Column("called", lambda member: member.label, from_width=70, side="left"),
    Column("services", lambda member: ", ".join(s.name for s in member.services), from_width=60, side="left"),
    Column("NAT", _nat_short, from_width=100, side="left"),
    Column("addresses", lambda member: ", ".join(member.addresses), from_width=130, side="left", wraps=True),
)
