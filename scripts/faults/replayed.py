"""Agents that take part in no test and send rows that are known: what is lost or doubled can be counted.

``python -m faults.replayed FILE`` reads from the JSON file whom to be, and is all of them in one process: the
product's own agent, whose outbox is given rows. Each batch of rows is printed once it is on disk.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from agent import folder
from agent.config import Config
from agent.enrol import enrolled
from agent.errors import CredentialRefusedError, OutboxError
from agent.host import opened as opened_host
from agent.mesh.stamps import StampingLoop
from agent.outbox import Outbox
from agent.passive.source import opened
from agent.retry import backoff_s
from agent.run import Agent
from analytics.measurement import Flow, Hop, Reading, Rung

ROWS: Final = 3
"""Of each table, as often as rows are kept."""
LOOK_S: Final = 0.1


def rows_of(agent: str, peers: list[str], number: int, at_us: int) -> dict[str, list[msgspec.Struct]]:
    """Make rows whose test, or process, names them: ``AGENT.NUMBER``."""
    name, cycle = f"{agent}.{number}", at_us // 1_000_000
    readings: list[msgspec.Struct] = [
        Reading(
            tenant="default",
            cycle=cycle,
            test=name,
            src=agent,
            dst=peers[(number + n) % len(peers)],
            started_us=at_us,
            ended_us=at_us,
            rung=Rung.LAN,
            rtt_min_us=900,
            rtt_p50_us=1_000 + n,
        )
        for n in range(ROWS)
    ]
    hops: list[msgspec.Struct] = [
        Hop(tenant="default", cycle=cycle, test=name, src=agent, dst=peers[number % len(peers)], ttl=n + 1)
        for n in range(ROWS)
    ]
    flows: list[msgspec.Struct] = [
        Flow(tenant="default", agent=agent, window_us=at_us, window_length_us=1, process=name, pid=n + 1)
        for n in range(ROWS)
    ]
    return {"readings": readings, "hops": hops, "flows": flows}


async def feed(outbox: Outbox, agent: str, peers: list[str], every_s: float, pause: Path) -> None:
    """Give an outbox rows, but while a file is there; print each batch that is on disk."""
    number = 0
    while True:
        if await asyncio.to_thread(pause.exists):
            await asyncio.sleep(LOOK_S)
            continue
        for table, rows in rows_of(agent, peers, number, time.time_ns() // 1_000).items():
            outbox.add(table, rows)
        try:
            while await asyncio.to_thread(outbox.flush):
                pass
        except OutboxError as error:
            print("error", error, flush=True)
        else:
            print(f"{agent}.{number}", flush=True)
        number += 1
        await asyncio.sleep(every_s)


async def be(config: Config, outbox: Outbox) -> None:
    """Be an agent, as ``agent.run.live``, with an outbox that somebody else fills."""
    with opened(config) as passive:
        async with opened_host(config, passive, outbox=outbox) as host:
            for attempt in itertools.count():
                try:
                    await Agent(host, await enrolled(config, host.identity)).work()
                except CredentialRefusedError as error:
                    logging.warning("refused why=%r", str(error))
                    await asyncio.sleep(backoff_s(attempt))


async def _all(told: dict[str, Any], configs: list[Config]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for config in configs:
            outbox = Outbox(config.data / folder.OUTBOX_NAME, config.name)
            tasks.create_task(be(config, outbox))
            if told["every_s"]:
                peers = [one for one in told["peers"] if one != config.name]
                tasks.create_task(feed(outbox, config.name, peers, told["every_s"], Path(told["pause"])))


def main() -> None:
    """Be all agents that the file names."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "httpcore", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    configs = [
        Config(
            server=told["server"],
            token=told["token"],
            name=name,
            site=f"site-{name}",
            data=Path(told["folder"]) / name,
            passive="off",
            mesh=False,
            limit_rss_mb=0,  # they are many in one process
            limit_cpu_bp=0,
        )
        for name in told["names"]
    ]
    with ExitStack() as held, asyncio.Runner(loop_factory=StampingLoop) as runner:
        for config in configs:
            held.enter_context(folder.exclusive(config.data))
        runner.run(_all(told, configs))


if __name__ == "__main__":
    main()
