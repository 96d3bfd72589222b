"""What somebody sends who means no good, to a real server: it stays up, and they get nowhere."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers

from agent import tls
from server import board, listeners
from server.accounts import login
from server.accounts.proxies import Proxies, network, said_groups, said_name
from server.accounts.throttle import Throttle, keys_of
from server.api import body
from server.api.audits import AuditAsk, is_search
from server.board import Boards
from server.errors import BusyError
from server.settings import Settings
from server.turns import Turns
from tests.unit.server.browsers import PASSWORD, account, browser
from tests.unit.server.conftest import visited
from tests.unit.server.enrolling import nobodys

Run = Callable[[Callable[[Any], Any]], None]
PROXIES = Proxies((network("192.0.2.0/24"),))


def lines(*told: tuple[str, str]) -> Headers:
    """Headers of which one may come more than once."""
    return Headers(raw=[(name.encode(), value.encode()) for name, value in told])


async def raw(site: Any, head: list[str], *pieces: bytes) -> bytes:
    """Send what no client library would; returns the beginning of the answer."""
    where = urlsplit(str(site.report.base_url))
    context = tls.unproven() if where.scheme == "https" else None
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=context)
    try:
        writer.write("\r\n".join([*head, "", ""]).encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read(4_096)
    finally:
        writer.close()


def test_a_body_ends_at_its_bound_whatever_it_says_of_its_length(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        head = ["POST /login HTTP/1.1", "Host: localhost", "Cookie: pathgrade-visit=x"]
        head += [f"Content-Type: {body.FORM_TYPE}"]
        chunk = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
        # No last chunk: who waits for it waits for ever.
        both = [*head, "Content-Length: 5", "Transfer-Encoding: chunked"]
        assert b" 413 " in await raw(site, both, chunk)
        for length in ("-1", "1e3", "\u0663", "99999999"):
            assert (await raw(site, [*head, f"Content-Length: {length}"])).split()[1] in {b"400", b"413"}

    with_server(scenario)


def test_a_body_that_does_not_arrive_is_not_waited_for(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "BODY_S", 0.1)

    async def scenario(site: Any) -> None:
        head = ["POST /v1/accounts HTTP/1.1", "Host: localhost", f"Authorization: Bearer {site.token}"]
        head += ["Content-Type: application/json", "Content-Length: 5"]
        assert b" 408 " in await raw(site, head, b"{")

    with_server(scenario)


def test_where_a_login_goes_on_to_is_a_path_of_this_server_however_it_is_written(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        for asked, then in (
            ("/\u0142?a=b%20c&d=\u00e9", "/%C5%82?a=b%20c&d=%C3%A9"),
            ("//evil.example", "/"),
        ):
            async with browser(site) as ada:
                answer = await ada.log_in("ada", PASSWORD, next=asked)
                assert (answer.status_code, answer.headers["location"]) == (303, then)

    with_server(scenario)


def test_an_address_before_the_last_line_of_a_proxy_is_not_believed() -> None:
    """HAProxy adds a line below the one that came with the request."""
    two = lines(("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "198.51.100.7"))
    assert PROXIES.client("192.0.2.1", two) == "198.51.100.7"
    through = lines(("X-Forwarded-For", "203.0.113.9, 198.51.100.7"), ("X-Forwarded-For", "192.0.2.5"))
    assert PROXIES.client("192.0.2.1", through) == "198.51.100.7"


@pytest.mark.parametrize(
    ("told", "client"),
    [
        ("198.51.100.7:4711", "198.51.100.7"),  # each port would be somebody else to the throttle
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("203.0.113.9, unknown", "192.0.2.1"),
        ("203.0.113.9, fe80::1%evil", "192.0.2.1"),
        ("203.0.113.9, x=1 actor=root", "192.0.2.1"),
        (", ,", "192.0.2.1"),
    ],
)
def test_what_a_proxy_says_of_an_address_is_an_address(told: str, client: str) -> None:
    assert PROXIES.client("192.0.2.1", lines(("X-Forwarded-For", told))) == client


def test_of_two_lines_that_name_somebody_neither_counts() -> None:
    """One may be the asker's own, which a proxy that adds its line has left in."""
    assert said_name(lines(("X-User", "root"), ("X-User", "eve")), "X-User") is None
    assert said_groups(lines(("G", "admins"), ("G", "guests")), "G") == []
    assert said_name(lines(("X-User", "eve"), ("Y", "z")), "x-user") == "eve"


