"""The way in: ``/login``, by password or through a provider, ``/logout``, and ``/setup`` on the first run.

Who is not logged in has no session that a token could be bound to, so a form here is bound to a cookie of its
own: another site cannot log a visitor in as somebody else.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from server.accounts.first import is_code
from server.accounts.known import COOKIE
from server.accounts.login import Attempt, Entered
from server.accounts.office import DEVICE_COOKIE, Office
from server.accounts.people import NewAccount
from server.accounts.roles import AccountName, Role
from server.accounts.rows import LAST_WORD
from server.accounts.settings import RETURN_PATH
from server.api.access import ALL_TENANTS, Scope, TheVisitor, check_meant, needs, public
from server.api.accounts import TheOffice
from server.api.body import form_of, see_other
from server.api.csrf import csrf_key
from server.api.local import is_local
from server.api.problem import ProblemError
from server.errors import DemandError, ServerError
from server.pages.render import csrf_input, page
from server.problems import problem_of

if TYPE_CHECKING:
    from server.accounts.oidc import Oidc

VISIT_COOKIE: Final = "pathgrade-visit"
OIDC_COOKIE: Final = "pathgrade-oidc"
Next = Annotated[str, Query(max_length=2_000)]


class LoginForm(msgspec.Struct, kw_only=True):
    """What ``/login`` sends."""

    name: Annotated[str, msgspec.Meta(max_length=200)]
    password: Annotated[str, msgspec.Meta(max_length=2_000)]
    next: str = "/"


class SetupForm(msgspec.Struct, kw_only=True):
    """What ``/setup`` sends."""

    code: Annotated[str, msgspec.Meta(max_length=200)]
    name: AccountName
    password: Annotated[str, msgspec.Meta(max_length=2_000)]


def router() -> APIRouter:
    """Build the routes; they are not part of the API."""
    routes = APIRouter(include_in_schema=False)
    _add_login(routes)
    _add_logout(routes)
    _add_oidc(routes)
    _add_setup(routes)
    return routes


def safe_path(path: str) -> str:
    """Take a path of this server to go on to; anything else is the report."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside and "\\" not in path else "/"


def _add_login(routes: APIRouter) -> None:
    @routes.get("/login", dependencies=[public("who asks is not known yet")])
    async def form(request: Request, office: TheOffice, next: Next = "/") -> HTMLResponse:
        return _login_page(request, office, then=safe_path(next))

    @routes.post("/login", dependencies=[public("who asks is not known yet")])
    async def login(request: Request, office: TheOffice) -> Response:
        await _check_visit(request)
        sent = await form_of(request, LoginForm)
        outcome = await office.logins.enter(_attempt(request, office, sent.name, sent.password))
        then = safe_path(sent.next)
        if isinstance(outcome, Entered):
            return _entered(request, office, outcome, then)
        if outcome.wait_s:
            return _slowed(request, office, outcome.wait_s, then)
        return _login_page(
            request, office, then=then, status=403, said="That name and password do not fit together."
        )


def _add_logout(routes: APIRouter) -> None:
    @routes.post("/logout", dependencies=[needs(Scope.SELF)])
    async def logout(office: TheOffice, visitor: TheVisitor) -> Response:
        live = office.live(visitor)
        if live is not None:
            await office.act(office.sessions.end, live)
        answer = see_other("/login")
        answer.delete_cookie(COOKIE)
        return answer


def _add_oidc(routes: APIRouter) -> None:
    @routes.get("/login/oidc", dependencies=[public("who asks is not known yet")])
    async def begin(request: Request, office: TheOffice, next: Next = "/") -> Response:
        oidc = _oidc(office)
        try:
            url, sealed = await oidc.begin(safe_path(next))
        except ServerError as error:
            raise _told(error) from error
        answer = see_other(url)
        office.set_cookie(request, answer, OIDC_COOKIE, sealed, max_age=600, path="/login")
        return answer

    @routes.get(RETURN_PATH, dependencies=[public("who comes back from the provider is not known yet")])
    async def finish(request: Request, office: TheOffice) -> Response:
        try:
            person, then = await _oidc(office).finish(
                request.query_params, request.cookies.get(OIDC_COOKIE, "")
            )
        except ServerError as error:
            raise _told(error) from error
        secret = await office.act(
            office.sessions.begin,
            person,
            address=office.address_of(request),
            browser=request.headers.get("user-agent", ""),
        )
        answer = see_other(then)
        office.let_in(request, answer, secret)
        answer.delete_cookie(OIDC_COOKIE, path="/login")
        return answer


