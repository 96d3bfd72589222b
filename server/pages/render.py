"""Templates to responses: the environment, the filters, and the headers every page carries."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analytics.clock import HOUR_US
from analytics.then import FROM_NOW
from server.api.access import visitor_now
from server.api.csrf import FIELD, HEADER, csrf_token
from server.api.problem import Problem
from server.pages import text
from server.pages.assets import ASSETS_VERSION
from server.pages.frame import Frame
from server.pages.nav import NAV
from server.pages.overview_view import since_words

HEADERS: Final = {
    # Nothing but our own files: no inline script or style, no frame around us, no form to anyone else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

FILTERS: Final = {
    name: getattr(text, name)
    for name in (
        "age",
        "age_of",
        "since",
        "capacity",
        "clock",
        "duration",
        "expected",
        "hours",
        "interval",
        "iso",
        "limited",
        "loss",
        "ms",
        "person",
        "plural",
        "rate",
        "service",
        "share",
        "size",
        "subject",
        "tenths",
        "why",
    )
}


def page(template: str, frame: Frame | None = None, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a template as a page; without a frame, one that says a problem."""
    body = _environment.get_template(template).render(frame=frame, **context)
    return HTMLResponse(body, status_code=status, headers=HEADERS)


def fragment(template: str, frame: Frame | None = None, **context: Any) -> HTMLResponse:
    """Render a piece of a page, which htmx or a script puts where it belongs."""
    return page(template, frame, **context)


def message(problem: Problem) -> HTMLResponse:
    """Say a problem as a page, in words."""
    return page("message.html", status=problem.status, problem=problem)


def problem_part(problem: Problem) -> HTMLResponse:
    """Say a problem where a piece of a page was asked for."""
    return page("problem_part.html", status=problem.status, problem=problem)


def csrf_input(key: bytes) -> Markup:
    """Make the hidden field of a form that changes something."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(
        FIELD, csrf_token(key)
    )  # format escapes


def csrf_field() -> Markup:
    """Make the hidden field for who asks now; nothing for who may change nothing by a browser."""
    key = _key_now()
    return csrf_input(key) if key is not None else Markup()


def csrf_headers() -> Markup:
    """Make the attribute with which htmx sends the token in whatever stands below (hx-headers)."""
    key = _key_now()
    if key is None:
        return Markup()
    value = msgspec.json.encode({HEADER: csrf_token(key)}).decode()
    return Markup(' hx-headers="{}"').format(value)  # format escapes


def _key_now() -> bytes | None:
    visitor = visitor_now()
    return visitor.csrf_key if visitor is not None else None


def _make_environment() -> Environment:
    made = Environment(
        loader=PackageLoader("server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS, since_words=since_words)
    made.globals.update(
        ASSETS_VERSION=ASSETS_VERSION,
        LETTER_MEANING=text.LETTER_MEANING,
        FROM_NOW=FROM_NOW,
        HOUR_US=HOUR_US,
        NAV=NAV,
        RUNG_LONG=text.RUNG_LONG,
        RUNG_SHORT=text.RUNG_SHORT,
        WAY=text.WAY,
        csrf_field=csrf_field,
        csrf_headers=csrf_headers,
        visitor_now=visitor_now,
    )
    return made


_environment: Final = _make_environment()
