"""The pages' forms that change something: switches, tags, budgets, services, tests now.

Each does what the API's route of the same name does, and leads back to the page it stands on. What cannot be
done is said on a page of its own, with the reason.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Request, Response

from analytics.measurement import named, text, whole
from server.api.access import Scope, TheDesk, TheVisitor, needs
from server.api.body import form_of, or_problem, see_other
from server.api.controls import BudgetAsk, Reach, SwitchAsk, TagsAsk
from server.api.doors import MeshAsk, ServiceTag
from server.api.problem import ProblemError
from server.pages.paths import run_part

MB: Final = 1_000_000

T = TypeVar("T", bound=msgspec.Struct)

Back = Annotated[str, msgspec.Meta(max_length=500)]


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What every form has."""

    back: Back = "/"


class SwitchForm(Form, frozen=True, kw_only=True):
    """Active tests on or off."""

    reach: Reach
    name: str = ""
    on: bool


class TagsForm(Form, frozen=True, kw_only=True):
    """All tags of an agent, separated by commas, in place of those before."""

    agent: str
    tags: Annotated[str, text("free words, separated by commas", most=2_000)] = ""


class BudgetForm(Form, frozen=True, kw_only=True):
    """What active tests may take, in people's units; an empty field is not set."""

    reach: Reach
    name: str = ""
    cpu_percent: Annotated[str, text("of one core", most=12)] = ""
    mb_per_hour: Annotated[str, text("megabytes", most=12)] = ""


class ServiceForm(Form, frozen=True, kw_only=True):
    """A port as a service; an empty name takes the tag off."""

    agent: Annotated[str, named("agent on whose host it listens")]
    port: Annotated[int, whole("TCP port", "", ge=1, le=65535)]
    name: Annotated[str, text("what people call it", most=60)] = ""
    profile: Annotated[str, named("application profile")] = "generic"


class RunForm(Form, frozen=True, kw_only=True):
    """Test a pair now."""

    src: str
    dst: str


def router() -> APIRouter:
    """Build the routes."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.OPERATE)])
    _add_switches(routes)
    _add_services(routes)
    _add_run(routes)
    return routes


def _add_switches(routes: APIRouter) -> None:
    @routes.post("/control/switch")
    async def switch(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        form = await form_of(request, SwitchForm)
        ask = SwitchAsk(reach=form.reach, name=form.name or None, on=form.on)
        or_problem(lambda: desk.control.switch(ask, actor=visitor.name))
        return see_other(own(form.back))

    @routes.post("/control/tags")
    async def tags(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        form = await form_of(request, TagsForm)
        before: list[str] = or_problem(lambda: desk.control.tags(form.agent))
        ask = changes(before, form.tags)
        or_problem(lambda: desk.control.tag(form.agent, ask, actor=visitor.name))
        return see_other(own(form.back))

    @routes.post("/control/budget")
    async def budget(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        form = await form_of(request, BudgetForm)
        ask = budget_of(form)
        or_problem(lambda: desk.control.budget(ask, actor=visitor.name))
        return see_other(own(form.back))


def _add_services(routes: APIRouter) -> None:
    @routes.post("/control/service")
    async def service(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        form = await form_of(request, ServiceForm)
        tag = ServiceTag(agent=form.agent, port=form.port, name=form.name.strip(), profile=form.profile)
        or_problem(lambda: desk.tag(tag, actor=visitor.name))
        return see_other(own(form.back))


def _add_run(routes: APIRouter) -> None:
    @routes.post("/control/run")
    async def run(request: Request, desk: TheDesk, visitor: TheVisitor) -> Response:
        form = await form_of(request, RunForm)
        started = or_problem(lambda: desk.run(MeshAsk(src=form.src, dst=form.dst), actor=visitor.name))
        if "hx-request" in request.headers:
            return run_part(started, form.src, form.dst)
        path = f"/paths/{quote(form.src, safe='')}/{quote(form.dst, safe='')}"
        return see_other(f"{path}?run={started.id}")


# --- what the fields mean: pure --------------------------------------------------------------------------


def own(back: str) -> str:
    """Let nobody be led to another site: only paths of this one (not ``//host``, nor with a backslash)."""
    is_path = back.startswith("/") and back.isprintable() and back[1:2] not in {"/", "\\"}
    return quote(back, safe="/?&=#%:+,;@~!$'()*") if is_path else "/"


def changes(before: list[str], written: str) -> TagsAsk:
    """Find what to put on and to take off; raises ``ProblemError`` (422)."""
    after = {" ".join(word.split()) for word in written.split(",")} - {""}
    wanted = {"add": sorted(after - set(before)), "remove": sorted(set(before) - after)}
    return _checked(wanted, TagsAsk)


def budget_of(form: BudgetForm) -> BudgetAsk:
    """Read people's units; raises ``ProblemError`` (422)."""
    wanted = {
        "reach": form.reach,
        "name": form.name or None,
        "cpu_bp": _number(form.cpu_percent, 100, "% of a core"),
        "bytes_per_hour": _number(form.mb_per_hour, MB, "MB an hour"),
    }
    return _checked(wanted, BudgetAsk)


def _number(written: str, factor: int, what: str) -> int | None:
    if not written.strip():
        return None
    try:
        value = float(written.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ProblemError(422, f"{written!r} is no number", remedy=f"{what}, as in 0.5")
    return round(value * factor)


def _checked(wanted: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(wanted, kind)
    except msgspec.ValidationError as error:
        raise ProblemError(422, "The form does not fit", detail=str(error)) from error
