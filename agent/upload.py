"""Sends the outbox to the server, oldest first, one batch at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, NoReturn

from agent.enrol import explain, problem_in
from agent.errors import CredentialRefusedError, ServerSilentError
from agent.http import answer_of, httpx
from agent.outbox import Outbox, Waiting
from agent.retry import StateLine, backoff_s
from agent.tls import is_unproven

log: Final = logging.getLogger("pathgrade.agent.upload")

EVERY_S: Final = 1.0
"""Between looks into the outbox: what was measured is on the page within two seconds."""
TIMEOUT_S: Final = 30.0
OUTDATED_S: Final = 60.0
"""Before trying again where one side must be upgraded first."""
MOST_RETRY_S: Final = 60.0
"""However long a server asks for."""

NEVER_TAKEN: Final = frozenset({400, 403, 413})
"""Answers that will be the same for ever: the batch is set aside. Everything else is tried again."""
OUTDATED: Final = frozenset({415, 422})
"""Answers to a format the server does not know."""


class Uploader:
    """The way from the outbox to ``POST /v1/batches``."""

    def __init__(
        self,
        outbox: Outbox,
        client: httpx.AsyncClient,
        *,
        backoff: Callable[[int], float] = backoff_s,
        sends: Callable[[int], None] = lambda sent_bytes: None,  # called with the size of each batch
    ) -> None:
        self.unproven = 0  # connections that somebody else than the server answered
        self._outbox = outbox
        self._client = client
        self._headers = {
            "Content-Encoding": "gzip",
            "Content-Type": "application/msgpack",
        }
        self._backoff = backoff
        self._line = StateLine(log)
        self._wanted = asyncio.Event()
        self._sends = sends

    def soon(self) -> None:
        """Send what waits without waiting for the next look."""
        self._wanted.set()

    async def run(self) -> None:
        """Send until cancelled; raises ``CredentialRefusedError``."""
        attempt = 0
        while True:
            try:
                await self.send_all()
            except ServerSilentError as error:
                self._line.say(f"not uploading why={str(error)!r}", level=logging.WARNING)
                await asyncio.sleep(max(error.retry_s, self._backoff(attempt)))
                attempt += 1
            else:
                attempt = 0
                await self._idle()

    async def send_all(self) -> None:
        """Send every batch that waits; raises ``ServerSilentError`` at the first that is not taken now."""
        while (batch := await asyncio.to_thread(self._outbox.oldest)) is not None:
            await self._send(batch)
            self._line.say("uploading")

    async def _idle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await self._wanted.wait()
        self._wanted.clear()

    async def _send(self, batch: Waiting) -> None:
        self._sends(len(batch.body))
        try:
            response = await answer_of(
                self._client,
                "POST",
                "/v1/batches",
                content=batch.body,
                headers=self._headers,
                timeout_s=TIMEOUT_S,
            )
        except httpx.TransportError as error:
            self.unproven += is_unproven(error)
            raise ServerSilentError(f"{type(error).__name__}: {error}") from error
        if response.status_code == 200:
            await asyncio.to_thread(self._outbox.acknowledged, batch)
        elif response.status_code in NEVER_TAKEN:
            await asyncio.to_thread(self._outbox.refused, batch, explain(problem_in(response)))
        else:
            _raise_for(response)


def _raise_for(response: httpx.Response) -> NoReturn:
    problem = problem_in(response)
    if response.status_code == 401:
        raise CredentialRefusedError(f"send a batch: {explain(problem)}", remedy=problem.remedy)
    raise ServerSilentError(explain(problem), retry_s=_retry_s(response))


def _retry_s(response: httpx.Response) -> float:
    """Say how long the server wants to be left alone."""
    if response.status_code in OUTDATED:
        return OUTDATED_S
    asked = response.headers.get("retry-after", "")
    return min(float(asked), MOST_RETRY_S) if asked.isdecimal() else 0.0
