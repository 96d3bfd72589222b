"""Every route of an application, with what it declares to need."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts

VALUES: dict[str, str] = {
    "src": "a",
    "dst": "b",
    "name": "a",
    "agent": "a",
    "id": "none",
    "table": "paths",
    "tenant": "default",
    "port": "1",
}
"""What stands for a part of a path. A new name of such a part is added here."""


@dataclass(frozen=True)
class Declared:
    """One method of one route."""

    method: str
    path: str
    needs: str | None
    public: str | None

    def url(self, **values: str) -> str:
        """Its path with something in each place."""
        path = self.path
        for name, value in {**VALUES, **values}.items():
            path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        assert "{" not in path, f"{self.path}: say in routes_of.VALUES what stands for that part"
        return path


def routes_of(app: FastAPI) -> list[Declared]:
    """List them all; HEAD is GET's."""
    return [
        Declared(method, str(route.path), _declared(route, "scope"), _declared(route, "public"))
        for route in iter_route_contexts(app.routes)
        for method in sorted(route.methods or {"WEBSOCKET"})
        if method != "HEAD"
    ]


def _declared(route: RouteContext, what: str) -> str | None:
    found = [getattr(call, what) for call in _calls(getattr(route, "dependant", None)) if hasattr(call, what)]
    return ", ".join(sorted(map(str, found))) if found else None


def _calls(dependant: Any) -> list[Any]:
    if dependant is None:
        return []
    return [dependant.call, *(call for one in dependant.dependencies for call in _calls(one))]