def _add_setup(routes: APIRouter) -> None:
    @routes.get(
        "/setup", dependencies=[public("there is no account yet; a code in the server's log opens it")]
    )
    async def form(request: Request, office: TheOffice) -> HTMLResponse:
        _check_setup(request, office)
        return _setup_page(request, office)

    @routes.post("/setup", dependencies=[public("there is no account yet; a code in the log opens it")])
    async def setup(request: Request, office: TheOffice) -> Response:
        _check_setup(request, office)
        await _check_visit(request)
        sent = await form_of(request, SetupForm)
        wait_s = office.logins.guess(office.address_of(request))
        if wait_s > 0:
            return _setup_page(request, office, status=429, said=_wait(wait_s))
        if not is_code(office.code, sent.code):
            return _setup_page(request, office, status=403, said="That is not the code in the server's log.")
        new = NewAccount(name=sent.name, password=sent.password, role=Role.ADMIN, tenant=ALL_TENANTS)
        try:
            await office.act(office.people.add, new, by="setup", only_first=True)
        except DemandError as error:
            return _setup_page(request, office, status=409, said=f"{error}: {error.remedy}.")
        outcome = await office.logins.enter(_attempt(request, office, sent.name, sent.password))
        # Whoever has tried that name, or from that address, before may have to wait: the account is there.
        return (
            _entered(request, office, outcome, "/") if isinstance(outcome, Entered) else see_other("/login")
        )


def _attempt(request: Request, office: Office, name: str, password: str) -> Attempt:
    return Attempt(
        name=name,
        password=password,
        address=office.address_of(request),
        browser=request.headers.get("user-agent", "")[:LAST_WORD],
        device=request.cookies.get(DEVICE_COOKIE),
    )


def _login_page(
    request: Request, office: Office, *, then: str, status: int = 200, said: str = ""
) -> HTMLResponse:
    visit = _visit(request)
    answer = page(
        "access_login.html",
        status=status,
        csrf=csrf_input(csrf_key(visit)),
        then=then,
        said=said,
        oidc=office.oidc is not None,
        first_run=office.known.first_run(),
        local=is_local(request),
    )
    office.set_cookie(request, answer, VISIT_COOKIE, visit)
    return answer


def _setup_page(request: Request, office: Office, *, status: int = 200, said: str = "") -> HTMLResponse:
    visit = _visit(request)
    answer = page("access_setup.html", status=status, csrf=csrf_input(csrf_key(visit)), said=said)
    office.set_cookie(request, answer, VISIT_COOKIE, visit)
    return answer


def _slowed(request: Request, office: Office, wait_s: float, then: str) -> HTMLResponse:
    answer = _login_page(request, office, then=then, status=429, said=_wait(wait_s))
    answer.headers["Retry-After"] = str(math.ceil(wait_s))
    return answer


def _wait(wait_s: float) -> str:
    return f"Too many tries. Wait {math.ceil(wait_s)} s, then try again."


def _entered(request: Request, office: Office, entered: Entered, then: str) -> Response:
    answer = see_other(then)
    office.let_in(request, answer, entered.session, entered.device)
    answer.delete_cookie(VISIT_COOKIE)
    return answer


def _visit(request: Request) -> str:
    return request.cookies.get(VISIT_COOKIE, "")[:64] or secrets.token_urlsafe(32)


async def _check_visit(request: Request) -> None:
    visit = request.cookies.get(VISIT_COOKIE, "")[:64]
    if not visit:
        raise ProblemError(
            403, "The browser sent no cookie", remedy="allow cookies of this server, and load the page again"
        )
    await check_meant(request, csrf_key(visit))


def _check_setup(request: Request, office: Office) -> None:
    if not office.known.first_run():
        raise ProblemError(404, "There is an account already", remedy="log in at /login")
    if not is_local(request):
        raise ProblemError(
            403,
            "The first account is made on the server",
            remedy="run there: pathgrade server account add NAME --role admin --data DIR",
        )


def _oidc(office: Office) -> Oidc:
    if office.oidc is None:
        raise ProblemError(404, "No provider is set to log in through", remedy="log in at /login")
    return office.oidc


def _told(error: ServerError) -> ProblemError:
    problem = problem_of(error)
    return ProblemError(problem.status, problem.title, detail=problem.detail, remedy=problem.remedy)
