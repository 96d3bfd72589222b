"""Control: active tests on or off (``mesh on``, ``mesh off``, ``mesh switches``), ``tags``, ``budget``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from analytics.command_line import DEFAULT_URL, Json, Token, Url, example, print_json, show, width
from server.commands import mesh
from server.commands.asking import client

if TYPE_CHECKING:
    from server.api.controls import Reach

commands = typer.Typer()

OfSite = Annotated[str | None, typer.Option("--site", metavar="SITE", help="For each agent of this site.")]
OfAgent = Annotated[str | None, typer.Option("--agent", metavar="AGENT", help="For this agent.")]


@mesh.commands.command("off", epilog=example("pathgrade mesh off", "pathgrade mesh off --site hotel"))
def off(
    *,
    site: OfSite = None,
    agent: OfAgent = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Switch active tests off: for the fleet, a site, or an agent.

    Tests that run there end at once. It holds until it is switched on, over restarts too.
    """
    _switch(url, token, site=site, agent=agent, on=False, json=json)


@mesh.commands.command("on", epilog=example("pathgrade mesh on", "pathgrade mesh on --agent pacs"))
def on(
    *,
    site: OfSite = None,
    agent: OfAgent = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """Switch active tests on again: for the fleet, a site, or an agent.

    An agent takes part only where neither it, nor its site, nor the fleet is off.
    """
    _switch(url, token, site=site, agent=agent, on=True, json=json)


@mesh.commands.command("switches", epilog=example("pathgrade mesh switches"))
def switches(*, url: Url = DEFAULT_URL, token: Token = None, json: Json = False) -> None:
    """List where active tests are off, by whom and since when."""
    from server.pages import control_words

    told = client(url, token).switches()
    return print_json(told) if json else show(control_words.switches(told, width()))


@commands.command(
    epilog=example(
        "pathgrade tags pacs",
        "pathgrade tags pacs radiology '3rd floor'",
        "pathgrade tags pacs --remove radiology",
    )
)
def tags(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Whose tags.")],
    add: Annotated[
        list[str] | None, typer.Argument(metavar="[TAG]...", help="Free words to put on it.")
    ] = None,
    *,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="TAG", help="Take it off; may be repeated.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List an agent's tags, put tags on it, take tags off."""
    from rich.text import Text

    from server.api.controls import TagsAsk
    from server.pages.tables import plain_value

    server = client(url, token)
    changes = TagsAsk(add=add or [], remove=remove or [])
    told = server.tag_agent(agent, changes) if add or remove else server.tags(agent)
    return print_json(told) if json else show(Text(", ".join(plain_value(told)) or f"{agent} has no tags."))


@commands.command(
    epilog=example(
        "pathgrade budget",
        "pathgrade budget --site hotel --bytes-per-hour 5000000",
        "pathgrade budget --agent pacs --unset",
    )
)
def budget(
    *,
    site: OfSite = None,
    agent: OfAgent = None,
    fleet: Annotated[bool, typer.Option("--fleet", help="For each agent of the fleet.")] = False,
    cpu_bp: Annotated[
        int | None,
        typer.Option(
            "--cpu-bp", metavar="BP", min=1, max=10_000, help="CPU of one core, in 1/100 of a percent."
        ),
    ] = None,
    bytes_per_hour: Annotated[
        int | None,
        typer.Option("--bytes-per-hour", metavar="BYTES", min=100_000, help="What active tests may send."),
    ] = None,
    unset: Annotated[bool, typer.Option("--unset", help="As if it had never been set.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json: Json = False,
) -> None:
    """List what active tests may take, set it for the fleet, a site or an agent, or unset it.

    It holds from the next cycle on. The narrower one counts: agent, then site, then fleet.
    """
    from server.api.controls import BudgetAsk
    from server.pages import control_words

    server = client(url, token)
    sets = cpu_bp is not None or bytes_per_hour is not None
    named = fleet or site is not None or agent is not None
    if named != (sets or unset) or (sets and unset):
        raise typer.BadParameter("name --fleet, --site or --agent, and what to set, or --unset")
    if named:
        reach, name = _reach(site, agent)
        told = server.budget(BudgetAsk(reach=reach, name=name, cpu_bp=cpu_bp, bytes_per_hour=bytes_per_hour))
    else:
        told = server.budgets()
    return print_json(told) if json else show(control_words.budgets(told, width()))


def _switch(
    url: str, token: str | None, *, site: str | None, agent: str | None, on: bool, json: bool
) -> None:
    from server.api.controls import SwitchAsk
    from server.pages import control_words

    reach, name = _reach(site, agent)
    told = client(url, token).switch(SwitchAsk(reach=reach, name=name, on=on))
    return print_json(told) if json else show(control_words.switches(told, width()))


def _reach(site: str | None, agent: str | None) -> tuple[Reach, str | None]:
    """Say what the options mean; raises ``BadParameter`` for both."""
    from server.api.controls import Reach

    if site is not None and agent is not None:
        raise typer.BadParameter("name a site or an agent, not both", param_hint="--site --agent")
    if agent is not None:
        return Reach.AGENT, agent
    return (Reach.FLEET, None) if site is None else (Reach.SITE, site)
