"""How a command asks the server, and how one that is run beside it is set as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.api.client import Client

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
