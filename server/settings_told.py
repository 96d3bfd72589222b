"""The server's settings as people look at them: each with its value and where it comes from. Pure.

What a setting's name or text says is a secret is never told, not even in part.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Final

import msgspec

from server.settings import Settings

HIDDEN: Final = "set, not shown"
SECRET_NAMES: Final = ("secret", "password", "token", "credential", "api_key", "private_key", "webhook")
"""In the name of a setting whose value is one; of a ``_file`` the name of the file is told."""
INSIDE: Final = re.compile(r"(?i)(password|passwd|pwd|secret|token|key)\s*=\s*('[^']*'|\S+)")
"""A secret inside a longer text, as in a connection string of PostgreSQL."""
IN_URL: Final = re.compile(r"(?<=://)[^/@\s]+@")
"""User and password of a URL (RFC 3986, section 3.2.1)."""


class SettingTold(msgspec.Struct, frozen=True, kw_only=True):
    """One setting."""

    name: str
    value: str  # as it would be written; empty = none
    source: str  # "default", "argument", or the name in the environment
    about: str  # first sentence of what it is


def settings_told(settings: Settings, environ: Mapping[str, str]) -> list[SettingTold]:
    """Tell every setting, in the order of ``server.settings.Settings``."""
    about = _abouts(type(settings))
    return [
        SettingTold(
            name=name,
            value=_value(name, getattr(settings, name)),
            source=_source(name, settings.model_fields_set, environ),
            about=about.get(name, ""),
        )
        for name in type(settings).model_fields
    ]


def _source(name: str, given: Iterable[str], environ: Mapping[str, str]) -> str:
    """Say where a value comes from; an argument goes before the environment."""
    variable = f"PATHGRADE_{name.upper()}"
    if name not in given:
        return "default"
    return variable if variable in {known.upper() for known in environ} else "argument"


def _value(name: str, value: Any) -> str:
    is_secret = not name.endswith("_file") and any(word in name for word in SECRET_NAMES)
    if is_secret and value:
        return HIDDEN
    return IN_URL.sub(f"({HIDDEN})@", INSIDE.sub(rf"\1=({HIDDEN})", _written(value)))


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{field} {_written(part)}" for field, part in msgspec.structs.asdict(value).items())
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(map(_written, value))
    return str(value)


@cache
def _abouts(of: type) -> dict[str, str]:
    """Read the text under each field in the source: Python does not keep it."""
    body = ast.parse(inspect.getsource(of)).body[0].body  # type: ignore[attr-defined]  # a class
    found = {}
    for field, told in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(told, ast.Expr):
            text = " ".join(str(ast.literal_eval(told.value)).split())
            first = re.split(r"(?<=\.) ", text, maxsplit=1)[0]
            found[ast.unparse(field.target)] = first.replace("`", "")
    return found