def test_a_name_that_was_guessed_before_the_first_run_is_still_made(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        code = site.running.people.code
        async with browser(site) as ada:
            for _ in range(6):
                await ada.send("/login", page="/setup", name="ada", password="wrong")
            made = await ada.send("/setup", page="/setup", code=code, name="ada", password=PASSWORD)
            assert (made.status_code, made.headers["location"]) == (303, "/login")
        assert [one["name"] for one in (await site.report.get("/v1/accounts")).json()] == ["ada"]

    with_server(scenario)


def test_a_role_of_a_tenant_that_there_is_not_begins_none(settings: Settings) -> None:
    proxied = Settings.load(
        **{name: getattr(settings, name) for name in ("data", "agents", "report", "stun", "settle_s")},
        proxies="127.0.0.1",
        proxy_header="X-Forwarded-User",
        proxy_roles="*=viewer@nowhere",
    )

    async def whole() -> None:
        async with visited(proxied) as site, browser(site) as via:
            answer = await via.client.get("/v1/status", headers={"X-Forwarded-User": "ben"})
            assert (answer.status_code, "nowhere" in answer.text) == (403, True)
            assert [realm.tenant for realm in site.running.realms.all()] == ["default"]

    asyncio.run(whole())


def test_the_servers_settings_are_not_for_the_admins_of_its_other_tenants(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.report.post("/v1/tenants", json={"name": "north"})
        for tenant, status, told in (("north", 403, False), ("default", 200, True)):
            sent = {"name": "lab", "scope": "admin", "tenant": tenant}
            made = (await site.report.post("/v1/access-tokens", json=sent)).json()
            bearer = {"Authorization": f"Bearer {made['token']}"}
            answer = await site.report.get("/v1/settings", headers=bearer)
            assert answer.status_code == status
            page = await site.report.get("/settings", headers=bearer)
            assert (page.status_code, str(site.settings.data) in page.text) == (200, told)

    with_server(scenario)


def test_a_refusal_is_not_kept_by_a_cache(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        answer = await site.report.get("/v1/paths/a/b")
        assert answer.status_code == 404
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"

    with_server(scenario)


def test_turns_are_given_back_whatever_happens() -> None:
    turns = Turns(1, "questions")
    for _ in range(3):
        with pytest.raises(KeyError), turns.taken():
            raise KeyError
    with turns.taken(), pytest.raises(BusyError), turns.taken():
        pass


def test_who_asks_for_many_moments_of_the_past_does_not_take_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board, "PAST_AT_ONCE", 1)
    nothing: Any = None
    boards = Boards(
        tenant="t",
        store=nothing,
        lately=nothing,
        usual=nothing,
        sessions=nothing,
        sight=nothing,
        clock=nothing,
    )
    going, come = threading.Event(), threading.Semaphore(0)

    def made(at_us: int) -> Any:
        come.release()
        assert going.wait(60)
        return at_us

    monkeypatch.setattr(boards, "_made_at", made)
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.append(boards.at(1)))
    first.start()
    assert come.acquire(timeout=60)
    with pytest.raises(BusyError):
        boards.at(2)
    going.set()
    first.join()
    assert (found, boards.at(1), boards.at(2)) == ([1], 1, 2)


def test_a_look_through_rows_of_tests_is_a_search() -> None:
    assert is_search(AuditAsk(subject="a"))
    assert is_search(AuditAsk(until_us=1))
    assert not is_search(AuditAsk(subject="a", tests=False))
    assert not is_search(AuditAsk(before=5))


def test_a_full_queue_of_logins_counts_against_nobody(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        async with browser(site) as ada:
            with monkeypatch.context() as full:
                full.setattr(login, "MOST_WAITING", 0)
                busy = [await ada.log_in("ada", "wrong") for _ in range(8)]
                assert {answer.status_code for answer in busy} == {503}
            assert (await ada.log_in("ada", PASSWORD)).status_code == 303

    with_server(scenario)


def test_a_failure_that_is_taken_back_is_one_less() -> None:
    throttle, keys = Throttle(), keys_of("ada", "192.0.2.9", None)
    for _ in range(6):
        throttle.failed(keys, 0.0)
    assert throttle.wait_s(keys, 0.0) > 0
    throttle.withdrawn(keys)
    throttle.withdrawn(keys)
    assert throttle.wait_s(keys, 0.0) == 0
    for _ in range(9):
        throttle.withdrawn(keys)
    assert len(throttle) == 0


def test_who_connects_and_says_nothing_is_let_go_and_who_listens_is_not(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "HEAD_S", 1.0)

    async def scenario(site: Any) -> None:
        for client, context in ((site.report, None), (site.agents, nobodys(site.settings.data))):
            for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
                assert await _until_closed(client, context, said) == b""
            first = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
            assert b"HTTP/1.1 " not in await _until_closed(client, context, first, b"GET /slow HTTP/1.1\r\n")
        async with site.report.stream("GET", "/v1/events") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "retry: 3000"
            reading = asyncio.ensure_future(_to_the_end(lines))
            await asyncio.wait([reading], timeout=1)
            assert not reading.done()
            reading.cancel()

    with_server(scenario)


async def _to_the_end(lines: AsyncIterator[str]) -> None:
    async for _ in lines:
        pass


async def _until_closed(client: Any, context: Any, said: bytes, then: bytes = b"") -> bytes:
    """Say something, and after its answer something more; returns what comes after that."""
    where = urlsplit(str(client.base_url))
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=context)
    writer.write(said)
    try:
        if then:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(then)
        return await reader.read()
    finally:
        writer.close()
