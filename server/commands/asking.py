"""How a command asks the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.api.client import Client


def client(url: str, token: str | None) -> Client:
    """Give a client of the server at ``url``."""
    from server.api.client import Client

    return Client(url)
