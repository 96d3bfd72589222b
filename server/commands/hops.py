"""One path hop by hop: ``hops``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import typer

from analytics.command_line import DEFAULT_URL, Json, Profile, Token, Url, example, print_json, show, width
from server.commands.asking import client
from server.commands.complete import agent_argument

if TYPE_CHECKING:
    from server.api.client import Client
    from server.commands.follow import Following


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
            "pathgrade hops radiologist pacs --once",
            "pathgrade hops radiologist pacs --report --rounds 20",
            "pathgrade hops radiologist pacs --json | jq '.forward_hops[]'",
            "pathgrade hops --deep pacs.example.org:11112",
            "pathgrade hops --deep 192.0.2.10:443 --tcp --udp --json",
            "pathgrade hops --deep 192.0.2.10 --flows 16",
        )
    )
    def hops(
        src: Annotated[str | None, agent_argument("SRC", "Agent that sends.")] = None,
        dst: Annotated[str | None, agent_argument("DST", "Agent that receives.")] = None,
        *,
        url: Url = DEFAULT_URL,
        token: Token = None,
        profile: Profile = None,
        once: Annotated[
            bool, typer.Option("--once", help="Print one time what is known; as without a terminal.")
        ] = False,
        report: Annotated[
            bool, typer.Option("--report", help="Test --rounds times, then print what that showed.")
        ] = False,
        rounds: Annotated[int, typer.Option(min=1, max=1000, help="Tests of a --report.")] = 10,
        every: Annotated[
            int, typer.Option(metavar="SECONDS", min=5, max=3600, help="From one test to the next.")
        ] = 10,
        look: Annotated[
            bool, typer.Option("--look", help="Ask for no tests: only look at what comes in.")
        ] = False,
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
        ladder failed. In a terminal it fills the screen with both directions and stays, as mtr does: every
        ten seconds it asks for a test, if you may, and the hops show all rounds. q quits, p pauses.

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
        if report and (once or look):
            raise typer.BadParameter("a report is made of tests", param_hint="--report, --once, --look")
        asked = _Asked(src, dst, profile, every_s=every, tests=not look)
        return _from_server(client(url, token), asked, rounds if report else None, once=once, json=json)

    return made


class _Asked(NamedTuple):
    src: str
    dst: str
    profile: str | None
    every_s: int
    tests: bool


def _from_server(server: Client, asked: _Asked, rounds: int | None, *, once: bool, json: bool) -> None:
    """Print it once, or stay: ``rounds`` tests and a report, or the full screen."""
    from server.commands import live_hops

    if rounds is not None:
        return live_hops.report(_following(server, asked), rounds, json=json)
    if once or json or not live_hops.is_terminal():
        return _told(server, asked, json=json)
    return live_hops.full_screen(_following(server, asked))


def _following(server: Client, asked: _Asked) -> Following:
    from time import monotonic

    from server.commands.follow import Following

    return Following(
        server=server,
        src=asked.src,
        dst=asked.dst,
        profile=asked.profile,
        every_s=asked.every_s,
        asks=asked.tests,
        clock=monotonic,
    )


def _told(server: Client, asked: _Asked, *, json: bool) -> None:
    from server.pages import terminal

    detail = server.detail(asked.src, asked.dst, asked.profile)
    if json:
        return print_json(detail)
    return show(terminal.hops(detail, detail.forward.grade.profile, width()))
