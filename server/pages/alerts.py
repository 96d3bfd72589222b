"""The page of alerts: what is wrong, what was, who is told. Essentials need no script."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from analytics.clock import DAY_US, now_us
from analytics.moments import moment_us
from server.alerts.model import Matcher
from server.api.access import Scope, TheAlerts, TheVisitor, needs
from server.api.alert_door import AckAsk, Note, SilenceAsk
from server.api.alerts import Id, Since, asked, since_of
from server.api.body import form_of, see_other
from server.pages import alert_words
from server.pages.control import Form, own
from server.pages.frame import TheFrame
from server.pages.render import page

SHOWN: Final = 200
WEEK_US: Final = 7 * DAY_US
"""How far back the page goes, unless somebody asks otherwise."""


SPANS: Final = {"30m": "30 minutes", "2h": "2 hours", "1d": "a day", "7d": "a week"}
"""For how long an alert can be silenced with a click."""


class AckForm(Form, frozen=True, kw_only=True):
    """Somebody has seen it."""

    note: Note = ""


class SilenceForm(AckForm, frozen=True, kw_only=True):
    """Nobody is told of it for so long."""

    span: Literal["30m", "2h", "1d", "7d"]


def router() -> APIRouter:
    """Build the routes of the page."""
    routes = APIRouter(include_in_schema=False)
    _add_page(routes)
    _add_forms(routes)
    return routes


def _add_page(routes: APIRouter) -> None:
    @routes.get("/alerts", dependencies=[needs(Scope.READ)])
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
            spans=SPANS,
        )


def _add_forms(routes: APIRouter) -> None:
    @routes.post("/alerts/{id}/ack", dependencies=[needs(Scope.OPERATE)])
    async def acknowledge(request: Request, id: Id, door: TheAlerts, visitor: TheVisitor) -> Response:
        form = await form_of(request, AckForm)
        await asked(lambda: door.acknowledge(id, AckAsk(note=form.note), actor=visitor.name))
        return see_other(own(form.back))

    @routes.post("/alerts/{id}/silence", dependencies=[needs(Scope.OPERATE)])
    async def silence(request: Request, id: Id, door: TheAlerts, visitor: TheVisitor) -> Response:
        form = await form_of(request, SilenceForm)
        now = now_us()
        until_us = now + (now - (moment_us(form.span, now) or now))
        ask = SilenceAsk(matcher=Matcher(id=id), until_us=until_us, note=form.note)
        await asked(lambda: door.silence(ask, actor=visitor.name))
        return see_other(own(form.back))

    @routes.post("/silences/{id}/end", dependencies=[needs(Scope.OPERATE)])
    async def unsilence(request: Request, id: Id, door: TheAlerts, visitor: TheVisitor) -> Response:
        form = await form_of(request, Form)
        await asked(lambda: door.unsilence(id, actor=visitor.name))
        return see_other(own(form.back))
