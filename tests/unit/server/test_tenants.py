"""Two tenants on one server, with agents of the same names: nothing of the one is in any answer to the other.

All routes that read are taken from the application itself: a new one is tried without a change here.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agent.identity import create
from analytics.batch import pack_batch
from analytics.measurement import Direction, Flow
from analytics.wire import ServiceOffer
from server.accounts.mapping import Grant
from server.accounts.roles import Role
from server.accounts.tokens import create_access_token
from server.settings import Settings
from server.state import create_token
from tests.unit.server.browsers import PASSWORD, account, browser
from tests.unit.server.conftest import visited
from tests.unit.server.enrolling import Member, enrolment, member_of
from tests.unit.server.routes_of import Declared, routes_of
from tests.unit.server.test_core import hop, reading

Run = Callable[[Callable[[Any], Any]], None]
MARKS = {"north": "nnwkq", "south": "sshjz"}
"""A word in every name that a tenant chooses; in no word of the product."""
PATIENCE_S = 240
KEYS = {(tenant, name): create(name) for tenant in MARKS for name in ("a", "b", "c")}


def names_of(mark: str) -> list[str]:
    return ["a", "b", f"only-{mark}"]


@dataclass(frozen=True)
class Tenant:
    """One tenant, and a client with a token of its own."""

    name: str
    mark: str
    client: httpx.Client
    reader: dict[str, str]


async def filled(site: Any, tenant: str) -> Tenant:
    """Fill a tenant with agents, measurements, sessions, tags, marks, accounts and tokens."""
    mark, data = MARKS[tenant], site.settings.data
    name = f"t-{mark}"
    answer = await site.report.post("/v1/tenants", json={"name": name})
    assert answer.status_code == 201, answer.text
    members = await agents_of(site, name, mark, tenant)
    await send_facts(site, name, mark, members)
    admin = await asyncio.to_thread(create_access_token, data, f"adm-{mark}", scope="admin", tenant=name)
    reader = await asyncio.to_thread(create_access_token, data, f"rd-{mark}", tenant=name)
    client = httpx.Client(
        base_url=site.report.base_url, headers={"Authorization": f"Bearer {admin}"}, trust_env=False
    )
    for path, body in (
        ("/v1/services", {"agent": "a", "port": 8042, "name": f"DICOM {mark}", "profile": "pacs"}),
        ("/v1/mesh/marks", {"agent": f"only-{mark}"}),
        ("/v1/agents/a/tags", {"add": [mark]}),
        ("/v1/accounts", {"name": f"ada-{mark}", "password": PASSWORD, "role": "admin", "tenant": name}),
        ("/v1/access-tokens", {"name": f"prom-{mark}", "tenant": name}),
    ):
        done = await asyncio.to_thread(client.post, path, json=body)
        assert done.status_code < 300, (path, done.text)
    return Tenant(name, mark, client, {"Authorization": f"Bearer {reader}"})


async def agents_of(site: Any, tenant: str, mark: str, key: str) -> dict[str, Member]:
    token = await asyncio.to_thread(create_token, site.settings.data, 3, 60, tenant=tenant)
    made = {}
    for name, of in zip(names_of(mark), ("a", "b", "c"), strict=True):
        identity = KEYS[key, of] if of != "c" else create(name)
        asked = enrolment(token, name, f"site-{mark}", identity=identity)
        offer = ServiceOffer(name=f"PACS {mark}", profile="pacs", port=4242)
        answer = await site.agents.post(
            "/v1/enrol",
            json={**asked, "label": f"label {mark}", "services": [msgspec.structs.asdict(offer)]},
        )
        assert answer.status_code == 200, answer.text
        made[name] = member_of(site.settings.data, identity, answer.content)
    return made


async def send_facts(site: Any, tenant: str, mark: str, members: dict[str, Member]) -> None:
    now_us = time.time_ns() // 1000
    for src, member in members.items():
        for number, dst in enumerate(other for other in members if other != src):
            row = msgspec.structs.replace(
                reading(src, dst, 290, ended_us=now_us - 1_000_000), tenant=tenant, error=f"said {mark}"
            )
            tables = {
                "readings": [row],
                "hops": [msgspec.structs.replace(hop(src, dst), tenant=tenant)],
                "flows": [flow(tenant, src, mark, now_us)],
            }
            body = pack_batch(agent=src, boot="6f1c0a2b9d3e4f50", batch=number, tables=tables)
            answer = await site.send(member, body)
            assert answer.status_code == 200, answer.text


def flow(tenant: str, agent: str, mark: str, now_us: int) -> Flow:
    return Flow(
        tenant=tenant,
        agent=agent,
        window_us=now_us - 20_000_000,
        window_length_us=10_000_000,
        process=f"p-{mark}",
        direction=Direction.OUT,
        remote_address="10.0.0.2",
        service_port=8042,
        opened=1,
        segments_sent=9_000,
        bytes_sent=13_000_000,
        rtt_min_us=20_000,
        srtt_us=21_000,
    )


def read(client: httpx.Client, route: Declared, url: str, **asked: Any) -> httpx.Response:
    """GET; of a stream without an end, its beginning."""
    if route.path != "/v1/events":
        return client.get(url, **asked)
    with client.stream("GET", url, **asked) as stream:
        beginning = next(stream.iter_raw(), b"")
        return httpx.Response(stream.status_code, headers={}, content=beginning, request=stream.request)


def test_nothing_of_another_tenant_is_in_any_answer(settings: Settings) -> None:
    async def scenario(site: Any) -> None:
        north, south = [await filled(site, tenant) for tenant in MARKS]
        reading_routes = [
            route
            for application in site.running.apps
            for route in routes_of(application)
            if route.method == "GET" and route.needs in ("read", "operate", "admin")
        ]
        assert len(reading_routes) > 25
        await asyncio.to_thread(try_all, reading_routes, north, south)
        await asyncio.to_thread(try_any, reading_routes, north, south)

    async def whole() -> None:
        named = tuple(Grant(f"ops-{mark}", Role.VIEWER, f"t-{mark}") for mark in MARKS.values())
        chosen = settings.model_copy(update={"proxy_roles": named})  # settings name tenants, too
        async with asyncio.timeout(PATIENCE_S), visited(chosen) as site:
            await scenario(site)

    asyncio.run(whole())


def try_all(routes: list[Declared], *tenants: Tenant) -> None:
    """Each route, as each of the two: what is one's own is there, nothing of the other's is."""
    for own, other in (tenants, tenants[::-1]):
        seen = 0
        for route in routes:
            answer = read(own.client, route, route.url(table="flows"), params={"format": "csv"})
            assert other.mark not in answer.text, (route, answer.text)
            assert answer.status_code < 500, (route, answer.text)
            seen += own.mark in answer.text
            if own is not tenants[0]:
                continue
            foreign = own.client.get(route.url(), params={"tenant": other.name})
            unknown = own.client.get(route.url(), params={"tenant": "no-such"})
            assert foreign.status_code == unknown.status_code == 403, route
            assert foreign.text == unknown.text  # not even whether there is such a tenant
        assert seen > 10, "the facts of this test are not where the routes look"


def try_any(routes: list[Declared], *tenants: Tenant) -> None:
    """Any route, asked in any way: with names, profiles and moments that may be the other's."""
    names = st.sampled_from(
        ["a", "b", *(f"only-{tenant.mark}" for tenant in tenants), "nobody", "%2e%2e", "*"]
    )
    moments = st.sampled_from(["", str(time.time_ns() // 1000), "1h", "0", "nonsense"])

    @examples(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        route=st.sampled_from(routes),
        asking=st.booleans(),
        as_admin=st.booleans(),
        path=st.fixed_dictionaries(dict.fromkeys(("src", "dst", "name", "agent", "id"), names)),
        table=st.sampled_from(["paths", "hops", "flows", "grades", "receipts", "findings"]),
        question=st.fixed_dictionaries(
            {},
            optional={
                "agent": names,
                "site": st.sampled_from([f"site-{tenant.mark}" for tenant in tenants]),
                "process": st.sampled_from([f"p-{tenant.mark}" for tenant in tenants]),
                "profile": st.sampled_from(["pacs", "generic", "none"]),
                "format": st.sampled_from(["csv", "arrow"]),
                "at": moments,
                "before": moments,
                "since": moments,
                "by": st.sampled_from(["process", "destination"]),
                "tenant": st.sampled_from([tenant.name for tenant in tenants]),
            },
        ),
    )
    def answered(*, route: Any, asking: bool, as_admin: bool, path: Any, table: str, question: Any) -> None:
        own, other = tenants if asking else tenants[::-1]
        headers = {} if as_admin else own.reader
        url = route.url(**path, table=table)
        answer = read(own.client, route, url, params=question, headers=headers)
        assert answer.status_code < 500, (url, question, answer.text)
        asked = url + str(question)
        told = answer.text if other.mark not in asked else answer.text.replace(f"only-{other.mark}", "")
        for word in (f"site-{other.mark}", f"p-{other.mark}", other.name):
            told = told.replace(word, "") if word in asked else told  # what was asked may be said back
        assert other.mark not in told, (url, question, answer.text)

    answered()


def test_nothing_of_another_tenant_can_be_changed(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        north, south = [await filled(site, tenant) for tenant in MARKS]
        theirs = f"-{south.mark}"
        for method, path, body, expected in (
            ("POST", "/v1/mesh/marks", {"agent": f"only{theirs}"}, 409),
            ("POST", "/v1/mesh/runs", {"src": "a", "dst": f"only{theirs}"}, 409),
            ("POST", "/v1/services", {"agent": f"only{theirs}", "port": 1, "name": "X"}, 409),
            ("PATCH", f"/v1/accounts/ada{theirs}", {"role": "viewer"}, 409),
            ("DELETE", f"/v1/accounts/ada{theirs}", None, 409),
            ("DELETE", f"/v1/access-tokens/prom{theirs}", None, 409),
            ("DELETE", f"/v1/access-tokens/{site.actor.removeprefix('token:')}?everywhere=true", None, 409),
            ("POST", "/v1/accounts", {"name": "eve", "password": PASSWORD, "tenant": south.name}, 409),
            ("POST", "/v1/accounts", {"name": "eve", "password": PASSWORD, "tenant": "*"}, 409),
            ("POST", "/v1/access-tokens", {"name": "eve", "tenant": south.name}, 409),
            ("POST", "/v1/access-tokens", {"name": "eve", "tenant": "*", "scope": "admin"}, 409),
            ("POST", "/v1/tenants", {"name": "eve"}, 403),
            ("POST", f"/v1/mesh/marks?tenant={south.name}", {"agent": "a"}, 403),
        ):
            answer = await asyncio.to_thread(north.client.request, method, path, json=body)
            assert answer.status_code == expected, (path, answer.text)
        taken = await asyncio.to_thread(north.client.delete, f"/v1/accounts/nobody{theirs}")
        named = await asyncio.to_thread(north.client.delete, f"/v1/accounts/ada{theirs}")
        assert taken.json()["title"].replace("nobody", "ada") == named.json()["title"]
        assert (await asyncio.to_thread(south.client.get, "/v1/mesh/marks")).json() == [
            {"agent": f"only-{south.mark}", "peer": None, "important": True}
        ]

    with_server(scenario)


def test_staff_of_all_tenants_look_at_one_at_a_time(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        for tenant in MARKS:
            await filled(site, tenant)
        await account(site, "msp-ben", "operator", "*")
        async with browser(site) as ben:
            await ben.log_in("msp-ben")
            assert (await ben.get("/v1/agents")).json() == []  # the default tenant has none
            page = (await ben.get("/")).text
            assert 'name="tenant"' in page
            chosen = await ben.send("/account/tenant", tenant=f"t-{MARKS['north']}", next="/flows")
            assert (chosen.status_code, chosen.headers["location"]) == (303, "/flows")
            assert MARKS["north"] in (await ben.get("/flows")).text
            once = await ben.get(f"/v1/agents?tenant=t-{MARKS['south']}")
            assert {one["site"] for one in once.json()} == {f"site-{MARKS['south']}"}
            again = await ben.get("/v1/agents")
            assert {one["site"] for one in again.json()} == {f"site-{MARKS['north']}"}
            assert (await ben.get("/v1/agents?tenant=no-such")).status_code == 404
            assert (await ben.send("/account/tenant", tenant="no-such")).status_code == 404
        async with browser(site) as ada:
            await ada.log_in(f"ada-{MARKS['north']}")
            refused = await ada.send("/account/tenant", tenant=f"t-{MARKS['south']}")
            assert refused.status_code == 403
            assert MARKS["south"] not in (await ada.get("/settings/access")).text

    with_server(scenario)


def test_a_tenants_name_is_fit_for_a_folder(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        for name in ("", "*", "North", "a/b", "..", "x" * 64, "a b", "a\n"):
            answer = await site.report.post("/v1/tenants", json={"name": name})
            assert answer.status_code == 422, name

    with_server(scenario)
