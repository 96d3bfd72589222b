"""The version: ``version``."""

from __future__ import annotations

import typer

from analytics.command_line import Json, example

commands = typer.Typer()


@commands.command(epilog=example("pathgrade version"))
def version(*, json: Json = False) -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    import msgspec

    number = version_of("pathgrade")
    return print(msgspec.json.encode({"version": number}).decode() if json else f"pathgrade {number}")
