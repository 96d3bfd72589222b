"""A pair test between two ends of a chain: the product's own, each end in a process in its namespace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent.identity import load_or_create
from analytics import wire
from analytics.measurement import Rung
from analytics.wire import ProbePlan
from benches.chain import Chain
from benches.errors import PartError
from benches.net import inside
from benches.told import EndTold

ROOT: Final = Path(__file__).parents[2]
DEADLINE_S: Final = 120
LINE_BYTES: Final = 16 * 1024 * 1024  # what an end tells is one line


class Ends(NamedTuple):
    """What the two ends told: a of a -> b, b of b -> a."""

    a: EndTold
    b: EndTold


def pair_test(made: Chain, plan_a: ProbePlan, plan_b: ProbePlan | None = None) -> Ends:
    """Let a and b test each other, each with its plan. Raises ``PartError`` unless both measured."""
    try:
        ends = asyncio.run(_measure(made, plan_a, plan_b or plan_a))
    except TimeoutError:
        raise PartError(f"a pair test took over {DEADLINE_S} s", remedy="run the bench again") from None
    for told in ends:
        if told.reading.error or told.reading.rung is Rung.NONE:
            why = told.reading.error or told.reading.rungs_failed
            raise PartError(f"a pair test failed: {why}", remedy="run the bench again")
    return ends


async def _measure(made: Chain, *plans: ProbePlan) -> Ends:
    names = ("a", "b")
    prints = [load_or_create(made.folder / name, name).fingerprint for name in names]
    async with (
        asyncio.timeout(DEADLINE_S),
        _end(made.a, names[0], made.folder) as a,
        _end(made.b, names[1], made.folder) as b,
    ):
        for number, end in enumerate((a, b)):
            other = 1 - number
            _write(end, wire.encode(_order(names[other], prints[other], plans[number], number == 0)))
        told = await asyncio.gather(_carry(a, b), _carry(b, a))
    return Ends(*told)


def _order(peer: str, fingerprint: str, plan: ProbePlan, controlling: bool) -> wire.TestOrder:
    return wire.TestOrder(
        test="bench",
        cycle=1,
        peer=peer,
        peer_fingerprint=fingerprint,
        controlling=controlling,
        rungs=[Rung.LAN],
        ice_servers=[],
        plan=plan,
        deadline_us=(DEADLINE_S - 10) * 1_000_000,
    )


@contextlib.asynccontextmanager
async def _end(node: str, name: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an end; it is gone afterwards, whatever happens."""
    command = inside(node, [sys.executable, "-m", "benches.pair_end", name, folder / name])
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,  # as a daemon has one
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _write(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin
    process.stdin.write(line.encode() + b"\n")


async def _carry(source: asyncio.subprocess.Process, sink: asyncio.subprocess.Process) -> EndTold:
    """Carry signals from one end to the other until what it tells comes. Raises ``PartError``."""
    assert source.stdout
    while line := (await source.stdout.readline()).decode():
        if line.startswith("="):
            return msgspec.json.decode(line[1:], type=EndTold)
        with contextlib.suppress(ConnectionError):
            _write(sink, line.strip())
    raise PartError("an end of a pair test ended", remedy="its last words stand above")
