"""Every route of both listeners: what it needs is declared, and nobody gets in with less."""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from server.accounts.tokens import create_access_token
from server.api.csrf import csrf_key, csrf_token
from tests.unit.server.browsers import account, browser
from tests.unit.server.enrolling import nobodys
from tests.unit.server.routes_of import Declared, routes_of

Run = Callable[[Callable[[Any], Any]], None]
SAFE = {"GET", "WEBSOCKET"}
MAY_CHANGE = {"operate", "admin", "self", "agent"}
PUBLIC = {
    ("GET", "/v1/openapi.json"),
    ("GET", "/static/{name}"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/login/oidc"),
    ("GET", "/login/oidc/return"),
    ("GET", "/setup"),
    ("POST", "/setup"),
    ("POST", "/v1/enrol"),
    ("GET", "/v1/authority"),
    ("GET", "/v1/renewal"),
    ("POST", "/v1/renewal"),
}
"""The routes that are everybody's. Each says in its code why."""


def all_routes(site: Any) -> tuple[list[Declared], list[Declared]]:
    agents, report = site.running.apps
    return routes_of(agents), routes_of(report)


async def token(site: Any, scope: str, tenant: str = "default") -> dict[str, str]:
    name = f"{scope}-{tenant.replace('*', 'all')}"
    made = await asyncio.to_thread(create_access_token, site.settings.data, name, scope=scope, tenant=tenant)
    return {"Authorization": f"Bearer {made}"}


def test_every_route_says_what_it_needs(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        agents, report = all_routes(site)
        for route in [*agents, *report]:
            assert (route.needs is None) != (route.public is None), f"{route} declares neither or both"
            if route.method not in SAFE and route.needs:
                assert set(route.needs.split(", ")) & MAY_CHANGE, f"{route} changes something as a reader"
        assert {route.needs for route in agents} == {"agent", None}
        assert not any("agent" in (route.needs or "").split(", ") for route in report)
        assert {(route.method, route.path) for route in [*agents, *report] if route.public} == PUBLIC

    with_server(scenario)


def test_what_changes_something_is_refused_without_a_credential_and_to_a_reader(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        changing = [route for route in all_routes(site)[1] if route.method not in SAFE and route.needs]
        assert len(changing) > 15
        reader = await token(site, "read")
        anonymous = {"Authorization": "", "Content-Type": "application/json"}
        for route in changing:
            api = route.path.startswith("/v1/")
            unknown = await site.report.request(route.method, route.url(), headers=anonymous, content=b"{}")
            assert unknown.status_code == (401 if api else 303), route
            if api:
                assert unknown.headers["www-authenticate"].startswith("Bearer")
                assert unknown.json()["remedy"]
            else:
                assert unknown.headers["location"] == "/login"
            less = await site.report.request(route.method, route.url(), headers=reader, content=b"{}")
            assert less.status_code == 403, route

    with_server(scenario)


def test_a_session_changes_nothing_without_a_token_of_its_own_page(with_server: Run) -> None:
    """None, another session's, a right one that another site's page sends; the right one gets through."""

    async def scenario(site: Any) -> None:
        await account(site, "ada", "admin", "*")
        changing = [route for route in all_routes(site)[1] if route.method not in SAFE and route.needs]
        async with browser(site) as ada, browser(site) as eve:
            await ada.log_in("ada")
            await eve.log_in("ada")
            own = csrf_token(csrf_key(ada.client.cookies["pathgrade"]))
            others = csrf_token(csrf_key(eve.client.cookies["pathgrade"]))
            host = ada.client.base_url.netloc.decode()
            refused: list[dict[str, str]] = [
                {},
                {"X-CSRF-Token": others},
                {"X-CSRF-Token": "x" * 44},
                {"X-CSRF-Token": own, "Origin": "https://evil.example"},
                {"X-CSRF-Token": own, "Origin": "null"},
                {"X-CSRF-Token": own, "Sec-Fetch-Site": "cross-site"},
                {"X-CSRF-Token": own, "Sec-Fetch-Site": "same-site", "Origin": f"http://{host}"},
            ]
            for place, route in enumerate(changing):
                for headers in refused if place < 2 else [refused[0], refused[place % 6 + 1]]:
                    answer = await ada.client.request(route.method, route.url(), headers=headers, content=b"")
                    assert answer.status_code == 403, (route, headers, answer.text)
            body = {"agent": "nobody"}
            for headers in (
                {"X-CSRF-Token": own},
                {"X-CSRF-Token": own, "Origin": f"http://{host}"},
                {"X-CSRF-Token": own, "Sec-Fetch-Site": "same-origin"},
            ):
                meant = await ada.client.post("/v1/mesh/marks", json=body, headers=headers)
                assert meant.status_code == 409  # there is no such agent
            form = await ada.client.post("/settings/access/tenants", data={"name": "north"})
            assert form.status_code == 403
            form = await ada.client.post("/settings/access/tenants", data={"name": "north", "csrf": own})
            assert form.status_code == 303

    with_server(scenario)


def test_a_login_cannot_be_sent_by_another_sites_page(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        async with browser(site) as stranger:
            sent = {"name": "ada", "password": "x", "csrf": csrf_token(b"")}
            assert (await stranger.client.post("/login", data=sent)).status_code == 403
            await stranger.get("/login")
            assert (await stranger.client.post("/login", data=sent)).status_code == 403

    with_server(scenario)


def test_what_is_read_needs_who_reads_once_there_is_an_account(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        async with browser(site) as nobody:
            assert (await nobody.get("/v1/status")).status_code == 200  # the first run, on this host
            far = await nobody.client.get("/v1/status", headers={"Host": "pathgrade.example.org"})
            assert far.status_code == 401
            assert "account add" in far.json()["remedy"]
            behind = await nobody.client.get("/", headers={"X-Forwarded-For": "192.0.2.1"})
            assert (behind.status_code, behind.headers["location"]) == (303, "/login")
            await account(site, "ada", "viewer")
            reader = await token(site, "read")
            for route in all_routes(site)[1]:
                if route.method != "GET" or route.public or route.path == "/v1/events":
                    continue
                answer = await nobody.get(route.url())
                api = route.path.startswith("/v1/")
                assert answer.status_code == (401 if api else 303), route
                if not api:
                    assert answer.headers["location"].startswith("/login"), route
                answer = await nobody.client.get(route.url(), headers=reader)
                expected = 403 if route.needs != "read" else None
                assert answer.status_code == expected or (
                    expected is None and answer.status_code in (200, 303, 404, 409, 422)
                ), (route, answer.status_code)
            page = await nobody.client.get("/flows", headers={"HX-Request": "true"})
            assert (page.status_code, page.headers["hx-redirect"]) == (401, "/login")

    with_server(scenario)


def test_an_agents_certificate_and_an_access_token_open_one_listener_each(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        member = await site.enrol("a")
        bearer = {"Authorization": f"Bearer {b64encode(member.reply.certificate).decode()}"}
        for route in all_routes(site)[1]:
            if route.needs and route.method != "WEBSOCKET":
                answer = await site.report.request(route.method, route.url(), headers=bearer)
                assert answer.status_code in (401, 303), route
        url, context = f"wss://{site.running.agents}/v1/control", nobodys(site.settings.data)
        for headers in ({}, {"Authorization": f"Bearer {site.token}"}):
            assert (await site.agents.post("/v1/batches", headers=headers)).status_code == 401
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, ssl=context, additional_headers=headers, proxy=None):
                    pass
            assert refused.value.response.status_code == 401

    with_server(scenario)


def test_a_stream_of_events_ends_when_its_session_does(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        async with browser(site) as ada:
            await ada.log_in("ada")
            site.running.apps[1].state.events._heartbeat_s = 0.2  # the product's 15 s are long for a test
            async with ada.client.stream("GET", "/v1/events") as stream:
                assert stream.status_code == 200
                changed = await site.report.patch("/v1/accounts/ada", json={"disabled": True})
                assert changed.status_code == 200
                async with asyncio.timeout(30):
                    async for _ in stream.aiter_bytes():
                        pass
            assert (await ada.get("/v1/status")).status_code == 401

    with_server(scenario)


def test_a_body_is_not_read_before_it_is_known_who_sends_it(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        large = b"x" * 1_000_000
        for path in ("/v1/mesh/marks", "/settings/access/tenants"):
            answer = await site.report.post(path, content=large, headers={"Authorization": "Bearer no"})
            assert answer.status_code in (401, 303)
        answer: httpx.Response = await site.report.post(
            "/v1/mesh/marks", content=large, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413

    with_server(scenario)
