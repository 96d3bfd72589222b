"""A browser as the pages see one: it keeps cookies, and sends the forms it was given."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

PASSWORD = "four words and nothing else"  # of accounts in tests
CSRF = re.compile(
    r'hx-headers="{&#34;(?i:X-CSRF-Token)&#34;:&#34;([^&]+)&#34;}"'
    r'|<input type="hidden" name="csrf" value="([^"]+)">'  # of the forms of who is nobody yet
)


class Browser:
    """Somebody at the pages."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def csrf(self, path: str = "/account") -> str:
        found = CSRF.search((await self.get(path)).text)
        assert found, f"no form on {path}"
        return found[1] or found[2]

    async def send(self, path: str, *, page: str = "/account", **fields: Any) -> httpx.Response:
        """Send a form of a page."""
        return await self.client.post(path, data={"csrf": await self.csrf(page), **fields})

    async def log_in(self, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
        return await self.send("/login", page="/login", name=name, password=password, **more)


@asynccontextmanager
async def browser(site: Any) -> AsyncIterator[Browser]:
    """Open one that has no cookie yet."""
    async with httpx.AsyncClient(base_url=site.report.base_url, trust_env=False, timeout=30) as client:
        yield Browser(client)


async def account(site: Any, name: str, role: str, tenant: str = "default") -> None:
    """Make an account over the API."""
    sent = {"name": name, "role": role, "tenant": tenant, "password": PASSWORD}
    answer = await site.report.post("/v1/accounts", json=sent)
    assert answer.status_code == 201, answer.text
