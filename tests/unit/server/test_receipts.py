"""Receipts on the server: whom it asks for them, how they leave it, and what the command says of the file."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from analytics.batch import pack_batch
from analytics.errors import SealError
from analytics.measurement import Reading
from analytics.receipt_file import Header, check
from server.commands.receipt import commands
from server.pages import proof_words
from server.proofs import proof_of
from server.receipts import SMALL_FLEET, Fleet, Receipts, Unsigned, wants_receipt, why_unsigned
from server.schedule import Pair
from tests.unit.analytics.facts import reading
from tests.unit.analytics.signed import ANCHORS, ANCHORS_FILE, signed
from tests.unit.server.test_cycles import World, order_in

RUNNER = CliRunner()
Run = Callable[[Callable[[Any], Any]], None]
NAMES = st.sampled_from(["a", "b", "c", "d"])
PAIRS = st.tuples(NAMES, NAMES).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: Pair(*ends))


@given(PAIRS, st.frozensets(NAMES), st.integers(2, 10_000))
def test_of_a_large_fleet_only_tests_with_a_service_are_signed(
    pair: Pair, serving: frozenset[str], agents: int
) -> None:
    fleet = Fleet(agents, serving)
    assert wants_receipt(Receipts.ALL, fleet, pair)
    assert not wants_receipt(Receipts.OFF, fleet, pair)
    serves = pair.first in serving or pair.second in serving
    assert wants_receipt(Receipts.AUTO, fleet, pair) == (agents <= SMALL_FLEET or serves)


@pytest.mark.parametrize(
    ("agents", "serving", "wanted"), [(2, set(), True), (101, set(), False), (101, {"b"}, True)]
)
def test_both_ends_are_told(agents: int, serving: set[str], wanted: bool) -> None:
    async def scenario() -> None:
        world = World()
        world.cycles.fleet = lambda: Fleet(agents, frozenset(serving))
        ends = [world.come(name, name) for name in "ab"]
        world.later(3)
        assert [order_in(end).receipt for end in ends] == [wanted, wanted]

    asyncio.run(scenario())


# --- the file -----------------------------------------------------------------------------------------------


def readings(src: str, dst: str) -> list[Reading]:
    """Ten of one direction, of the last hour."""
    now_us = time.time_ns() // 1_000
    return [
        reading(
            src,
            dst,
            cycle=now_us // 1_000_000 - 300 * n,
            test=f"t{n}",
            started_us=now_us - 300_000_000 * n - 9_000_000,
            ended_us=now_us - 300_000_000 * n,
        )
        for n in range(1, 11)
    ]


async def filled(site: Any) -> None:
    """Pacs and home test each other; of one test there is one signature, of another none."""
    for src, dst in (("pacs", "home"), ("home", "pacs"), ("radiologist", "home")):
        reply = await site.enrol(src, f"site-{src}")
        rows = readings(src, dst)
        made = [
            signed(row, both=n != 3, why_not="" if n != 3 else "peer-silent") for n, row in enumerate(rows)
        ]
        tables = {"readings": rows, "receipts": made[:-1] if src == "pacs" else made}
        body = pack_batch(agent=src, boot="6f1c0a2b9d3e4f50", batch=0, tables=tables)
        assert (await site.send(reply, body)).status_code == 200


def test_what_was_signed_leaves_as_a_file_that_holds(with_server: Run, tmp_path: Path) -> None:
    async def scenario(site: Any) -> None:
        await filled(site)
        answer = await site.report.get("/v1/receipts")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        told = check(answer.content.splitlines(), ANCHORS)
        assert (told.lines, told.both, told.one_end, told.unsigned, told.false) == (30, 26, 3, 1, {})
        assert msgspec.structs.replace(told.header, made_us=0, since_us=0, until_us=0) == Header(
            format="pathgrade.receipts.v1", tenant="default"
        )
        for asked, lines in (
            ({"src": "pacs"}, 10),
            ({"dst": "home"}, 20),
            ({"src": "pacs", "dst": "radiologist"}, 0),
            ({"until": "2h"}, 0),
            ({"since": "16m"}, 9),
        ):
            answer = await site.report.get("/v1/receipts", params=asked)
            assert check(answer.content.splitlines(), ANCHORS).lines == lines, asked
        for asked, status in (({"src": "nobody"}, 404), ({"service": "PACS"}, 404), ({"since": "soon"}, 422)):
            assert (await site.report.get("/v1/receipts", params=asked)).status_code == status
        assert site.running.core.status().rows["receipts"] == 29
        await asyncio.to_thread(command, site, tmp_path)

    with_server(scenario)


def test_a_paths_page_says_who_signed_its_latest_test_and_how_to_check_it(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await filled(site)
        whole = (await site.report.get("/paths/pacs/home")).text
        assert 'hx-get="/paths/pacs/home/signed?part=true"' in whole  # not in the page's own time
        told = (await site.report.get("/paths/pacs/home/signed")).text
        assert "Signed by both: pacs, which measured, and home, which saw the same." in told
        assert "Signed by both: home, which measured, and pacs, which saw the same." in told
        asked = re.search(r"receipt export --src pacs --dst home --since (\S+) --until (\S+)", told)
        assert asked is not None
        chosen = {"src": "pacs", "dst": "home", "since": asked[1], "until": asked[2]}
        answer = await site.report.get("/v1/receipts", params=chosen)
        found = check(answer.content.splitlines(), ANCHORS)
        assert (found.lines, found.proven) == (1, True)
        assert (await site.report.get("/paths/pacs/nobody/signed")).status_code == 404
        nothing = (await site.report.get("/paths/pacs/radiologist/signed?part=true")).text
        assert "No test of the two has been told yet." in nothing

    with_server(scenario)


def test_where_somebody_did_not_sign_it_is_said_why() -> None:
    row = reading("pacs", "home")
    alone = signed(row, both=False, why_not="peer-silent")
    for receipt, words in (
        (alone, "Signed by pacs alone: home left, or did not answer."),
        (msgspec.structs.replace(alone, why_not="refused: {x}"), "it saw something else ({x})."),
        (msgspec.structs.replace(alone, why_not=""), "Signed by pacs alone: it is not said why."),
        (signed(msgspec.structs.replace(row, received=1)), "does not hold (signature of src)"),
        (msgspec.structs.replace(alone, layout=99), "does not hold ("),
    ):
        assert words in proof_words.says(proof_of(row, receipt, Unsigned.OFF))
    for setting, agents, words in (
        (Receipts.OFF, 2, "switched off in the server's settings"),
        (Receipts.AUTO, SMALL_FLEET + 1, "above 100 agents only tests with a service"),
        (Receipts.AUTO, SMALL_FLEET, "pacs has sent no receipt of it"),
    ):
        why = why_unsigned(setting, Fleet(agents, frozenset()), Pair("home", "pacs"))
        assert words in proof_words.says(proof_of(row, None, why))


def command(site: Any, folder: Path) -> None:
    """The command: export once, then verify with no server, honest and forged."""
    file, anchors = folder / "month.jsonl", folder / "anchors.toml"
    anchors.write_text(ANCHORS_FILE)
    whom = ("--url", f"http://{site.running.report}", "--token", site.token)
    done = RUNNER.invoke(commands, ["export", "--src", "pacs", str(file), *whom])
    assert f"{file.stat().st_size:,} bytes" in done.stdout, done.output

    done = verify(file, "--anchors", str(anchors))
    assert done.exit_code == 3
    assert "8 of 10 readings are signed by both ends, with anchored keys." in done.stdout
    assert "one end only: 1 peer-silent" in done.stdout
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in lines if b'"why_not":""' in line or b"format" in line))
    assert verify(file, "--anchors", str(anchors)).exit_code == 0
    done = verify(file)
    assert done.exit_code == 3
    assert "not all keys are anchored" in done.stdout

    forged = lines[1].replace(b'"src_signature":"', b'"src_signature":"A', 1)
    file.write_bytes(lines[0] + forged + b"".join(lines[2:]))
    done = verify(file, "--anchors", str(anchors), "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["false"], told["proven"]) == ({"signature of src": 1}, False)
    assert "FALSE: 1 of 10 readings do not hold." in verify(file).stdout

    file.write_bytes(b"something else\n")
    for wrong in (file, folder / "nowhere"):
        error = verify(wrong).exception
        assert isinstance(error, SealError)
        assert (error.exit_code, bool(error.remedy)) == (65, True)


def verify(file: Path, *more: str) -> Result:
    return RUNNER.invoke(commands, ["verify", str(file), *more], env={"COLUMNS": "140"})
