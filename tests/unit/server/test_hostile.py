"""What somebody sends who means no good, to a real server: it stays up, and they get nowhere."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers

from server.accounts.proxies import Proxies, network, said_groups, said_name
from server.api import body
from tests.unit.server.browsers import PASSWORD, account, browser

Run = Callable[[Callable[[Any], Any]], None]
PROXIES = Proxies((network("192.0.2.0/24"),))


def lines(*told: tuple[str, str]) -> Headers:
    """Headers of which one may come more than once."""
    return Headers(raw=[(name.encode(), value.encode()) for name, value in told])


async def raw(site: Any, head: list[str], *pieces: bytes) -> bytes:
    """Send what no client library would; returns the beginning of the answer."""
    where = urlsplit(str(site.report.base_url))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
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
