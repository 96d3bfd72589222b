"""Accounts of a real server, as people and programs meet them: first run, login, sessions, tokens, roles."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from click.testing import Result
from typer.testing import CliRunner

from pathgrade import command_line
from server.accounts.known import COOKIE
from server.accounts.rows import hashed
from server.accounts.tokens import create_access_token
from server.errors import ServerError
from server.settings import Settings
from tests.unit.server.browsers import CSRF, PASSWORD, Browser, account, browser
from tests.unit.server.conftest import visited

Run = Callable[[Callable[[Any], Any]], None]
OTHER = "four other words and nothing"


def pathgrade(*words: str, **variables: str) -> Result:
    return CliRunner().invoke(command_line(), words, env=variables)


async def audit(site: Any) -> list[tuple[str, str, str]]:
    rows = (await site.report.get("/v1/audit")).json()
    return [(row["actor"], row["action"], row["subject"]) for row in rows]


def test_the_first_account_is_made_with_the_code_and_then_everybody_logs_in(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        code = site.running.people.code
        async with browser(site) as ada, browser(site) as other:
            page = await ada.get("/login")
            assert "There is no account yet" in page.text
            assert (await ada.get("/")).status_code == 200
            wrong = await ada.send("/setup", page="/setup", code="no", name="ada", password=PASSWORD)
            assert (wrong.status_code, "not the code" in wrong.text) == (403, True)
            weak = await ada.send("/setup", page="/setup", code=code, name="ada", password="ada ada ada ada")
            assert (weak.status_code, "few letters" in weak.text) == (409, True)
            far = {"Host": "pathgrade.example.org"}
            assert (await other.client.get("/setup", headers=far)).status_code == 403
            typed = code.replace("-", " ").lower()
            made = await ada.send("/setup", page="/setup", code=typed, name="ada", password=PASSWORD)
            assert (made.status_code, made.headers["location"]) == (303, "/")
            me = (await ada.get("/v1/me")).json()
            assert (me["name"], me["home"], "admin" in me["scopes"]) == ("ada", "*", True)
            assert (await other.get("/")).headers["location"] == "/login"
            assert (await other.get("/v1/me")).status_code == 401
            for path in ("/setup",):
                assert (await other.get(path)).status_code == 404  # once only
        assert ("setup", "account", "ada") in await audit(site)

    with_server(scenario)


def test_a_session_is_a_cookie_that_no_script_reads_and_a_hash_in_the_state(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        async with browser(site) as ada:
            answer = await ada.log_in("Ada", next="/flows?own=1")  # names are found however they are written
            assert (answer.status_code, answer.headers["location"]) == (303, "/flows?own=1")
            cookie = next(
                line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{COOKIE}=")
            )
            assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
            assert "Secure" not in cookie  # by http; below by https
            secret = ada.client.cookies[COOKIE]
            assert len(secret) == 43  # 256 bits
            state = (site.settings.data / "state.sqlite").read_bytes()
            wal = (site.settings.data / "state.sqlite-wal").read_bytes()
            assert secret.encode() not in state + wal
            assert hashed(secret).encode() in state + wal
            assert (await ada.get("/v1/me")).json()["scopes"] == ["read", "self"]
            assert (await ada.send("/logout", page="/account")).headers["location"] == "/login"
            ada.client.cookies.set(COOKIE, secret)
            assert (await ada.get("/v1/me")).status_code == 401
        rows = await audit(site)
        assert rows[:2] == [("ada", "logout", "ada"), ("ada", "login", "ada")]

    with_server(scenario)


def test_who_guesses_waits_and_who_was_here_before_does_not(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        site.running.people.logins._clock = lambda: 1_000.0  # however long this test takes
        async with browser(site) as ada, browser(site) as guesser:
            await ada.log_in("ada")
            await ada.send("/logout")
            seen = []
            for _ in range(8):
                answer = await guesser.log_in("ada", "a wrong password")
                seen.append(answer.status_code)
            assert seen[:5] == [403] * 5
            assert seen[-1] == 429
            assert answer.headers["retry-after"] == "1"
            assert (await guesser.log_in("ada")).status_code == 429  # the right one tells nothing now
            assert (await ada.log_in("ada")).status_code == 303
        rows = await audit(site)
        assert sum(row == ("ada", "login-refused", "ada") for row in rows) >= 5

    with_server(scenario)


def test_an_unknown_name_is_refused_in_the_same_words_and_not_written_down(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        async with browser(site) as stranger:
            known = await stranger.log_in("ada", "a wrong password")
            unknown = await stranger.log_in("hunter2-typed-here", "x")
            assert known.status_code == unknown.status_code == 403
            said = [line for line in known.text.splitlines() if "do not fit" in line]
            assert said
            assert said[0] in unknown.text
        text = (await site.report.get("/v1/audit")).text
        assert "hunter2" not in text
        assert "an unknown name" in text

    with_server(scenario)


def test_a_role_counts_at_once_and_a_disabled_account_is_out_at_once(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "boss", "admin", "*")
        await account(site, "ada", "operator")
        async with browser(site) as ada:
            await ada.log_in("ada")
            assert "operate" in (await ada.get("/v1/me")).json()["scopes"]
            await site.report.patch("/v1/accounts/ada", json={"role": "viewer"})
            assert "operate" not in (await ada.get("/v1/me")).json()["scopes"]
            await site.report.patch("/v1/accounts/ada", json={"disabled": True})
            assert (await ada.get("/v1/me")).status_code == 401
            assert (await ada.log_in("ada")).status_code == 403
            await site.report.patch("/v1/accounts/ada", json={"disabled": False})
            assert (await ada.log_in("ada")).status_code == 303
            assert (await site.report.delete("/v1/accounts/ada")).status_code == 204
            assert (await ada.get("/v1/me")).status_code == 401
        for change in ({"role": "viewer"}, {"disabled": True}):
            last = await site.report.patch("/v1/accounts/boss", json=change)
            assert (last.status_code, last.json()["title"]) == (409, "'boss' is the last admin")
        assert (await site.report.delete("/v1/accounts/boss")).status_code == 409

    with_server(scenario)


def test_a_new_password_of_ones_own_ends_the_sessions_elsewhere(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")

        async def changed(ada: Browser, **fields: str) -> httpx.Response:
            return await ada.send("/account/password", **fields)

        async with browser(site) as here, browser(site) as there, browser(site) as third:
            for one in (here, there, third):
                await one.log_in("ada")
            page = (await here.get("/account")).text
            assert page.count("<tr>") == 4
            assert (await here.send("/account/sessions", others="true")).status_code == 303
            assert (await third.get("/v1/me")).status_code == 401
            await there.log_in("ada")
            wrong = await changed(here, old="not it at all", new=OTHER, again=OTHER)
            assert (wrong.status_code, "old password is another" in wrong.text) == (409, True)
            short = await changed(here, old=PASSWORD, new="short", again="short")
            assert (short.status_code, "under 12 characters" in short.text) == (409, True)
            before = here.client.cookies[COOKIE]
            assert (await changed(here, old=PASSWORD, new=OTHER, again=OTHER)).status_code == 303
            assert here.client.cookies[COOKIE] != before
            assert (await here.get("/v1/me")).status_code == 200
            assert (await there.get("/v1/me")).status_code == 401
            assert (await there.log_in("ada")).status_code == 403
            assert (await there.log_in("ada", OTHER)).status_code == 303

    with_server(scenario)


def test_sessions_end_by_themselves_unused_and_after_their_longest(settings: Settings) -> None:
    async def whole() -> None:
        async with visited(settings) as site:
            people = site.running.people
            await account(site, "ada", "viewer")
            async with browser(site) as ada:
                await ada.log_in("ada")
                clock = people.sessions._clock
                for later_us, expected in ((119 * 60, 200), (121 * 60, 401)):
                    people.sessions._clock = lambda later=later_us: clock() + later * 1_000_000
                    people.known.forget()
                    assert (await ada.get("/v1/me")).status_code == expected
                people.sessions._clock = clock
                hash_ = hashed(ada.client.cookies[COOKIE])
                people.sessions.saw({hash_: clock() + 12 * 3_600_000_000})
                people.sessions._clock = lambda: clock() + 12 * 3_600_000_000 + 1
                people.known.forget()
                assert (await ada.get("/v1/me")).status_code == 401  # in use all the time, and yet over
                people.sessions.saw({})
                assert people.sessions.of("ada", "password") == []

    asyncio.run(whole())


def test_tokens_are_told_once_listed_used_and_revoked(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await site.report.post(
            "/v1/access-tokens", json={"name": "noc", "scope": "operate", "days": 90}
        )
        assert made.status_code == 201
        secret = made.json()["token"]
        assert secret.startswith("pga-")
        bearer = {"Authorization": f"Bearer {secret}"}
        assert (await site.report.get("/v1/me", headers=bearer)).json()["name"] == "token:noc"
        assert (await site.report.get("/v1/accounts", headers=bearer)).status_code == 403
        site.running.people._flush()
        listed = await site.report.get("/v1/access-tokens")
        assert secret not in listed.text
        (noc,) = [token for token in listed.json() if token["name"] == "noc"]
        assert noc["seen_us"] >= noc["made_us"]
        assert noc["expires_us"] == noc["made_us"] + 90 * 86_400_000_000
        assert noc["made_by"] == site.actor
        assert (await site.report.post("/v1/access-tokens", json={"name": "noc"})).status_code == 409
        assert (await site.report.delete("/v1/access-tokens/noc")).status_code == 204
        assert (await site.report.get("/v1/me", headers=bearer)).status_code == 401
        assert (await site.report.delete("/v1/access-tokens/noc")).status_code == 409
        brief = await asyncio.to_thread(create_access_token, site.settings.data, "brief", expires_s=0)
        over = await site.report.get("/v1/me", headers={"Authorization": f"Bearer {brief}"})
        assert (over.status_code, "expired" in over.json()["title"]) == (401, True)

    with_server(scenario)


def test_the_settings_page_makes_and_ends_accounts_and_tokens(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        path = "/settings/access"
        await account(site, "boss", "admin")
        async with browser(site) as boss:
            await boss.log_in("boss")
            page = (await boss.get(path)).text
            assert "Tenants" not in page  # of one tenant only
            assert (
                await boss.send(
                    f"{path}/accounts", name="ada", role="viewer", tenant="default", password=OTHER
                )
            ).status_code == 303
            other = await boss.send(f"{path}/accounts", name="eve", role="admin", tenant="*", password=OTHER)
            assert (other.status_code, "not yours to make" in other.text) == (409, True)
            await boss.send(f"{path}/account", name="ada", role="operator")
            await boss.send(f"{path}/account", name="ada", disabled="true")
            (ada,) = [one for one in (await site.report.get("/v1/accounts")).json() if one["name"] == "ada"]
            assert (ada["role"], ada["disabled"]) == ("operator", True)
            made = await boss.send(f"{path}/tokens", name="prom", scope="read", tenant="default", days="")
            assert made.status_code == 200
            assert "pga-" in made.text
            assert "pga-" not in (await boss.get(path)).text
            await boss.send(f"{path}/token", name="prom", tenant="default")
            assert "prom" not in (await boss.get(path)).text
            await boss.send(f"{path}/account", name="ada", remove="true")
            assert "ada" not in (await boss.get(path)).text

    with_server(scenario)


def test_the_commands_work_beside_the_server(with_server: Run, tmp_path: Path) -> None:
    async def scenario(site: Any) -> None:
        data = str(site.settings.data)
        secret = tmp_path / "password"
        secret.write_text(f"{PASSWORD}\nnot this line\n")

        async def run(*words: str) -> Result:
            return await asyncio.to_thread(pathgrade, "server", *words, "--data", data)

        added = await run("account", "add", "ada", "--role", "operator", "--password-file", str(secret))
        assert (added.exit_code, added.output) == (0, "ada: operator of default\n"), added.exception
        token = (await run("access-token", "noc", "--scope", "operate", "--expires", "90d")).output.strip()
        unknown = await run("token", "--tenant", "south")
        assert "no tenant is called 'south'" in str(unknown.exception)
        async with browser(site) as ada:
            while (await ada.get("/v1/status")).status_code == 200:
                pass  # it is seen within a second
            assert (await ada.log_in("ada")).status_code == 303
        where = {"PATHGRADE_URL": f"http://{site.running.report}", "HOME": str(tmp_path)}
        refused = await asyncio.to_thread(pathgrade, "mesh", "mark", "x", **where)
        assert isinstance(refused.exception, ServerError)
        assert "access-token" in refused.exception.remedy
        told = await asyncio.to_thread(pathgrade, "mesh", "mark", "--json", **where, PATHGRADE_TOKEN=token)
        assert (told.exit_code, json.loads(told.output)) == (0, [])

    with_server(scenario)


def test_reading_stays_open_on_the_servers_host_where_the_setting_says_so(settings: Settings) -> None:
    async def whole() -> None:
        async with visited(settings.model_copy(update={"local_reading": True})) as site:
            await account(site, "ada", "admin")
            async with browser(site) as screen:
                assert (await screen.get("/v1/status")).status_code == 200
                assert (await screen.client.post("/v1/mesh/marks", json={"agent": "a"})).status_code == 401
                far = await screen.client.get("/v1/status", headers={"Host": "pathgrade.example.org"})
                assert far.status_code == 401

    asyncio.run(whole())


def test_a_trusted_proxy_says_who_it_is_and_others_say_nothing(settings: Settings) -> None:
    proxied = Settings.load(
        **{
            **{name: getattr(settings, name) for name in ("data", "agents", "report", "stun", "settle_s")},
            "proxies": "127.0.0.1",
            "proxy_header": "X-Forwarded-User",
            "proxy_roles": "netops=operator,msp=admin@*,*=viewer",
            "public_url": "https://pathgrade.example.org",
        }
    )

    async def whole() -> None:
        async with visited(proxied) as site, browser(site) as via:

            async def me(**headers: str) -> httpx.Response:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await via.client.get("/v1/me", headers=named)

            assert (await me()).status_code == 401  # no first run: people are known by the proxy
            ben = (await me(X_Forwarded_User="ben", X_Forwarded_Groups="a, netops")).json()
            assert (ben["name"], "operate" in ben["scopes"], "self" in ben["scopes"]) == (
                "proxy:ben",
                True,
                False,
            )
            assert (await me(X_Forwarded_User="eve")).json()["scopes"] == ["read"]
            assert (await me(X_Forwarded_User="a\tb")).status_code == 401
            mark = {
                "headers": {"X-Forwarded-User": "ben", "X-Forwarded-Groups": "netops"},
                "json": {"agent": "a"},
            }
            assert (await via.client.post("/v1/mesh/marks", **mark)).status_code == 403  # no token of a page
            page = await via.client.get("/", headers=mark["headers"])
            found = CSRF.search(page.text)
            assert found
            mark["headers"]["X-CSRF-Token"] = found[1]
            assert (await via.client.post("/v1/mesh/marks", **mark)).status_code == 409  # no such agent
            await account(site, "ada", "viewer")
            await via.log_in("ada")  # its cookie is Secure: a browser sends it by https only
            assert via.client.cookies.jar
            assert all(cookie.secure for cookie in via.client.cookies.jar)
        elsewhere = proxied.model_copy(update={"proxies": ()})
        async with visited(elsewhere) as site, browser(site) as via:
            answer = await via.client.get("/v1/me", headers={"X-Forwarded-User": "ben"})
            assert answer.status_code == 401

    asyncio.run(whole())
