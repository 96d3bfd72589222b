"""Which alerts a matcher is for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from server.alerts.model import Alert, Matcher, Silence

NAMED = ("id", "rule", "kind", "where", "profile")


def matches(matcher: Matcher, alert: Alert) -> bool:
    """Whether every part of a matcher that says something fits."""
    return all(_fits(getattr(matcher, name), [getattr(alert, name)]) for name in NAMED) and _fits(
        matcher.agent, alert.agents
    )


def says_something(matcher: Matcher) -> bool:
    """Whether a matcher is for less than everything."""
    return any(getattr(matcher, name) not in {"", "*"} for name in (*NAMED, "agent"))


def silence_of(alert: Alert, silences: Iterable[Silence], at_us: int) -> str:
    """The id of the silence that keeps an alert quiet for longest; empty where none does."""
    on = [one for one in silences if one.until_us > at_us and matches(one.matcher, alert)]
    return max(on, key=lambda one: one.until_us).id if on else ""


def _fits(wanted: str, values: Iterable[str]) -> bool:
    """Compare with ``*`` for any text; nothing else is special, whatever sites are called."""
    return not wanted or any(_is_like(value, wanted.split("*")) for value in values)


def _is_like(value: str, parts: Sequence[str]) -> bool:
    """Whether a text has these parts in order, the first at its start and the last at its end. Linear."""
    first, *others = parts
    if not others:
        return value == first
    if len(value) < len(first) + len(others[-1]):
        return False
    if not (value.startswith(first) and value.endswith(others[-1])):
        return False
    at, end = len(first), len(value) - len(others[-1])
    for part in others[:-1]:
        found = value.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
