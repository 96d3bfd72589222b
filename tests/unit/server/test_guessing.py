"""Who guesses enrolment tokens is slowed down and counted; who has one comes in from elsewhere meanwhile."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from agent.identity import create
from server.state import create_token
from tests.unit.server.enrolling import UNKNOWN_TOKEN, enrolment, nobodys

Run = Callable[[Callable[[Any], Any]], None]


def test_guesses_are_put_off_and_a_token_that_holds_is_not_elsewhere(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        guess = enrolment(UNKNOWN_TOKEN, "guess", identity=create("guess"))
        found = Counter[int]()
        last = None
        for _ in range(40):
            last = await site.agents.post("/v1/enrol", json=guess)
            found[last.status_code] += 1
        assert found[401] >= 20
        assert found[429] >= 10
        assert found[401] + found[429] == 40
        assert last is not None
        if last.status_code == 429:
            assert int(last.headers["retry-after"]) > 0
        good = enrolment(create_token(site.settings.data, 1, 600), "pacs")
        elsewhere = httpx.AsyncHTTPTransport(verify=nobodys(site.settings.data), local_address="127.0.0.9")
        async with httpx.AsyncClient(transport=elsewhere, base_url=site.agents.base_url) as other:
            assert (await other.post("/v1/enrol", json=good)).status_code == 200
        told = (await site.report.get("/metrics")).text
        assert f"pathgrade_server_enrolments_put_off_total {found[429]}" in told.replace(".0\n", "\n")

    with_server(scenario)
