"""The settings: what can be switched here, what the server was started with, and the rules in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from server.api.access import Scope, TheCore, TheDesk, Visitor, needs
from server.api.agent_info import AgentInfo
from server.api.controls import Budgets, MeshSwitches, Off, OwnBudget, Reach
from server.pages import control_words, policy_words
from server.pages.frame import TheFrame
from server.pages.pieces import Start, piece_of
from server.pages.render import page
from server.settings_told import SettingTold

ROWS: Final = 50
"""Sites on one page."""


@dataclass(frozen=True, slots=True)
class SiteLine:
    """What is switched and set for a site."""

    name: str
    agents: int
    online: int
    off: Off | None
    budget: OwnBudget | None


def router() -> APIRouter:
    """Build the route."""
    routes = APIRouter(include_in_schema=False, dependencies=[needs(Scope.READ)])

    @routes.get("/settings")
    def settings(
        request: Request, core: TheCore, desk: TheDesk, frame: TheFrame, start: Start = 0
    ) -> HTMLResponse:
        switches, budgets = desk.control.switches(), desk.control.budgets()
        lines = sites_of(core.agents(), switches, budgets)
        return page(
            "settings.html",
            frame,
            switches=switches,
            budgets=budgets,
            fleet_off=next((off for off in switches.off if off.reach is Reach.FLEET), None),
            fleet_budget=next((own for own in budgets.own if own.reach is Reach.FLEET), None),
            agents_apart=agents_apart(switches, budgets),
            piece=piece_of(lines, start, ROWS),
            rules_version=core.overview(frame.profile).rules_version,
            settings=settings_for(request, frame.visitor),
            policy=desk.policy.policy(),
            policy_words=policy_words,
            words=control_words,
        )

    return routes


def settings_for(request: Request, visitor: Visitor) -> list[SettingTold]:
    """Take what the server was started with, for admins of those who run it."""
    if not visitor.may(Scope.ADMIN) or not visitor.runs_the_server:
        return []
    shown: list[SettingTold] = request.app.state.settings
    return shown


def sites_of(agents: list[AgentInfo], switches: MeshSwitches, budgets: Budgets) -> list[SiteLine]:
    """Lay the sites out, those that are off first. Pure."""
    off = {one.name: one for one in switches.off if one.reach is Reach.SITE}
    own = {one.name: one for one in budgets.own if one.reach is Reach.SITE}
    by_site: dict[str, list[AgentInfo]] = {}
    for agent in agents:
        by_site.setdefault(agent.site, []).append(agent)
    lines = [
        SiteLine(name, len(those), sum(agent.online for agent in those), off.get(name), own.get(name))
        for name, those in by_site.items()
    ]
    return sorted(lines, key=lambda line: (line.off is None, line.name))


def agents_apart(switches: MeshSwitches, budgets: Budgets) -> list[str]:
    """Name the agents that are switched or have a budget on their own. Pure."""
    subjects = [(one.reach, one.name) for one in switches.off]
    subjects += [(one.reach, one.name) for one in budgets.own]
    return sorted({name for reach, name in subjects if reach is Reach.AGENT})
