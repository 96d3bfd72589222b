"""The API against its own description: no 5xx, no status and no type that it does not name."""

import asyncio
from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.api.answers import ANSWERS, OF_NO_TYPE
from server.api.description import BODIES
from tests.unit.server.routes_of import routes_of

Run = Callable[[Callable[[Any], Any]], None]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 3
WITHOUT_AN_END = "/v1/events"


def test_every_route_that_takes_a_body_says_which(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        made = (await site.report.get("/v1/openapi.json")).json()
        taking = {
            (route.method.lower(), route.path)
            for route in routes_of(site.running.apps[1])
            if route.method in ("POST", "PUT", "PATCH") and route.path.startswith("/v1/")
        }
        assert set(BODIES) == taking
        every = {(method, path) for path, operations in made["paths"].items() for method in operations}
        assert set(ANSWERS) | set(OF_NO_TYPE) == every
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                assert {"401", "403", "422", "503"} <= set(operation["responses"]), path
                assert ("requestBody" in operation) == ((method, path) in taking), path
                assert operation["summary"], path

    with_server(scenario)


def test_nothing_it_is_asked_is_answered_otherwise_than_described(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("a")
        made = (await site.report.get("/v1/openapi.json")).json()
        await asyncio.to_thread(ask_everything, made, str(site.report.base_url), site.token)

    with_server(scenario)


def ask_everything(made: dict[str, Any], url: str, token: str) -> None:
    schema = schemathesis.openapi.from_dict(made)
    schema.config.update(base_url=url)
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path != WITHOUT_AN_END:
            ask(operation, {"Authorization": f"Bearer {token}"})
            asked += 1
    assert asked > 40


def ask(operation: Any, headers: dict[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,  # a fault found here must be found again
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def answered(case: Any) -> None:
        response = case.call(headers=headers)
        case.validate_response(response, checks=CHECKS)

    answered()
