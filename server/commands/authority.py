"""What agents know the server by, on the server itself: ``server authority``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from analytics.command_line import Json, example, print_json
from server.commands.asking import Data, Env, data_of, settings_of

if TYPE_CHECKING:
    from server.rotation import Told

commands = typer.Typer(name="authority", help="The server's own certificate authority.", no_args_is_help=True)


@commands.command("show", epilog=example("pathgrade server authority show --data /var/lib/pathgrade"))
def show(*, data: Data = None, env: Env = None, json: Json = False) -> None:
    """Show the pin that tokens name the server by, and which of before are still taken."""
    from server import rotation

    settings = settings_of(data, env)
    found = rotation.told(settings.data, settings.certificate_s)
    return print_json(found) if json else _draw(found)


@commands.command("rotate", epilog=example("pathgrade server authority rotate --data /var/lib/pathgrade"))
def rotate(*, data: Data = None, env: Env = None, json: Json = False) -> None:
    """Put another authority in its place, with the server stopped.

    Agents move over by themselves with their next renewal, also after a month off, and tokens made before go
    on to work, until the one before is dropped. Back up afterwards: in an earlier backup is an authority that
    agents which have moved do not take.
    """
    from server import rotation

    made = rotation.rotate(data_of(data, env))
    if json:
        return print_json(made)
    print(f"rotated: {made.pin}")
    return print(
        "Start the server, and make a backup: agents that have moved do not take that of an earlier one."
    )


@commands.command(
    "drop",
    epilog=example(
        "pathgrade server authority drop --data /var/lib/pathgrade",
        "pathgrade server authority drop --anyway --data /var/lib/pathgrade",
    ),
)
def drop(
    *,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where agents know no other: they need new tokens.")
    ] = False,
    data: Data = None,
    env: Env = None,
    json: Json = False,
) -> None:
    """Take authorities of before no more, with the server stopped.

    Refuses while there are agents that may know no other, and names them; revoked ones do not count.
    """
    from server import rotation

    settings = settings_of(data, env)
    made = rotation.drop(settings.data, settings.certificate_s, anyway=anyway)
    if json:
        return print_json(made)
    print(f"dropped; taken is {made.pin} alone")
    return print(f"need a new token: {rotation.some(made.waiting)}") if made.waiting else None


def _draw(found: Told) -> None:
    from server import rotation
    from server.pages import text

    print(f"pin: {found.pin}")
    if found.replaced_us is None:
        return print(f"{rotation.NONE_BEFORE}.")
    print(f"still taken: {', '.join(found.former)}, replaced {text.iso(found.replaced_us)}")
    if found.waiting:
        return print(f"may know no other: {rotation.some(found.waiting)}")
    return print("Every agent has moved: pathgrade server authority drop")
