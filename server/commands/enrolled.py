"""Who is enrolled, on the server itself: ``server agent``.

It reads and changes the server's state beside a running server, which sees it within seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from analytics.command_line import Json, example, print_json, show, width
from server.commands.asking import Data, Env, data_of

if TYPE_CHECKING:
    from server.state import Enrolled

commands = typer.Typer(name="agent", help="The agents that enrolled.", no_args_is_help=True)

COMMAND = "the command line"
"""Who did it, in the audit log."""


@commands.command("list", epilog=example("pathgrade server agent list --data /var/lib/pathgrade"))
def listed(*, data: Data = None, env: Env = None, json: Json = False) -> None:
    """List the agents of all tenants, and which of them are revoked."""
    from server.state import enrolled_agents

    found = enrolled_agents(data_of(data, env))
    return print_json(found) if json else _table(found)


@commands.command("revoke", epilog=example("pathgrade server agent revoke clinic --data /var/lib/pathgrade"))
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent.")],
    *,
    data: Data = None,
    env: Env = None,
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Of this tenant.")] = "default",
    json: Json = False,
) -> None:
    """Let an agent in no more: a laptop that was lost, a host that was broken into.

    A running server closes its connection within seconds, ends its tests at its peers, and takes no batch of
    it. Its certificate is not renewed. It comes back only with a token that --replaces it.
    """
    from server.state import revoke_agent

    revoke_agent(data_of(data, env), name, tenant=tenant, by=COMMAND)
    return print_json({"revoked": name, "tenant": tenant}) if json else print(f"revoked: {name}")


def _table(found: list[Enrolled]) -> None:
    from rich.table import Table

    from server.pages.text import iso

    head = ("name", "tenant", "site", "enrolled", "revoked")
    drawn = Table(*head, box=None, pad_edge=False, header_style="dim", width=None if found else width())
    for one in found:
        revoked = "" if one.revoked_us is None else f"{iso(one.revoked_us)} by {one.revoked_by}"
        drawn.add_row(one.name, one.tenant, one.site, iso(one.enrolled_us), revoked)
    return show(drawn)
