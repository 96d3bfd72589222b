"""Makes a data folder with the code of an earlier commit: see README.md beside this file.

    git worktree add --detach /tmp/old COMMIT
    cd /tmp/old && PYTHONPATH=/tmp/old PYTHON tests-of-today/data/make_old_folder.py /tmp/made

It runs in the tree of that commit, whose tests bring the server and the agents.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from agent.identity import load_or_create
from analytics.batch import pack_batch
from analytics.measurement import Hop, Reading, Rung
from server.settings import Settings
from tests.unit.server.conftest import visited

AGENTS = {"clinic": "clinic", "pacs": "hospital", "radiologist": "home"}
BOOT = "6f1c0a2b9d3e4f50"
ANYWHERE = "127.0.0.1:0"


def reading(src, dst, number, at_us):
    rtt_us = 10_000 + 1_000 * sorted(AGENTS).index(src) + 100 * sorted(AGENTS).index(dst) + number
    spread = {f"rtt_p{p}_us": rtt_us + p for p in (10, 25, 50, 75, 90, 95, 99)}
    return Reading(
        tenant="default",
        cycle=at_us // 1_000_000,
        test=f"t{number}-{'-'.join(sorted((src, dst)))}"[:32],
        src=src,
        dst=dst,
        started_us=at_us - 3_000_000,
        ended_us=at_us,
        rung=Rung.SRFLX,
        sent=100,
        received=99,
        rtt_n=99,
        rtt_min_us=rtt_us - 500,
        **spread,
    )


def hop(src, dst, number, at_us):
    return Hop(
        tenant="default",
        cycle=at_us // 1_000_000,
        test=f"t{number}-{'-'.join(sorted((src, dst)))}"[:32],
        src=src,
        dst=dst,
        ttl=1,
        address="192.0.2.1",
        sent=3,
        answered=3,
        rtt_min_us=900,
        rtt_p50_us=1_000,
        rtt_p95_us=1_100,
    )


async def send_all(site, secrets, number):
    now_us = time.time_ns() // 1_000
    for src, secret in secrets.items():
        others = [dst for dst in AGENTS if dst != src]
        tables = {
            "readings": [reading(src, dst, number, now_us) for dst in others],
            "hops": [hop(src, dst, number, now_us) for dst in others],
        }
        answer = await site.send(secret, pack_batch(agent=src, boot=BOOT, batch=number, tables=tables))
        assert answer.status_code == 200, answer.text


async def first(data, identities):
    settings = Settings.load(data=data, agents=ANYWHERE, report=ANYWHERE, stun=[ANYWHERE], seal_s=1)
    secrets = {}
    async with visited(settings) as site:
        for name, place in AGENTS.items():
            secrets[name] = (await site.enrol(name, place, identity=identities[name])).secret
        for number in range(2):
            await send_all(site, secrets, number)
            await asyncio.sleep(2)
    return secrets


async def then(data, secrets, out):
    settings = Settings.load(data=data, agents=ANYWHERE, report=ANYWHERE, stun=[ANYWHERE], seal_s=3_600)
    async with visited(settings) as site:
        await send_all(site, secrets, 2)
        told = {"made_us": time.time_ns() // 1_000, "boot": BOOT}
        for name in ("paths", "agents"):
            told[name] = (await site.report.get(f"/v1/{name}")).json()
        (out / "told.json").write_text(json.dumps(told))
        os._exit(0)  # as if it was killed: the last batches are in the spool


def main(out):
    data = out / "data"
    identities = {}
    for name in AGENTS:
        (out / "agents" / name).mkdir(parents=True)
        identities[name] = load_or_create(out / "agents" / name, name)
    secrets = asyncio.run(first(data, identities))
    asyncio.run(then(data, secrets, out))


main(Path(sys.argv[1]))
