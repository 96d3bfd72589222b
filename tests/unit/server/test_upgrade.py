"""Data folders that earlier versions left (``tests/data``), opened with today's server; and later ones."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.identity import load_or_create
from analytics.audit_chain import ACTS
from analytics.batch import pack_batch
from analytics.clock import now_us
from analytics.errors import StoreError
from analytics.measurement import Reading, Rung
from server.app import serving
from server.audit_check import checked
from server.errors import StateVersionError
from server.settings import Settings
from tests.unit.server.conftest import visited

FOLDERS = Path(__file__).parents[2] / "data"
ANYWHERE = "127.0.0.1:0"
ROUNDS = 3
BOOT = "6f1c0a2b9d3e4f50"
LIMIT_S = 120


def settings_of(data: Path) -> Settings:
    return Settings.load(data=data, agents=ANYWHERE, report=ANYWHERE, stun=[ANYWHERE], settle_s=0.05)


def medians(paths: Any) -> dict[tuple[str, str], int]:
    return {(row["src"], row["dst"]): row["rtt_p50_us"] for row in paths["paths"]}


@pytest.mark.parametrize("commit", ["92665bb", "60fe99d"])
def test_a_folder_of_before_goes_on(commit: str, tmp_path: Path) -> None:
    with tarfile.open(FOLDERS / f"folder-{commit}.tar.xz") as tar:
        tar.extractall(tmp_path)  # our own
    told = json.loads((tmp_path / "told.json").read_text())
    data = tmp_path / "data"

    async def whole() -> None:
        async with asyncio.timeout(LIMIT_S), visited(settings_of(data)) as site:
            await _has_what_was(site, told)
            await _takes_more(site, told, tmp_path / "agents")

    asyncio.run(whole())
    acts = {one.chain: one for one in checked(data, None, {})["default"]}[ACTS]
    assert (acts.broken, acts.first, acts.adopted) == (None, 1, len(told["agents"]))
    assert acts.last is not None
    assert acts.last > acts.adopted
    assert acts.signed == acts.last  # when it stopped


async def _has_what_was(site: Any, told: Any) -> None:
    """The agents, the report of that moment, and every test: those that were sealed, and the spool's."""
    agents = (await site.report.get("/v1/agents")).json()
    assert [(one["name"], one["site"]) for one in agents] == [
        (one["name"], one["site"]) for one in told["agents"]
    ]
    then = (await site.report.get("/v1/paths", params={"at": told["made_us"]})).json()
    assert medians(then) == medians(told["paths"])
    asked = {"format": "csv", "since_us": told["made_us"] - 3_600_000_000, "until_us": now_us()}
    rows = list(csv.DictReader(io.StringIO((await site.report.get("/v1/export/paths", params=asked)).text)))
    assert len(rows) == ROUNDS * len(medians(then))
    audit = (await site.report.get("/v1/audit", params={"action": "enrol"})).json()
    assert sorted(row["subject"] for row in audit) == [one["name"] for one in told["agents"]]


async def _takes_more(site: Any, told: Any, keys: Path) -> None:
    """An agent comes with the key that it had: a batch of before is known, the next one is taken."""
    identity = load_or_create(keys / "pacs", "pacs")
    pacs = await site.enrol("pacs", "hospital", identity=identity)
    for number, is_known in ((ROUNDS - 1, True), (ROUNDS, False)):
        body = pack_batch(agent="pacs", boot=told["boot"], batch=number, tables={"readings": [reading()]})
        answer = await site.send(pacs, body)
        assert (answer.status_code, answer.json()["duplicate"]) == (200, is_known), answer.text
    now = (await site.report.get("/v1/paths")).json()
    assert medians(now)["pacs", "clinic"] == 42_000


def reading() -> Reading:
    at_us = now_us()
    return Reading(
        tenant="default",
        cycle=at_us // 1_000_000,
        test="new",
        src="pacs",
        dst="clinic",
        started_us=at_us - 1_000_000,
        ended_us=at_us,
        rung=Rung.SRFLX,
        sent=100,
        received=100,
        rtt_n=100,
        rtt_p50_us=42_000,
    )


def state_of_later(data: Path) -> None:
    with closing(sqlite3.connect(data / "state.sqlite")) as connection, connection:
        connection.execute("UPDATE state_version SET version = 99")


def layout_of_later(data: Path) -> None:
    (data / "layout").write_bytes(b"PGLAYOUT 9\n")


def spool_of_later(data: Path) -> None:
    (data / "spool" / "0000000009.spool").write_bytes(b"PGSPOOL\n" + (99).to_bytes(4, "little") + bytes(4))


@pytest.mark.parametrize(
    ("of_later", "error", "words"),
    [
        (state_of_later, StateVersionError, "state version 99; this pathgrade knows"),
        (layout_of_later, StoreError, "is not of layout 2"),
        (spool_of_later, StoreError, "is not a spool segment of version"),
    ],
)
def test_a_folder_of_a_later_version_is_left_as_it_is(
    of_later: Any, error: type[Exception], words: str, tmp_path: Path
) -> None:
    async def start() -> None:
        async with serving(settings_of(tmp_path)):
            pass

    asyncio.run(start())
    of_later(tmp_path)
    before = facts(tmp_path)
    with pytest.raises(error, match=words) as caught:
        asyncio.run(start())
    assert getattr(caught.value, "remedy", "")
    assert facts(tmp_path) == before


def facts(data: Path) -> dict[str, bytes]:
    """What a server must not touch."""
    kept = [data / "state.sqlite", data / "layout", *data.glob("spool/*"), *data.glob("*.pem")]
    return {path.name: path.read_bytes() for path in kept}
