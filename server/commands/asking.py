"""How a command asks the server, and how one that is run beside it is set as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.api.client import Client
    from server.settings import Settings

Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="PATHGRADE_DATA",
        help="The server's data folder. Required, here or in its settings.",
    ),
]
Env = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The server's settings, NAME=VALUE a line. [default: /etc/pathgrade/server.env, if it is there]",
    ),
]


def client(url: str, token: str | None) -> Client:
    """Give a client of the server at ``url``, with the token given or kept. Raises ``TokenFileError``."""
    from server.api.client import Client
    from server.api.token_file import kept_token, one_token, token_file

    who = kept_token(token_file()) if token is None else one_token(token, "--token or PATHGRADE_TOKEN")
    return Client(url, who)


def settings_of(data: Path | None, env: Path | None) -> Settings:
    """Read the settings of the server beside which a command is run. Raises ``SettingsError``.

    What the command was given counts most, then the environment, then the file.
    """
    from server.env_file import take_env
    from server.settings import Settings

    take_env(env)
    return Settings.load(data=data)


def data_of(data: Path | None, env: Path | None) -> Path:
    """Name that server's data folder, as ``settings_of``; of its other settings none needs to hold."""
    import os

    from server.env_file import take_env

    if data is not None:
        return data
    take_env(env)
    named = os.environ.get("PATHGRADE_DATA")
    if not named:
        raise typer.BadParameter("no folder is named", param_hint="--data or PATHGRADE_DATA")
    return Path(named)
