"""What the API can do, as OpenAPI (3.1): ``GET /v1/openapi.json``.

Routes read their bodies and write their answers themselves (``server.api.body``), so FastAPI knows only
their parameters. The rest is here and in ``server.api.answers``: a table of bodies and one of answers, and
which problems a route can have by its kind.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response

from analytics.policy import PolicyRules
from analytics.written import MEDIA_TYPES
from server.accounts.people import AccountChange, NewAccount
from server.accounts.tokens import NewToken
from server.api.access import public
from server.api.accounts import NewTenant
from server.api.alert_door import AckAsk, SilenceAsk, TestAsk
from server.api.answers import ANSWERS
from server.api.body import json_of
from server.api.controls import BudgetAsk, SwitchAsk, TagsAsk
from server.api.doors import Mark, MeshAsk, ServiceTag
from server.api.problem import MEDIA_TYPE, Problem

PATH: Final = "/v1/openapi.json"

BODIES: Final[dict[tuple[str, str], type[msgspec.Struct]]] = {
    ("post", "/v1/mesh/runs"): MeshAsk,
    ("post", "/v1/mesh/marks"): Mark,
    ("post", "/v1/mesh/switches"): SwitchAsk,
    ("post", "/v1/agents/{name}/tags"): TagsAsk,
    ("post", "/v1/budgets"): BudgetAsk,
    ("put", "/v1/policy"): PolicyRules,
    ("post", "/v1/services"): ServiceTag,
    ("post", "/v1/alerts/{id}/ack"): AckAsk,
    ("post", "/v1/silences"): SilenceAsk,
    ("post", "/v1/alerts/receivers/{name}/test"): TestAsk,
    ("post", "/v1/accounts"): NewAccount,
    ("patch", "/v1/accounts/{name}"): AccountChange,
    ("post", "/v1/access-tokens"): NewToken,
    ("post", "/v1/tenants"): NewTenant,
}

DONE: Final = {
    ("post", "/v1/accounts"): "201",
    ("post", "/v1/access-tokens"): "201",
    ("post", "/v1/tenants"): "201",
}
"""Where what is done is not told by 200."""

MEDIA: Final = {
    ("get", "/v1/export/{table}"): tuple(MEDIA_TYPES.values()),
    ("get", "/v1/audit.csv"): ("text/csv; charset=utf-8",),
    ("get", "/v1/audit/export"): ("application/jsonl",),
    ("get", "/v1/receipts"): ("application/x-ndjson",),
}
"""Where the answer is not JSON."""

ALWAYS: Final = {
    "401": "no credential, or one that is none",
    "403": "a credential of less scope, or of another tenant",
    "404": "something that is named is not there",
    "422": "a parameter or the body does not fit",
    "500": "the server failed: its log has the cause",
    "503": "busy, or the store or the state cannot be reached: come again",
}
FASTAPIS: Final = ("HTTPValidationError", "ValidationError")
"""Answers that FastAPI would give; ours are problems."""
READ: Final = {"304": "what is known already is still so"}
CHANGED: Final = {"409": "it cannot be had now"}
REPLACED: Final = {
    ("put", "/v1/policy"): {"412": "it is another version by now", "428": "If-Match is missing"},
}
"""Where a version is replaced that was looked at (RFC 9110, 13.1.1)."""
SENT: Final = {
    "400": "the body broke off",
    "408": "the body did not arrive in time",
    "413": "the body is too large, or does not say its length",
    "415": "the body is not JSON by its type",
}


def add_description(app: FastAPI) -> None:
    """Add the route. FastAPI's own says nothing of who may read it; its pages load scripts from elsewhere."""

    @functools.cache  # 50 ms on the event loop, and anybody may ask
    def told() -> dict[str, Any]:
        return described(app.openapi())

    @app.get(
        PATH, include_in_schema=False, dependencies=[public("it describes the API, and holds nothing else")]
    )
    async def description(request: Request) -> Response:
        return json_of(told())


def described(made: Mapping[str, Any]) -> dict[str, Any]:
    """Complete what FastAPI made of the routes. Pure."""
    kinds = list(dict.fromkeys([Problem, *BODIES.values(), *ANSWERS.values()]))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    refs = dict(zip(kinds, schemas, strict=True))
    paths = {
        path: {method: _operation(method, path, operation, refs) for method, operation in operations.items()}
        for path, operations in made["paths"].items()
    }
    security = {"bearer": {"type": "http", "scheme": "bearer", "description": "an access token: pga-..."}}
    kept = {
        name: schema
        for name, schema in made.get("components", {}).get("schemas", {}).items()
        if name not in FASTAPIS
    }
    return {
        **made,
        "paths": paths,
        "components": {"schemas": {**kept, **components}, "securitySchemes": security},
        "security": [{"bearer": []}],
    }


def _operation(
    method: str, path: str, operation: Mapping[str, Any], refs: Mapping[Any, Any]
) -> dict[str, Any]:
    key = (method, path)
    said = dict(operation["responses"])
    if key in DONE:
        said = {DONE[key]: said.pop("200")}
    if key in MEDIA:
        said["200"] = {"description": "a file", "content": {media: {} for media in MEDIA[key]}}
    if key in ANSWERS:
        done = min(said)
        said[done] = {**said[done], "content": {"application/json": {"schema": refs[ANSWERS[key]]}}}
    problems = {MEDIA_TYPE: {"schema": refs[Problem]}}
    for status, why in _others(method, key).items():
        said[status] = {"description": why} | ({"content": problems} if status != "304" else {})
    described = {**operation, "responses": dict(sorted(said.items()))}
    if key in BODIES:
        content = {"application/json": {"schema": refs[BODIES[key]]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _others(method: str, key: tuple[str, str]) -> dict[str, str]:
    return {
        **ALWAYS,
        **(READ if method == "get" else CHANGED),
        **(SENT if key in BODIES else {}),
        **REPLACED.get(key, {}),
    }
