"""Logging in through a real OpenID Connect provider on loopback, and every way in which it must not work."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from server.settings import Settings
from tests.unit.server.browsers import Browser, account, browser
from tests.unit.server.conftest import LIMIT_S, visited
from tests.unit.server.oidc_provider import CLIENT, SECRET_WORD, Provider, provider

PUBLIC = "http://pathgrade.example.org"


@pytest.fixture
def login_provider() -> Iterator[Provider]:
    with provider() as made:
        yield made


@asynccontextmanager
async def served(settings: Settings, made: Provider, folder: Path, **more: Any) -> Any:
    secret = folder / "client-secret"
    secret.write_text(SECRET_WORD)
    given = {name: getattr(settings, name) for name in ("data", "agents", "report", "stun", "settle_s")}
    with_oidc = Settings.load(
        **given,
        public_url=PUBLIC,
        oidc_issuer=made.url,
        oidc_client_id=CLIENT,
        oidc_client_secret_file=secret,
        **{"oidc_roles": "netops=operator, msp=admin@*, north=viewer@north", **more},
    )
    async with asyncio.timeout(LIMIT_S), visited(with_oidc) as site, browser(site) as person:
        yield site, person


async def came_back(person: Browser, then: str = "/") -> str:
    """Go to the provider, and come back with its answer: path and question of where one is sent."""
    sent = await person.get(f"/login/oidc?next={then}")
    assert sent.status_code == 303, sent.text
    async with httpx.AsyncClient(trust_env=False) as outside:
        answer = await outside.get(sent.headers["location"])
    assert answer.headers["location"].startswith(f"{PUBLIC}/login/oidc/return?")
    return answer.headers["location"].removeprefix(PUBLIC)


def test_a_person_of_the_provider_has_the_role_of_their_group(
    settings: Settings, login_provider: Provider, tmp_path: Path
) -> None:
    async def whole() -> None:
        login_provider.person["groups"] = ["staff", "netops"]
        async with served(settings, login_provider, tmp_path) as (site, ada):
            assert (await ada.get("/")).headers[
                "location"
            ] == "/login"  # no first run: the provider knows people
            assert "Log in through your organisation" in (await ada.get("/login")).text
            inside = await ada.get(await came_back(ada, "/flows"))
            assert (inside.status_code, inside.headers["location"]) == (303, "/flows")
            me = (await ada.get("/v1/me")).json()
            assert (me["name"], me["home"], me["scopes"]) == (
                "oidc:ada",
                "default",
                ["operate", "read", "self"],
            )
            assert "logged in through your organisation" in (await ada.get("/account")).text
            rows = (await site.report.get("/v1/audit")).json()
            assert ("oidc:ada", "login") in {(row["actor"], row["action"]) for row in rows}
            await account(site, "ada", "admin")  # of the same name, and nobody's business
            assert (await ada.get("/v1/me")).json()["scopes"] == ["operate", "read", "self"]
            await site.report.delete("/v1/accounts/ada")
            assert (await ada.get("/v1/me")).status_code == 200
            assert (await ada.send("/logout")).status_code == 303
            assert (await ada.get("/v1/me")).status_code == 401

    asyncio.run(whole())


WRONG: dict[str, Callable[[Provider], None]] = {
    "issuer": lambda made: made.wrong.update(iss="https://evil.example"),
    "audience": lambda made: made.wrong.update(aud="another-client"),
    "party": lambda made: made.wrong.update(aud=[CLIENT, "another"], azp="another"),
    "expired": lambda made: made.wrong.update(exp=1_000_000_000),
    "no expiry": lambda made: made.wrong.update(exp=None),
    "from the future": lambda made: made.wrong.update(nbf=4_000_000_000),
    "nonce": lambda made: setattr(made, "nonce", "of another login"),
    "no nonce": lambda made: made.wrong.update(nonce=None),
    "another's key": lambda made: setattr(
        made, "forged", RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
    ),
    "not signed": lambda made: setattr(made, "unsigned", True),
    "no group": lambda made: made.person.update(groups=["staff"]),
    "two tenants": lambda made: made.person.update(groups=["netops", "north"]),
    "no name": lambda made: made.person.update(preferred_username="a\nb"),
}


def test_a_word_that_does_not_hold_lets_nobody_in(
    settings: Settings, login_provider: Provider, tmp_path: Path
) -> None:
    async def whole() -> None:
        async with served(settings, login_provider, tmp_path) as (_, eve):
            for what, spoil in WRONG.items():
                login_provider.person = {"sub": "42", "preferred_username": "eve", "groups": ["netops"]}
                login_provider.wrong, login_provider.nonce = {}, None
                login_provider.forged, login_provider.unsigned = None, False
                spoil(login_provider)
                answer = await eve.get(await came_back(eve))
                assert answer.status_code == 403, (what, answer.status_code)
                assert "pathgrade" not in eve.client.cookies, what
                assert (await eve.get("/v1/me")).status_code == 401, what

    asyncio.run(whole())


def test_an_answer_counts_once_and_only_where_the_login_was_begun(
    settings: Settings, login_provider: Provider, tmp_path: Path
) -> None:
    async def whole() -> None:
        login_provider.person["groups"] = ["msp"]
        async with served(settings, login_provider, tmp_path) as (site, ada), browser(site) as eve:
            back = await came_back(eve)
            assert (await ada.get(back)).status_code == 403  # sent to ada, who began nothing
            await came_back(ada)
            assert (await ada.get(back)).status_code == 403  # another was begun here
            for spoiled in (back.replace("state=", "state=x"), "/login/oidc/return?error=access_denied"):
                assert (await eve.get(spoiled)).status_code == 403
            other_issuer = back.replace("iss=", "iss=x")
            assert (await eve.get(other_issuer)).status_code == 403
            assert (await eve.get(back)).status_code == 303
            assert (await eve.get("/v1/me")).json()["home"] == "*"
            assert (await eve.get(back)).status_code == 403  # the cookie of the way there is gone

    asyncio.run(whole())


def test_a_provider_may_change_its_key_and_may_be_away(
    settings: Settings, login_provider: Provider, tmp_path: Path
) -> None:
    async def whole() -> None:
        login_provider.person["groups"] = ["netops"]
        async with served(settings, login_provider, tmp_path) as (site, ada):
            assert (await ada.get(await came_back(ada))).status_code == 303
            login_provider.renew_key()
            refused = await ada.get(await came_back(ada))
            assert refused.status_code == 403  # its keys were asked for a moment ago
            monotonic = site.running.people.oidc._monotonic
            site.running.people.oidc._monotonic = lambda: monotonic() + 11
            assert (await ada.get(await came_back(ada))).status_code == 303
            asked = login_provider.asked.count("/keys")
            await came_back(ada)
            assert login_provider.asked.count("/keys") == asked  # remembered
            site.running.people.oidc._monotonic = lambda: monotonic() + 4_000
            login_provider.url = "http://127.0.0.1:9"  # it calls itself something else now
            assert (await ada.get("/login/oidc")).status_code == 403
        login_provider.url = "http://127.0.0.1:9"
        async with served(settings, login_provider, tmp_path) as (_, ada):
            away = await ada.get("/login/oidc")
            assert away.status_code == 503
            assert "oidc_issuer" in away.text

    asyncio.run(whole())


def test_a_session_ends_when_the_settings_give_its_role_to_nobody_any_more(
    settings: Settings, login_provider: Provider, tmp_path: Path
) -> None:
    async def whole() -> None:
        login_provider.person["groups"] = ["netops"]
        async with served(settings, login_provider, tmp_path) as (_, ada):
            await ada.get(await came_back(ada))
            kept = dict(ada.client.cookies)
            assert (await ada.get("/v1/me")).json()["name"] == "oidc:ada"
        for roles, status in (("netops=operator", 200), ("netops=viewer", 401), ("netops=operator", 401)):
            async with served(settings, login_provider, tmp_path, oidc_roles=roles) as (_, ada):
                ada.client.cookies.update(kept)
                assert (await ada.get("/v1/me")).status_code == status, roles

    asyncio.run(whole())
