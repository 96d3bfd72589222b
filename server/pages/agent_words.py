"""Agents in a terminal: a list, and all of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.report import Member
from analytics.wire import Dependence, NatReport
from server.errors import RefusedError
from server.pages import text
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


def one_of(members: Sequence[Member], name: str) -> Member:
    """Find one. Raises ``RefusedError``."""
    found = next((member for member in members if member.name == name), None)
    if found is None:
        raise RefusedError(f"no agent is called {name!r}", remedy="pathgrade agents lists them")
    return found


def one(member: Member, tags: Sequence[str]) -> RenderableType:
    """Tell all of one agent."""
    grid = Table.grid(padding=(0, 2))
    for name, value in _facts(plain(member), tags):
        grid.add_row(Text(name, "dim"), value if isinstance(value, Text) else Text(value))
    return Group(Text(plain(member).name, "bold"), grid)


def _facts(member: Member, tags: Sequence[str]) -> Iterator[tuple[str, str | Text]]:
    yield "called", text.person(member)
    yield "site", member.site
    yield "state", _state(member)
    yield (
        "services",
        "; ".join(f"{s.name} at port {s.port}, for {s.profile}" for s in member.services) or "none",
    )
    yield "tags", ", ".join(plain_tags(tags)) or "none"
    yield "addresses", ", ".join(member.addresses) or text.NOTHING
    yield from _nat(member.nat)


def plain_tags(tags: Sequence[str]) -> list[str]:
    """Leave out what a terminal would obey."""
    return ["".join(letter for letter in tag if letter.isprintable()) for tag in tags]


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


def _state(member: Member) -> Text:
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
