"""One path hop by hop: ``hops``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from analytics.command_line import DEFAULT_URL, Json, Profile, Token, Url, example, print_json, show
from server.commands.asking import client

if TYPE_CHECKING:
    from server.api.client import Client


class Traced(Protocol):
    """Traces from this host and prints it: the agent's side, which no module here may import."""

    def __call__(self, target: str, chosen: dict[str, bool], flows: int, *, json: bool) -> None:
        """Trace by the protocols that are true in ``chosen``, by all where none is."""


def commands(traced: Traced) -> typer.Typer:
    """Make the command, with what it does for ``--deep``."""
    made = typer.Typer()

    @made.command(
        epilog=example(
            "pathgrade hops radiologist pacs",
            "pathgrade hops --deep pacs.example.org:11112",
            "pathgrade hops --deep 192.0.2.10:443 --tcp --udp --json",
            "pathgrade hops --deep 192.0.2.10 --flows 16",
        )
    )
    def hops(
        src: Annotated[str | None, typer.Argument(metavar="SRC", help="Agent that sends.")] = None,
        dst: Annotated[str | None, typer.Argument(metavar="DST", help="Agent that receives.")] = None,
        *,
        url: Url = DEFAULT_URL,
        token: Token = None,
        profile: Profile = None,
        deep: Annotated[
            str | None, typer.Option(metavar="HOST[:PORT]", help="Trace from this host to a service instead.")
        ] = None,
        tcp: Annotated[bool, typer.Option("--tcp", help="Deep: by TCP. [default: by all three]")] = False,
        icmp: Annotated[bool, typer.Option("--icmp", help="Deep: by ICMP echo.")] = False,
        udp: Annotated[bool, typer.Option("--udp", help="Deep: by UDP.")] = False,
        flows: Annotated[
            int, typer.Option(min=0, max=64, help="Deep: find load balancing with so many flows, say 16.")
        ] = 0,
        json: Json = False,
    ) -> None:
        """Show one path hop by hop, or trace to a service from here.

        SRC DST: from the server, where a path's time is, why it has its letter, and why higher rungs of the
        ladder failed.

        --deep: from this host to a real service port (443 if none is named), by TCP SYN, ICMP echo and UDP,
        and where the network treats them differently. Takes some ten seconds, one probe a second to a router;
        each flow of --flows a second more. Needs root or CAP_NET_RAW.
        """
        if deep is not None:
            if src is not None:
                raise typer.BadParameter(
                    "one asks the server, one traces from here", param_hint="--deep, SRC"
                )
            return traced(deep, {"tcp": tcp, "icmp": icmp, "udp": udp}, flows, json=json)
        if src is None or dst is None:
            raise typer.BadParameter("name both agents, or a service with --deep", param_hint="SRC, DST")
        return _told(client(url, token), src, dst, profile, json=json)

    return made


def _told(server: Client, src: str, dst: str, profile: str | None, *, json: bool) -> None:
    from server.pages import terminal

    detail = server.detail(src, dst, profile)
    if json:
        return print_json(detail)
    return show(terminal.hops(detail, detail.forward.grade.profile))
