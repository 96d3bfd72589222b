"""How a command asks the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.api.client import Client


def client(url: str, token: str | None) -> Client:
    """Give a client of the server at ``url``, with the token given or kept. Raises ``TokenFileError``."""
    from server.api.client import Client
    from server.api.token_file import kept_token, one_token, token_file

    who = kept_token(token_file()) if token is None else one_token(token, "--token or PATHGRADE_TOKEN")
    return Client(url, who)
