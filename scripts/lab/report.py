"""Reads the report API of a lab's server. Dictionaries, as anyone's script would get them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from lab.errors import PartError

QUICK_S: Final = 10.0  # a busy machine's server is no server that is gone
REPORT_S: Final = 30.0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """One server's report API."""

    url: str

    def status(self) -> Row | None:
        """How far the server is; None while it does not answer."""
        try:
            return self._get("status", QUICK_S)  # type: ignore[no-any-return]  # what JSON holds is checked by use
        except PartError:
            return None

    def report(self, profile: str) -> Row:
        """The verdict and every directed path; raises ``PartError``."""
        return self._get(f"paths?profile={quote(profile)}")  # type: ignore[no-any-return]  # as above

    def detail(self, src: str, dst: str, profile: str) -> Row:
        """One path with its hops; raises ``PartError``."""
        return self._get(f"paths/{quote(src)}/{quote(dst)}?profile={quote(profile)}")  # type: ignore[no-any-return]  # as above

    def flows(self, agent: str) -> list[Row]:
        """What an agent saw passively, newest first; raises ``PartError``."""
        return self._get(f"flows?agent={quote(agent)}&limit=1000")  # type: ignore[no-any-return]  # as above

    def _get(self, path: str, timeout_s: float = REPORT_S) -> Any:
        address = f"{self.url}/v1/{path}"
        try:
            with _opener.open(address, timeout=timeout_s) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:  # HTTP errors are OSErrors
            raise PartError(f"GET {address}: {_say(error)}") from error


def _say(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.read(300).decode(errors='replace')}"
    return str(error)


_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
