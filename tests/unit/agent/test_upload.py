"""What each answer of the server does to a batch; the answers come from a transport in this process."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from agent.errors import CredentialRefusedError, OutboxError, ServerSilentError
from agent.outbox import Outbox
from agent.upload import MOST_RETRY_S, OUTDATED_S, Uploader
from analytics.measurement import Flow

Answer = Callable[[httpx.Request], httpx.Response]


def filled(folder: Path, batches: int = 2) -> Outbox:
    outbox = Outbox(folder, "pacs")
    for window in range(batches):
        outbox.add("flows", [Flow(tenant="default", agent="pacs", window_us=window, window_length_us=1)])
        outbox.flush()
    return outbox


def unread(answer: httpx.Response) -> httpx.Response:
    """As one comes from a network."""
    return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))


def send(outbox: Outbox, answer: Answer) -> None:
    async def whole() -> None:
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(lambda request: unread(answer(request))), base_url="https://server"
        ) as client:
            await Uploader(outbox, client).send_all()

    asyncio.run(whole())


def answering(status: int, headers: dict[str, str] | None = None) -> Answer:
    body = {"status": status, "title": "Not now", "detail": "why", "remedy": "this"}
    return lambda request: httpx.Response(status, json=body, headers=headers)


def test_what_is_acknowledged_is_forgotten(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"rows": 1})

    outbox = filled(tmp_path)
    send(outbox, take)
    assert len(outbox) == 0
    assert len(seen) == 2
    assert {request.headers["content-encoding"] for request in seen} == {"gzip"}


@pytest.mark.parametrize("status", [400, 403, 413])
def test_what_is_never_taken_is_set_aside(tmp_path: Path, status: int) -> None:
    outbox = filled(tmp_path)
    send(outbox, answering(status))
    assert len(outbox) == 0
    assert len(list(tmp_path.glob("*.refused"))) == 2


@pytest.mark.parametrize(
    ("status", "headers", "retry_s"),
    [
        (503, {"Retry-After": "2"}, 2),
        (507, {"Retry-After": "99999"}, MOST_RETRY_S),
        (500, {"Retry-After": "tomorrow"}, 0),
        (408, {}, 0),
        (422, {}, OUTDATED_S),
        (415, {}, OUTDATED_S),
    ],
)
def test_what_may_be_taken_later_is_kept(
    tmp_path: Path, status: int, headers: dict[str, str], retry_s: float
) -> None:
    outbox = filled(tmp_path)
    with pytest.raises(ServerSilentError, match="Not now: why") as caught:
        send(outbox, answering(status, headers))
    assert caught.value.retry_s == retry_s
    assert len(outbox) == 2


def test_a_server_that_is_away_loses_nothing(tmp_path: Path) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    outbox = filled(tmp_path)
    with pytest.raises(ServerSilentError, match="refused"):
        send(outbox, away)
    assert len(outbox) == 2


def test_an_unknown_credential_is_not_tried_again(tmp_path: Path) -> None:
    outbox = filled(tmp_path)
    with pytest.raises(CredentialRefusedError):
        send(outbox, answering(401))
    assert len(outbox) == 2


def test_an_answer_that_is_no_problem_json_is_still_readable(tmp_path: Path) -> None:
    with pytest.raises(ServerSilentError, match="HTTP 502"):
        send(filled(tmp_path), lambda request: httpx.Response(502, text="<html>bad gateway"))


def test_a_batch_that_cannot_be_read_now_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = filled(tmp_path)
    oldest, sent = outbox.oldest, asyncio.Event()
    failures = iter([OutboxError("read the outbox: Too many open files")])

    def failing_once() -> object:
        for failure in failures:
            raise failure
        return oldest()

    def take(request: httpx.Request) -> httpx.Response:
        sent.set()
        return httpx.Response(200, json={"rows": 1})

    async def scenario() -> None:
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(take), base_url="https://server"
        ) as client:
            monkeypatch.setattr(outbox, "oldest", failing_once)
            life = asyncio.create_task(Uploader(outbox, client, backoff=lambda _: 0).run())
            async with asyncio.timeout(30):
                await asyncio.wait(
                    {life, waiting := asyncio.create_task(sent.wait())}, return_when="FIRST_COMPLETED"
                )
            assert waiting.done()
            life.cancel()

    asyncio.run(scenario())
