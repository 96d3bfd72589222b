"""The audit log: who did what to whom, and when."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from server.api.access import Scope, TheCore, needs
from server.api.audit import Before, asked
from server.api.moments import At
from server.api.routes import Filter
from server.pages.frame import TheFrame
from server.pages.render import page

ROWS: Final = 100
"""On one page."""
CSV_ROWS: Final = 5_000


def router() -> APIRouter:
    """Build the route."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/audit")
    def audit(
        *,
        core: TheCore,
        frame: TheFrame,
        actor: Filter = None,
        action: Filter = None,
        subject: Filter = None,
        since: At = None,
        until: At = None,
        tests: bool = False,
        before: Before = None,
    ) -> HTMLResponse:
        ask = asked(
            actor=actor,
            action=action,
            subject=subject,
            since=since,
            until=until,
            before=before,
            tests=tests,
            limit=ROWS + 1,
        )
        if ask.until_us is None and frame.at_us is not None:
            ask = msgspec.structs.replace(ask, until_us=frame.at_us)
        rows = core.audit(ask)
        fields = {"actor": actor, "action": action, "subject": subject, "since": since, "until": until}
        table = {name: value for name, value in fields.items() if value} | {"tests": str(tests).lower()}
        return page(
            "audit.html",
            frame,
            rows=rows[:ROWS],
            next=rows[ROWS - 1].id if len(rows) > ROWS else None,
            first=before is None,
            asked={name: value or "" for name, value in fields.items()},
            tests=tests,
            actions=core.audit_actions(),
            csv=f"/v1/audit.csv?{urlencode({**table, 'limit': CSV_ROWS})}",
        )

    return routes
