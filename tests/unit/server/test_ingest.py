"""``POST /v1/batches`` and ``/v1/enrol`` over real sockets: what is taken, and what the rest is told."""

import asyncio
import gzip
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from agent.identity import VALID_FROM, VALID_UNTIL, create
from analytics.batch import SCHEMA_VERSION, pack_batch
from analytics.errors import StoreBusyError, StoreFullError
from analytics.measurement import Flow
from server import ingest
from server.api.problem import MEDIA_TYPE
from server.state import create_token
from tests.unit.server.enrolling import UNKNOWN_TOKEN, enrolment

Run = Callable[[Callable[[Any], Any]], None]

BOOT = "6f1c0a2b9d3e4f50"


def flow(agent: str = "pacs", tenant: str = "default", window_us: int = 1) -> Flow:
    return Flow(
        tenant=tenant, agent=agent, window_us=window_us, window_length_us=10_000_000, process="Orthanc"
    )


def batch(*rows: Flow, number: int = 0, agent: str = "pacs") -> bytes:
    return pack_batch(agent=agent, boot=BOOT, batch=number, tables={"flows": list(rows) or [flow(agent)]})


def of_version(schema: int) -> bytes:
    content = msgspec.msgpack.decode(batch())
    return msgspec.msgpack.encode({**content, "schema": schema})


