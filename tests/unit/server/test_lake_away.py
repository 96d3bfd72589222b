"""A server whose lake cannot be reached: it serves agents, and says so to readers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from analytics.batch import pack_batch
from analytics.measurement import Flow
from server.settings import Settings
from tests.unit.server.conftest import visited


def test_agents_are_served_and_readers_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    anywhere = "127.0.0.1:0"
    settings = Settings.load(
        data=tmp_path / "data",
        agents=anywhere,
        report=anywhere,
        stun=[anywhere],
        lake_catalog=f"postgres:host={tmp_path} dbname=lake user=pathgrade",
        lake_data=str(tmp_path / "shared"),
    )
    row = Flow(
        tenant="default", agent="pacs", window_us=1, window_length_us=1, process="x", remote_address=""
    )
    body = pack_batch(agent="pacs", boot="00c0ffee", batch=1, tables={"flows": [row]})

    async def visit() -> None:
        async with visited(settings) as site:
            pacs = await site.enrol("pacs")
            assert (await site.send(pacs, body)).json() == {"rows": 1, "duplicate": False}
            assert (await site.send(pacs, body)).json() == {"rows": 1, "duplicate": True}
            answer = await site.report.get("/v1/status")
            assert answer.status_code == 503
            assert answer.json()["title"] == "The lake cannot be reached"
            assert "psql" in answer.json()["remedy"]
            page = await site.report.get("/")
            assert page.status_code == 503
            assert "The lake cannot be reached" in page.text

    asyncio.run(visit())
    assert len(list((tmp_path / "data" / "spool").iterdir())) == 1
    assert "started without the lake" in caplog.text
    assert "earlier tests are not known" in caplog.text
    assert "not sealed why='sealing segment 1, lake postgres:" in caplog.text
