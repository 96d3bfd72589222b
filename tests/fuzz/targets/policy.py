"""Policies: the server's file of rules, a host's own rules, the switch on the host (analytics/policy.py)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from shaped import Taken, chosen, either, file_of, folder_of

from agent.local_switch import MESH
from agent.own_policy import OwnRules, check
from analytics.errors import PolicyError
from analytics.policy import Who, fits, lasts
from server.policy_file import load

ALLOWED = (PolicyError, msgspec.ValidationError)
"""A host's own rules are converted with the rest of its configuration, which says so (targets/config.py)."""
SHORT_RUNS = 120
AT_US = 1_764_000_000_000_000


def target(data: bytes) -> object:
    return either(data, _file, _own, _switch)


def _file(data: bytes) -> None:
    for rule in load(file_of(data, "policy.toml")).rules:
        fits(rule.from_, Who("pacs", "hospital", frozenset({"x"})))
        lasts(rule.hours, rule.days, rule.zone, AT_US)


def _own(data: bytes) -> None:
    taken = Taken(data)
    told = {"hours": taken.text(20), "zone": taken.text(60), "peers": [taken.text(20)]}
    rules = msgspec.convert({name: value for name, value in told.items() if value}, OwnRules)
    check(rules)
    lasts(rules.hours, rules.days, rules.zone, AT_US)


def _switch(data: bytes) -> None:
    """Whatever is in the file: it is there, so tests are off."""
    folder = folder_of({MESH.file_name: data}, "switch")
    assert MESH.read(folder) is not None


def seeds() -> Iterator[bytes]:
    yield chosen(0, b'[[rules]]\nid = "night"\nto = "tag:pacs"\naction = "allow"\nhours = "22:00-06:00"\n'
                    b'days = ["sat"]\nzone = "Europe/Berlin"\ntests_per_hour = 2\n')  # fmt: skip
    yield chosen(0, b"rules = " + b"[" * 40)
    yield chosen(1, b"\x0b07:00-19:00\x0dEurope/Berlin\x04pacs")
    yield chosen(1, b"\x0b07:00-19:00\x06Europe\x0dsite:hospital")
    yield chosen(2, b'{"since_us":1,"by":"root","note":"maintenance"}')
    yield chosen(2, b'{"since_us":1,"by":"\xff"}')
