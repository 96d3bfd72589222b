"""Grading and report do not depend on the order in which batches come, nor on how often."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.measurement import Hop, Reading, Rung
from analytics.report import Report, build_report
from analytics.rules.load import load_rules
from analytics.store.store import Store
from analytics.usual import Usual, usual_of
from tests.unit.analytics.facts import AT_US, CYCLE, MEMBERS, body, hop, put, reading

RULES = load_rules()
NAMES = [member.name for member in MEMBERS[:4]]
STEP_S = 300


def batches(draw: random.Random) -> list[bytes]:
    """Two cycles of four agents, each agent's in batches of its own, as its outbox numbers them."""
    made: dict[str, list[bytes]] = {name: [] for name in NAMES}
    for age in (1, 0):
        for src in NAMES:
            readings = [_reading(draw, src, dst, age) for dst in NAMES if dst != src]
            hops = [_hop(draw, one) for one in readings]
            number = len(made[src])
            made[src].append(body(src, number, readings=readings[:2], hops=hops))
            made[src].append(body(src, number + 1, readings=readings[2:]))
    return [one for own in made.values() for one in own]


def _reading(draw: random.Random, src: str, dst: str, age: int) -> Reading:
    cycle = CYCLE - STEP_S * age
    ended_us = AT_US - 12_000_000 - age * STEP_S * 1_000_000
    made = reading(
        src,
        dst,
        rtt_us=draw.choice([20_000, 90_000, 400_000]),
        received=draw.choice([300, 300, 280]),
        cycle=cycle,
        ended_us=ended_us,
        started_us=ended_us - 9_000_000,
        test=f"{min(src, dst)}-{max(src, dst)}-{cycle}",
    )
    gone = {"rung": Rung.NONE, "rungs_failed": "no answer", "rtt_n": 0}
    return msgspec.structs.replace(made, **gone) if draw.random() < 0.1 else made


def _hop(draw: random.Random, of: Reading) -> Hop:
    rtt_us = draw.choice([300, 9_000, 300_000])
    return hop(1, "192.168.7.1", rtt_us, test=of.test, src=of.src, dst=of.dst, cycle=of.cycle)


def reported(sent: list[bytes], profile: str, *, sealed: int) -> Report:
    """What the server would show after those batches, the first ``sealed`` of them in Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder), clock_us=lambda: AT_US)
        try:
            put(store, *sent[:sealed])
            store.seal()
            put(store, *sent[sealed:])
            readings = store.readings_latest("default")
            return build_report(
                tenant="default",
                profile=profile,
                readings=readings,
                hops=store.hops_of("default", [one.test for one in readings]),
                members=MEMBERS[:4],
                at_us=AT_US,
                rules=RULES,
                usual=Usual(usual_of(store.past("default", since_us=0))),
            )
        finally:
            store.close()


@given(
    seed=st.integers(0, 2**32),
    profile=st.sampled_from(list(RULES.profiles)),
    again=st.lists(st.integers(0, 15), max_size=6),
    sealed=st.integers(0, 22),
    shuffled=st.randoms(use_true_random=False),
)
@settings(max_examples=6)  # each opens and fills two stores
def test_a_report_is_the_same_whatever_the_order_and_repetition_of_batches(
    seed: int, profile: str, again: list[int], sealed: int, shuffled: random.Random
) -> None:
    sent = batches(random.Random(seed))
    expected = reported(sent, profile, sealed=0)
    assert len(expected.paths) == len(NAMES) * (len(NAMES) - 1)
    disturbed = [*sent, *(sent[at] for at in again)]
    shuffled.shuffle(disturbed)
    assert reported(disturbed, profile, sealed=sealed) == expected
