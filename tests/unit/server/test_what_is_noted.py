"""Every route that changes something, and every one that hands out a file, leaves an audit row.

The routes are taken from the application: one that is new, and in no list here, fails the test.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from analytics.clock import now_us
from server.api.audits import AuditAsk, AuditEntry
from tests.unit.server.browsers import PASSWORD, account, browser
from tests.unit.server.routes_of import routes_of

Run = Callable[[Callable[[Any], Any]], None]
TESTS = Path(__file__).parents[1]
SERVER = Path(__file__).parents[3] / "server"
NEW = {"password": PASSWORD, "role": "viewer"}
SILENCE = {"matcher": {"where": "here"}, "until_us": now_us() + 3_600_000_000}

BY_API: Final[list[tuple[str, str, Any, str]]] = [
    ("POST", "/v1/mesh/marks", {"agent": "a"}, "mark"),
    ("POST", "/v1/mesh/switches", {"reach": "agent", "name": "a", "on": False}, "switch"),
    ("POST", "/v1/agents/{name}/tags", {"add": ["x"]}, "tags"),
    ("POST", "/v1/budgets", {"reach": "fleet", "cpu_bp": 50}, "budget"),
    ("POST", "/v1/services", {"agent": "a", "port": 104, "name": "PACS"}, "tag"),
    ("PUT", "/v1/policy", {"rules": []}, "policy"),
    ("DELETE", "/v1/agents/{name}", None, "revoke"),
    ("POST", "/v1/silences", SILENCE, "silence"),
    ("DELETE", "/v1/silences/{id}", None, "unsilence"),
    ("POST", "/v1/tenants", {"name": "north"}, "tenant"),
    ("POST", "/v1/accounts", {"name": "eve", **NEW}, "account"),
    ("PATCH", "/v1/accounts/{name}", {"role": "operator"}, "account"),
    ("DELETE", "/v1/accounts/{name}", None, "account"),
    ("POST", "/v1/access-tokens", {"name": "noc"}, "access-token"),
    ("DELETE", "/v1/access-tokens/{name}", None, "access-token"),
]
"""Method, path, body, the row's action; in this order."""
FIRST = {"If-Match": '"policy-0"'}
NAMES = {"DELETE /v1/access-tokens/{name}": "noc", "PATCH /v1/accounts/{name}": "eve"}
NAMES["DELETE /v1/accounts/{name}"] = "eve"

BY_FORM: Final[list[tuple[str, dict[str, str], str]]] = [
    ("/control/switch", {"reach": "agent", "name": "a", "on": "true"}, "switch"),
    ("/control/tags", {"agent": "a", "tags": "y"}, "tags"),
    ("/control/budget", {"reach": "fleet", "cpu_percent": "0.6"}, "budget"),
    ("/control/service", {"agent": "a", "port": "105", "name": "RIS"}, "tag"),
    ("/control/revoke", {"agent": "a"}, "revoke"),
    ("/settings/access/tenants", {"name": "south"}, "tenant"),
    ("/settings/access/accounts", {"name": "bob", "tenant": "default", **NEW}, "account"),
    ("/settings/access/account", {"name": "bob", "remove": "true"}, "account"),
    ("/settings/access/tokens", {"name": "lab", "scope": "read", "tenant": "default"}, "access-token"),
    ("/settings/access/token", {"name": "lab", "tenant": "default"}, "access-token"),
    ("/account/tenant", {"tenant": "default"}, "look"),
    ("/account/password", {"old": PASSWORD, "new": PASSWORD + "!", "again": PASSWORD + "!"}, "account"),
    ("/account/sessions", {"others": "true"}, "logout"),
    ("/logout", {}, "logout"),
]
ELSEWHERE: Final = {
    "POST /login": ("server/test_accounts.py", "login"),
    "POST /setup": ("server/test_accounts.py", "account"),
    "POST /v1/mesh/runs": ("server/test_mesh_door.py", "run"),
    "POST /control/run": ("server/test_mesh_door.py", "run"),  # the same door: server.desk
    "POST /v1/alerts/{id}/ack": ("alerts/test_alert_api.py", "ack"),
    "POST /alerts/{id}/ack": ("alerts/test_alert_api.py", "ack"),
    "POST /alerts/{id}/silence": ("alerts/test_alert_api.py", "silence"),
    "POST /silences/{id}/end": ("alerts/test_alert_api.py", "unsilence"),
    "POST /v1/alerts/receivers/{name}/test": ("alerts/test_alert_api.py", "alert-test"),
}
"""What needs agents that are online, or an alert: the test that has those looks for the row."""

