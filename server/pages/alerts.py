"""The page of alerts: what is wrong, what was, who is told. Essentials need no script."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from analytics.clock import DAY_US
from server.api.access import Scope, TheAlerts, needs
from server.api.alerts import Since, since_of
from server.pages import alert_words
from server.pages.frame import TheFrame
from server.pages.render import page

SHOWN: Final = 200
WEEK_US: Final = 7 * DAY_US
"""How far back the page goes, unless somebody asks otherwise."""


def router() -> APIRouter:
    """Build the route of the page."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/alerts")
    def alerts(door: TheAlerts, frame: TheFrame, since: Since = None) -> HTMLResponse:
        at_us = frame.at_us or frame.now_us
        since_us = since_of(since)
        found = door.alerts(
            max(0, at_us - WEEK_US) if since_us is None else since_us, SHOWN, at_us=frame.at_us
        )
        return page(
            "alerts.html",
            frame,
            found=found,
            receivers=door.receivers(),
            since=since or "",
            said=alert_words,
        )

    return routes
