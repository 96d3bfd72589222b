"""``pathgrade server run`` with a cycle every few seconds, which lies when it is told to.

``restless_server.py DATA REPORT_FD TURN SECRET_FILE PERIOD_S LIES``. LIES is a file that says how to lie now:
``swap`` another certificate, binding and identity key for the peer's; ``stale`` an old grant; ``others`` a
grant for another pair; ``unsigned`` a grant by another key. It is the server itself: it has the grant key,
and every agent's words pass it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.identity import create
from analytics.trust import Grant, fingerprint_bytes, seal
from analytics.wire import NONCE_BYTES, ProbePlan, TestOrder
from server import app, cycles
from server.budget import Budget
from server.settings import Settings

PLAN = ProbePlan(
    probes=150, interval_us=20_000, hop_rounds=1, trains=int(os.environ.get("RESTLESS_TRAINS", "0"))
)
DEADLINE_S = 25
NAMES = ("east", "north", "west")

EVES = {name: create(name) for name in NAMES}
plan, order = app.plan_of, cycles.Cycles._order
first_grants: dict[frozenset[str], bytes] = {}


def restless(period_s: float) -> None:
    def shorter(*arguments: Any) -> cycles.Plan:
        return dataclasses.replace(plan(*arguments), period_s=period_s, jitter_s=0)

    app.plan_of = shorter  # the settings allow no period below 10 s
    # Every pair in every cycle, though one test lasts longer than the period: a budget that puts none off.
    cycles.budget_of = lambda **_: Budget(2**62, 2**62, 2**62)


def lying(lies: Path) -> None:
    def lie(self: cycles.Cycles, test: cycles.RunningTest, *ends_and_rung: Any) -> TestOrder:
        honest = order(self, test, *ends_and_rung)
        first_grants.setdefault(frozenset(test.pair), honest.grant)
        kind = lies.read_text() if lies.exists() else ""
        return KINDS[kind](self, test, honest)

    cycles.Cycles._order = lie  # type: ignore[method-assign]


def signed_for(self: cycles.Cycles, test: cycles.RunningTest, prints: dict[str, bytes]) -> bytes:
    """A grant for this test with other fingerprints, by the server's own key."""
    assert self._signer is not None
    now_us = self._signer.now_us()
    src, dst = test.pair
    grant = Grant(
        tenant="default",
        test=test.id,
        cycle=test.cycle,
        src=src,
        dst=dst,
        src_fingerprint=prints[src],
        dst_fingerprint=prints[dst],
        issued_us=now_us,
        expires_us=now_us + 60_000_000,
        nonce=bytes(NONCE_BYTES - 8) + now_us.to_bytes(8, "big"),
        most_probes=10_000,
        most_bytes=100_000_000,
        most_s=300,
        src_site="here",
        dst_site="there",
        rule="",
    )
    return seal(grant.encode(), self._signer._key)


def swap(self: cycles.Cycles, test: cycles.RunningTest, honest: TestOrder) -> TestOrder:
    eve = EVES[honest.peer]
    me = next(name for name in test.pair if name != honest.peer)
    mine = self._hub.get(me)
    assert mine is not None
    prints = {me: fingerprint_bytes(mine.agent.fingerprint), honest.peer: fingerprint_bytes(eve.fingerprint)}
    return msgspec.structs.replace(
        honest,
        peer_fingerprint=eve.fingerprint,
        peer_identity_key=eve.public_key,
        peer_binding=eve.binding("default", now_s=2_000_000_000),
        grant=signed_for(self, test, prints),
    )


def stale(self: cycles.Cycles, test: cycles.RunningTest, honest: TestOrder) -> TestOrder:
    """The first grant of the pair once more, in an order that agrees with it in everything."""
    grant = first_grants[frozenset(test.pair)]
    old = Grant.decode(grant[:-64])
    self._tests[old.test] = self._tests.pop(test.id)
    test.id = old.test
    return msgspec.structs.replace(honest, grant=grant, cycle=old.cycle, test=old.test)


def others(self: cycles.Cycles, test: cycles.RunningTest, honest: TestOrder) -> TestOrder:
    prints = dict.fromkeys(NAMES, bytes(32))
    elsewhere = dataclasses.replace(test, pair=cycles.Pair("east", "west"))
    return msgspec.structs.replace(honest, grant=signed_for(self, elsewhere, prints))


def unsigned(self: cycles.Cycles, test: cycles.RunningTest, honest: TestOrder) -> TestOrder:
    return msgspec.structs.replace(honest, grant=seal(honest.grant[:-64], Ed25519PrivateKey.generate()))


def greedy(self: cycles.Cycles, test: cycles.RunningTest, honest: TestOrder) -> TestOrder:
    """An honest grant, and an order for more than it says."""
    return msgspec.structs.replace(honest, plan=msgspec.structs.replace(honest.plan, trains=8))


KINDS: dict[str, Any] = {
    "": lambda _self, _test, honest: honest,
    "swap": swap,
    "stale": stale,
    "others": others,
    "unsigned": unsigned,
    "greedy": greedy,
}


def main(words: list[str]) -> None:
    data, report_fd, turn, secret_file, period_s, lies = words
    restless(float(period_s))
    lying(Path(lies))
    app.run(
        Settings.load(
            data=Path(data),
            agents="0.0.0.0:8440",
            report_fd=int(report_fd),
            stun=["0.0.0.0:3478"],
            turn=[turn],
            turn_secret_file=Path(secret_file),
            settle_s=0.3,
            test_deadline_s=DEADLINE_S,
            watch_s=0,  # whoever breaks a test must know which one comes next
            plan=PLAN,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
