"""The page of alerts: what is wrong, what was, who is told. Essentials need no script."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from analytics.clock import DAY_US
from server.api.access import Scope, TheAlerts, TheCore, needs
from server.api.alerts import Since, since_of
from server.pages import alert_words
from server.pages.render import page

SHOWN: Final = 200


def router() -> APIRouter:
    """Build the route of the page."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/alerts")
    def alerts(core: TheCore, door: TheAlerts, since: Since = None) -> HTMLResponse:
        at_us = since_of(since)
        found = door.alerts(at_us, SHOWN)
        if at_us is None:  # a week, unless somebody asks otherwise
            found = door.alerts(max(0, found.at_us - 7 * DAY_US), SHOWN)
        return page(
            "alerts.html",
            found=found,
            receivers=door.receivers(),
            since=since or "",
            said=alert_words,
            status_now=core.status(),
        )

    return routes