def check_problem(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem = answer.json()
    assert problem["status"] == status
    assert words in f"{problem['title']}: {problem.get('detail', '')}"


def test_a_batch_is_taken_once_and_shows_up_at_once(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        pacs = await site.enrol("pacs")
        first = await site.send(pacs, batch(flow(), flow(window_us=2)))
        assert (first.status_code, first.json()) == (200, {"rows": 2, "duplicate": False})
        shown = (await site.report.get("/v1/flows")).json()
        assert [row["window_us"] for row in shown] == []  # a day old and more: filtered
        again = await site.send(pacs, gzip.compress(batch(flow(), flow(window_us=2))), **GZIP)
        assert again.json() == {"rows": 2, "duplicate": True}
        assert (await site.report.get("/v1/status")).json()["rows"]["flows"] == 2

    with_server(scenario)


GZIP = {"Content-Encoding": "gzip"}

REFUSALS = [
    ("not msgpack", b"\xc1", {}, 400, "not a batch"),
    ("cut short", batch()[:-3], {}, 400, "not a batch"),
    ("a table nobody knows", batch().replace(b"flows", b"blows"), {}, 400, "unknown table 'blows'"),
    ("an older schema", of_version(0), {}, 422, f"batch schema 0; this server knows {SCHEMA_VERSION}"),
    (
        "a newer schema",
        of_version(SCHEMA_VERSION + 1),
        {},
        422,
        f"batch schema {SCHEMA_VERSION + 1}; this server",
    ),
    (
        "another agent's batch",
        batch(agent="hotel"),
        {},
        403,
        "the batch is hotel's, the certificate is pacs's",
    ),
    ("another agent's rows", batch(flow("hotel")), {}, 400, "rows that are not pacs's"),
    (
        "another tenant's rows",
        batch(flow(), flow(tenant="other")),
        {},
        403,
        "rows that are not of tenant default",
    ),
    ("not gzip", batch(), GZIP, 415, "not gzip"),
    ("gzip cut short", gzip.compress(batch())[:-9], GZIP, 415, "cut short"),
    ("gzip and more", gzip.compress(batch()) + b"more", GZIP, 415, "cut short"),
    ("an unknown encoding", batch(), {"Content-Encoding": "br"}, 415, "Content-Encoding 'br'"),
    ("too large", bytes(ingest.MAX_BODY + 1), {}, 413, f"over {ingest.MAX_BODY} bytes"),
    ("a gzip bomb", gzip.compress(bytes(ingest.MAX_EXPANDED + 1)), GZIP, 413, "expands to over"),
]


def test_what_cannot_be_taken_is_answered_with_one_problem(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        pacs = await site.enrol("pacs")
        for what, body, headers, status, words in REFUSALS:
            answer = await site.send(pacs, body, **headers)
            check_problem(answer, status, words)
            assert answer.json().get("remedy") or status in (400, 403, 415), what
        assert (await site.report.get("/v1/status")).json()["rows"]["flows"] == 0

    with_server(scenario)


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic cGFjczpwYWNz", "Bearer"])
def test_without_a_certificate_nothing_is_read(with_server: Run, header: str | None) -> None:
    async def scenario(site: Any) -> None:
        headers = {} if header is None else {"Authorization": header}
        answer = await site.agents.post("/v1/batches", content=b"x", headers=headers)
        check_problem(answer, 401, "no certificate")
        assert answer.json()["remedy"]

    with_server(scenario)


@pytest.mark.parametrize(
    ("error", "status"), [(StoreFullError("disk full"), 507), (StoreBusyError("queue full"), 503)]
)
def test_a_store_that_cannot_take_more_says_when_to_come_again(
    with_server: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    async def refuse(*_: object) -> bool:
        raise error

    monkeypatch.setattr("analytics.store.store.Store.append", refuse)

    async def scenario(site: Any) -> None:
        answer = await site.send(await site.enrol("pacs"), batch())
        check_problem(answer, status, str(error))
        assert int(answer.headers["retry-after"]) > 0

    with_server(scenario)


def test_more_bytes_than_may_wait_for_the_disk_are_told_to_come_again(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MAX_PENDING", 100)

    async def scenario(site: Any) -> None:
        answer = await site.send(await site.enrol("pacs"), batch())
        check_problem(answer, 503, "wait for the disk")

    with_server(scenario)


def test_more_requests_than_fit_are_told_to_come_again(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MAX_IN_FLIGHT", 1)

    async def scenario(site: Any) -> None:
        pacs = await site.enrol("pacs")
        reading = asyncio.Event()
        go_on = asyncio.Event()

        async def slow_body() -> Any:
            yield batch()[:100]
            reading.set()
            await go_on.wait()
            yield batch()[100:]

        agent = await site.as_member(pacs)
        slow = asyncio.create_task(agent.post("/v1/batches", content=slow_body()))
        await reading.wait()
        while (answer := await site.send(pacs, batch())).status_code == 200:
            pass  # the first part of the slow body is still on its way through loopback
        check_problem(answer, 503, "1 batches are being read")
        go_on.set()
        assert (await slow).status_code == 200
        assert (await site.send(pacs, batch(number=1))).json() == {"rows": 1, "duplicate": False}

    with_server(scenario)


def test_more_batches_wait_for_the_disk_at_once_than_are_checked(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fsync serves all that wait together."""
    waiting = 2 * ingest.MAX_CHECKING
    together = asyncio.Barrier(waiting)

    async def append(*_: object) -> bool:
        async with asyncio.timeout(30):
            await together.wait()
        return True

    monkeypatch.setattr("analytics.store.store.Store.append", append)

    async def scenario(site: Any) -> None:
        pacs = await site.enrol("pacs")
        answers = await asyncio.gather(*(site.send(pacs, batch(number=n)) for n in range(waiting)))
        assert [answer.status_code for answer in answers] == [200] * waiting

    with_server(scenario)


def test_a_body_that_does_not_come_is_given_up(with_server: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "BODY_S", 0.05)

    async def scenario(site: Any) -> None:
        pacs = await site.enrol("pacs")
        at = site.running.agents
        reader, writer = await asyncio.open_connection(at.host, at.port, ssl=pacs.context)
        head = ["POST /v1/batches HTTP/1.1", "Host: x", "Content-Length: 9"]
        writer.write("\r\n".join([*head, "", "half"]).encode())
        assert b" 408 " in await reader.readline()
        writer.close()

    with_server(scenario)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({}, 400, "missing required field `token`"),
        ({"name": "Not A Name"}, 400, "regex"),
        ({"name": "pacs\n"}, 400, "regex"),
        ({"certificate": "AAAA"}, 400, "the certificate does not read"),
        ({"certificate": "not base64"}, 400, "base64"),
        ({"signature": "AAAA"}, 400, "the signature is not by the certificate's key"),
        ({"name": "home"}, 400, "the signature is not by the certificate's key"),
        ({"token": "pg-other-token"}, 400, "the signature is not by the certificate's key"),
        ({"colour": "red"}, 400, "unknown field `colour`"),
        ({"site": "there"}, 401, "unknown token"),
    ],
)
def test_an_enrolment_that_does_not_hold(
    with_server: Run, asked: dict[str, object], status: int, words: str
) -> None:
    async def scenario(site: Any) -> None:
        good = enrolment(UNKNOWN_TOKEN, "pacs")
        answer = await site.agents.post("/v1/enrol", json={**good, **asked} if asked else {})
        check_problem(answer, status, words)
        assert answer.json()["remedy"]

    with_server(scenario)


def test_who_knows_a_certificate_but_not_its_key_takes_no_name_over(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        victim = create("pacs")
        pacs = await site.enrol("pacs", identity=victim)
        token = await asyncio.to_thread(create_token, site.settings.data, 5, 60)
        forged = enrolment(token, "pacs") | {"certificate": b64encode(victim.certificate_der).decode()}
        check_problem(await site.agents.post("/v1/enrol", json=forged), 400, "not by the certificate's key")
        own = await site.agents.post("/v1/enrol", json=enrolment(token, "pacs"))
        check_problem(own, 409, "'pacs' belongs to another agent")
        assert (await site.send(pacs, b"not a batch")).status_code == 400  # still known by its certificate

    with_server(scenario)


def test_a_certificate_of_another_kind_of_key_is_refused(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pacs")])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(VALID_FROM)
            .not_valid_after(VALID_UNTIL)
            .sign(key, None)
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        asked = enrolment(UNKNOWN_TOKEN, "pacs") | {"certificate": b64encode(der).decode()}
        check_problem(await site.agents.post("/v1/enrol", json=asked), 400, "not an elliptic curve's")

    with_server(scenario)


def test_a_name_that_is_taken_and_a_body_too_large(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("pacs")
        with pytest.raises(AssertionError, match="The name is taken"):
            await site.enrol("pacs", identity=create("pacs"))
        check_problem(await site.agents.post("/v1/enrol", content=bytes(20_000)), 413, "over 16384 bytes")

    with_server(scenario)


def test_the_doors_do_not_lead_to_each_other(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        for path in ("/", "/v1/paths", "/v1/flows", "/openapi.json", "/docs"):
            check_problem(await site.agents.get(path), 404, "Not Found")
        assert (await site.report.post("/v1/batches")).status_code == 404
        assert (await site.report.post("/v1/enrol")).status_code == 404

    with_server(scenario)