FILES: Final = {"/v1/export/{table}", "/v1/audit.csv", "/v1/audit/export", "/v1/sla", "/v1/receipts"}
NO_FILES: Final = {"/v1/events"}
"""A stream that does not end."""


async def rows(site: Any, action: str) -> list[AuditEntry]:
    """Read them where they are, with those that wait to be written: half a second for each would be long."""
    audit = site.running.realms.of("default").audit
    await asyncio.to_thread(lambda: audit._write(audit._take()))
    found = await asyncio.to_thread(audit._state.audits.look, "default", AuditAsk(action=action, limit=500))
    return list(found)


async def noted(site: Any, action: str, actor: str, before: list[AuditEntry]) -> AuditEntry | None:
    """Find one more row; a file's is written behind its last byte."""
    for _ in range(100):
        for row in await rows(site, action):
            if row.actor == actor and row not in before:
                return row
        await asyncio.sleep(0.01)
    return None


def test_whatever_changes_something_leaves_a_row_of_who_did(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        changing = {
            f"{route.method} {route.path}"
            for route in routes_of(site.running.apps[1])
            if route.method not in ("GET", "WEBSOCKET")
        }
        known = {f"{method} {path}" for method, path, _, _ in BY_API} | {
            f"POST {path}" for path, _, _ in BY_FORM
        }
        assert changing == known | set(ELSEWHERE), "a route is in no list of this test"
        for file, action in ELSEWHERE.values():
            assert f'"{action}"' in (TESTS / file).read_text(), (file, action)
        await site.enrol("a")
        await _by_api(site)
        await _by_form(site)

    with_server(scenario)


async def _by_api(site: Any) -> None:
    made = ""
    for method, path, body, action in BY_API:
        name = NAMES.get(f"{method} {path}", "a")
        before = await rows(site, action)
        url = path.replace("{name}", name).replace("{id}", made)
        answer = await site.report.request(method, url, json=body, headers=FIRST)
        assert answer.status_code < 300, (path, answer.text)
        made = answer.json().get("id", "") if path == "/v1/silences" else made
        assert await noted(site, action, site.actor, before), (method, path)


async def _by_form(site: Any) -> None:
    await account(site, "ada", "admin", "*")
    async with browser(site) as ada, browser(site) as other:
        before = await rows(site, "login")
        await other.log_in("ada")
        await ada.log_in("ada")
        assert await noted(site, "login", "ada", before)
        csrf = await ada.csrf()
        for path, fields, action in BY_FORM:
            if path == "/account/sessions":  # the password is another, and the session
                await other.log_in("ada", PASSWORD + "!")
                csrf = await ada.csrf()
            before = await rows(site, action)
            answer = await ada.client.post(path, data={"csrf": csrf, **fields})
            assert answer.status_code < 400, (path, answer.text)
            assert await noted(site, action, "ada", before), path
        before = await rows(site, "login-refused")
        await other.log_in("ada", "wrong")
        assert await noted(site, "login-refused", "ada", before)


def test_whatever_hands_out_a_file_leaves_a_row_of_who_took_it_and_how_much(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("a")
        service = {"agent": "a", "port": 104, "name": "PACS"}
        assert (await site.report.post("/v1/services", json=service)).status_code == 200
        files, before = set(), await rows(site, "export")
        for route in routes_of(site.running.apps[1]):
            if route.method != "GET" or not route.path.startswith("/v1/") or route.path in NO_FILES:
                continue
            answer = await site.report.get(route.url())
            if "content-disposition" in answer.headers or route.path in FILES:
                assert answer.status_code == 200, (route.path, answer.text)
                files.add(route.path)
                row = await noted(site, "export", site.actor, before)
                assert row is not None, route.path
                assert re.search(rf"bytes={len(answer.content)}\b", row.detail), row
                before = await rows(site, "export")
        assert files >= FILES
        pages = (path.read_text() for path in (SERVER / "pages").rglob("*.py"))
        assert not any("Content-Disposition" in text for text in pages), "a page hands out a file"

    with_server(scenario)
