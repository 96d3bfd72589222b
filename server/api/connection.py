"""One connection to a server's API: bytes out, an answer or one clear error back.

The connection is kept between the questions of a command. Not through HTTP_PROXY: the server is most often on
this host's loopback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import httpx
import msgspec

from analytics.errors import UNREADABLE
from server.api.problem import Problem
from server.errors import DeniedError, RefusedError, ServerAwayError

TIMEOUT_S: Final = 30.0
"""A report of a thousand agents takes seconds; a server that says nothing for longer is stuck."""
KEPT_S: Final = 4.0
"""How long an idle connection is kept: the server closes it after five seconds."""

WHO_REMEDY: Final = (
    "give a token: --token, PATHGRADE_TOKEN, or the file ~/.config/pathgrade/token with mode 0600\n"
    "ask an admin of that server for one"
)
DENIED: Final[dict[int, str]] = {
    401: WHO_REMEDY,
    403: "use a token with the scope that this needs: operate to test and to switch, admin to administer",
}
"""What to try where the server itself names nothing."""

Parameter = str | int | None
Asked = Mapping[str, Parameter | Sequence[str]]


class ApiConnection:
    """Where a server's API is, and who asks."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s
        self._client: httpx.Client | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def get(self, path: str, asked: Asked) -> httpx.Response:
        """Ask; what is None is left out. Raises what ``saying_where`` and ``good`` do."""
        with self.saying_where("GET", path):
            return good(self._open().get(self._of(path), params=given(asked)))

    def post(self, path: str, body: bytes) -> httpx.Response:
        """Send JSON. Raises what ``saying_where`` and ``good`` do."""
        headers = {"Content-Type": "application/json"}
        with self.saying_where("POST", path):
            return good(self._open().post(self._of(path), content=body, headers=headers))

    def put(self, path: str, body: bytes, *, if_match: str) -> httpx.Response:
        """Put JSON in place of what has that tag. Raises what ``saying_where`` and ``good`` do."""
        headers = {"Content-Type": "application/json", "If-Match": if_match}
        with self.saying_where("PUT", path):
            return good(self._open().put(self._of(path), content=body, headers=headers))

    def delete(self, path: str) -> httpx.Response:
        """Take something away. Raises what ``saying_where`` and ``good`` do."""
        with self.saying_where("DELETE", path):
            return good(self._open().delete(self._of(path)))

    @contextmanager
    def stream(self, path: str, asked: Asked, *, timeout_s: float) -> Iterator[httpx.Response]:
        """Ask for what is long; the answer is read as it comes."""
        with (
            self.saying_where("GET", path),
            self._open().stream("GET", self._of(path), params=given(asked), timeout=timeout_s) as answer,
        ):
            if not answer.is_success:
                answer.read()
            yield good(answer)

    @contextmanager
    def saying_where(self, method: str, path: str) -> Iterator[None]:
        """Raise ``ServerAwayError`` or ``RefusedError`` for what goes wrong with the connection."""
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise RefusedError(
                f"{self.url!r} is not a server's URL: {error}",
                remedy="--url http://HOST:PORT, as in http://127.0.0.1:8080",
            ) from error
        except httpx.HTTPError as error:
            raise ServerAwayError(
                f"{method} {self.url}/v1/{path}: {error or type(error).__name__}",
                remedy="start it with: pathgrade server run --data DIR\n"
                "name the right address with --url or PATHGRADE_URL",
            ) from error

    def _of(self, path: str) -> str:
        return f"{self.url}/v1/{path}"

    def _open(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(
                headers=self._headers,
                timeout=self._timeout_s,
                trust_env=False,
                limits=httpx.Limits(max_connections=2, keepalive_expiry=KEPT_S),
            )
        return self._client


def given(asked: Asked) -> dict[str, str | int | Sequence[str]]:
    """Leave out what was not given."""
    return {name: value for name, value in asked.items() if value is not None}


def good(answer: httpx.Response) -> httpx.Response:
    """Give the answer back if it is one; else raise ``RefusedError`` with the server's words.

    ``DeniedError`` (a ``RefusedError``) where it is about who asks.
    """
    if answer.is_success:
        return answer
    problem = _problem(answer)
    what = f"{problem.title}: {problem.detail}" if problem.detail else problem.title
    if answer.status_code in DENIED:
        raise DeniedError(what, remedy=problem.remedy or DENIED[answer.status_code])
    raise RefusedError(what, remedy=problem.remedy)


def _problem(answer: httpx.Response) -> Problem:
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except UNREADABLE:
        return Problem(
            status=answer.status_code,
            title=f"{answer.request.method} {answer.url}: {answer.status_code} {answer.reason_phrase}",
            remedy="check --url: what answers there is not a pathgrade server",
        )
