"""A policy in words: for the page, for the terminal, and as the file that it can be set from. Pure."""

from __future__ import annotations

import json
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from analytics.policy import Action, Policy, Rule
from server.pages import text
from server.pages.tables import Column, draw, plain

NONE: Final = "No policy is set: all agents of the tenant may test each other."
REST: Final = "The first rule that fits decides; where none does, agents may test each other."


def headline(policy: Policy) -> str:
    """Say which policy is in force, by whom and since when."""
    if policy.since_us is None:
        return NONE
    rules = text.plural(len(policy.rules), "rule")
    return f"Version {policy.version}, {rules}, set by {policy.by} on {text.clock(policy.since_us)}."


def when(rule: Rule) -> str:
    """Say when a rule holds: 'mon, tue 07:00-19:00 Europe/Berlin'."""
    if rule.hours is None and not rule.days:
        return "always"
    return " ".join(filter(None, (", ".join(rule.days), rule.hours, rule.zone)))


def most(rule: Rule) -> str:
    """Say how much a rule allows of a test."""
    told = (
        (rule.tests_per_hour, "tests/h"),
        (rule.probes, "probes"),
        (rule.bytes, "bytes"),
    )
    return ", ".join(f"{value:,} {what}" for value, what in told if value is not None)


def drawn(policy: Policy, width: int) -> RenderableType:
    """List the rules."""
    summary = Text(headline(policy), "dim")
    if not policy.rules:
        return summary
    rest = Text(REST, "dim")
    return Group(draw(COLUMNS, [plain(rule) for rule in policy.rules], width), summary, rest)


def toml(policy: Policy) -> str:
    """Write a policy as the file that ``policy set`` takes."""
    return "\n".join([f"# {headline(policy)}\n", *map(_table, policy.rules)])


def _table(rule: Rule) -> str:
    plain_rule = Rule(id=rule.id)
    told = {
        name: getattr(rule, name)
        for name in Rule.__struct_fields__
        if name == "id" or getattr(rule, name) != getattr(plain_rule, name)
    }
    # A JSON string, number or list of strings is one of TOML too; DEL alone TOML wants escaped.
    lines = [f"{_KEYS.get(name, name)} = {_value(value)}\n" for name, value in told.items()]
    return "[[rules]]\n" + "".join(lines)


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _action(rule: Rule) -> Text:
    return Text("allow", "green") if rule.action is Action.ALLOW else Text("deny", "bold red")


_KEYS: Final = {"from_": "from"}

COLUMNS: Final[tuple[Column[Rule], ...]] = (
    Column("rule", lambda rule: rule.id, side="left"),
    Column("", _action, side="left"),
    Column("from", lambda rule: rule.from_, side="left"),
    Column("to", lambda rule: rule.to, side="left"),
    Column("when", when, side="left"),
    Column("at most", most, side="left", from_width=70),
    Column("note", lambda rule: rule.note, side="left", from_width=110, wraps=True),
)
