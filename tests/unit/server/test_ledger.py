"""The audit chains: who writes goes through one door, and who writes past it is found."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from analytics import wire
from analytics.audit_chain import ACTS, TESTS, ChainResult, Fault
from analytics.clock import DAY_US
from analytics.errors import SealError
from analytics.measurement import Rung
from analytics.trust import key_bytes
from server import audit_file
from server.api.audits import AuditAsk, AuditRow
from server.audit import Audit
from server.audit_age import Ages
from server.audit_check import checked
from server.database import connect
from server.errors import AuditBrokenError, StateError, StateLockedError
from server.grants import Signer
from server.ledger import append, rows_of
from server.state import State, create_token
from tests.unit.cli.test_cli import pathgrade
from tests.unit.server.browsers import account, browser

Run = Callable[[Callable[[Any], Any]], None]
SERVER = Path(__file__).parents[3] / "server"
NOW_US = 20_000 * DAY_US


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.open(tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with closing(State.open(tmp_path)) as opened:
        yield opened


def write(
    state: State, count: int, *, action: str = "login", at_us: int = NOW_US, tenant: str = "default"
) -> None:
    rows = [AuditRow(at_us=at_us, actor="ada", action=action, subject=f"{n}") for n in range(count)]
    state.add_audit(tenant, rows)


def sql(data: Path, *statements: str) -> None:
    """Write past the server, as somebody does who may write its folder."""
    with closing(sqlite3.connect(data / "state.sqlite")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def found(data: Path, chain: str = ACTS) -> ChainResult:
    return {result.chain: result for result in checked(data, None, {})["default"]}[chain]


def fault(result: ChainResult) -> tuple[int, Fault] | None:
    return (result.broken.seq, result.broken.fault) if result.broken else None


def test_nobody_else_writes_audit_rows() -> None:
    writers = re.compile(r"\bAUDIT\.(insert|update)\(|(INSERT INTO|UPDATE) audit\b")
    past = {path.name for path in SERVER.rglob("*.py") if writers.search(path.read_text())}
    assert past == {"ledger.py", "upgrades.py"}  # the second adopts rows of before


def test_tests_and_acts_are_chains_of_their_own_and_a_command_beside_the_server_goes_on_in_them(
    state: State, signer: Signer, tmp_path: Path
) -> None:
    write(state, 3)
    write(state, 2, action="test")
    create_token(tmp_path, 1, 60)
    write(state, 2, action="tested")
    write(state, 1)
    assert {mark.chain: mark.seq for mark in state.sign_audit(signer, now_us=NOW_US)} == {ACTS: 5, TESTS: 4}
    assert state.sign_audit(signer, now_us=NOW_US) == []
    for chain, last in ((ACTS, 5), (TESTS, 4)):
        told = found(tmp_path, chain)
        assert (told.broken, told.first, told.last, told.signed) == (None, 1, last, last)


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET subject = 'x' WHERE seq = 3", (3, Fault.CHANGED)),
        ("UPDATE audit SET action = 'test' WHERE seq = 3", (4, Fault.MISSING)),
        ("DELETE FROM audit WHERE seq = 3", (4, Fault.MISSING)),
        ("DELETE FROM audit WHERE seq > 5", (6, Fault.CUT)),
        ("UPDATE audit SET id = 900 WHERE seq = 3", (3, Fault.OUT_OF_ORDER)),
        ("DELETE FROM audit_marks", (1, Fault.UNSIGNED)),
    ],
)
def test_who_writes_into_the_file_is_found(
    state: State, signer: Signer, tmp_path: Path, statement: str, broken: tuple[int, Fault]
) -> None:
    write(state, 8)
    state.sign_audit(signer, now_us=NOW_US)
    assert found(tmp_path).broken is None
    sql(tmp_path, statement)
    assert fault(found(tmp_path)) == broken


def rehash(data: Path) -> None:
    """Change a row and make every hash anew, and where the chain goes on: all but the signature."""
    with closing(sqlite3.connect(data / "state.sqlite")) as connection, connection:
        connection.execute("UPDATE audit SET actor = 'mallory' WHERE seq = 3")
        rows = connection.execute(
            "SELECT at_us, actor, action, subject, detail FROM audit ORDER BY id"
        ).fetchall()
        connection.execute("DELETE FROM audit")
        connection.execute("DELETE FROM audit_chains")
    engine = connect(data / "state.sqlite")
    with engine.begin() as writing:
        names = ("at_us", "actor", "action", "subject", "detail")
        append(writing, "default", [AuditRow(**dict(zip(names, row, strict=True))) for row in rows])
    engine.dispose()


def test_hashes_that_are_made_anew_without_the_key_are_found_and_never_signed(
    state: State, signer: Signer, tmp_path: Path
) -> None:
    write(state, 8)
    state.sign_audit(signer, now_us=NOW_US)
    rehash(tmp_path)
    assert fault(found(tmp_path)) == (8, Fault.HASHED_AGAIN)
    write(state, 1)
    with pytest.raises(AuditBrokenError, match="'acts' of audit rows of 'default' does not hold") as caught:
        state.sign_audit(signer, now_us=NOW_US + 1)
    assert "audit-check" in caught.value.remedy
    assert fault(found(tmp_path)) == (8, Fault.HASHED_AGAIN)


def test_a_key_put_in_the_place_of_the_servers_is_found_by_who_kept_it(
    state: State, signer: Signer, tmp_path: Path
) -> None:
    write(state, 3)
    state.sign_audit(Signer(Ed25519PrivateKey.generate()), now_us=NOW_US)
    with pytest.raises(SealError, match="by another key"):
        checked(tmp_path, signer.public_key, {})


def test_what_is_let_go_of_leaves_a_signature_and_the_rest_holds(
    state: State, signer: Signer, tmp_path: Path
) -> None:
    for day in (500, 450, 40, 2, 1):
        write(state, 3, at_us=NOW_US - day * DAY_US)
        write(state, 2, action="test", at_us=NOW_US - day * DAY_US)
        state.sign_audit(signer, now_us=NOW_US - day * DAY_US)
    assert state.prune_audit(Ages(400, 30), now_us=NOW_US, sealer=signer) == 6 + 6
    acts, tests = found(tmp_path), found(tmp_path, TESTS)
    assert (acts.broken, acts.first, acts.last) == (None, 7, 15)
    assert (tests.broken, tests.first, tests.last) == (None, 7, 10)
    assert state.prune_audit(Ages(30, 30), now_us=NOW_US, sealer=signer) == 3
    write(state, 1)
    state.sign_audit(signer, now_us=NOW_US)
    assert (found(tmp_path).broken, found(tmp_path).first, found(tmp_path).last) == (None, 10, 16)
    sql(tmp_path, "DELETE FROM audit WHERE seq = 10 AND action = 'login'")
    assert fault(found(tmp_path)) == (11, Fault.MISSING)


def test_rows_of_before_there_were_chains_are_adopted_and_said_to_be(tmp_path: Path, signer: Signer) -> None:
    State.open(tmp_path).close()
    sql(
        tmp_path,
        "ALTER TABLE audit DROP COLUMN seq",
        "ALTER TABLE audit DROP COLUMN hash",
        "DROP TABLE audit_chains",
        "DROP TABLE audit_marks",
        "UPDATE state_version SET version = 2",
        *(
            f"INSERT INTO audit VALUES ({n}, 'default', 5, 'ada', '{'test' if n % 3 else 'login'}', 's', '')"
            for n in range(1, 31)
        ),
    )
    with closing(State.open(tmp_path)) as state:
        state.sign_audit(signer, now_us=NOW_US)
        write(state, 1)
        acts, tests = found(tmp_path), found(tmp_path, TESTS)
        assert (acts.broken, acts.rows, acts.adopted, acts.signed) == (None, 11, 10, 10)
        assert (tests.broken, tests.rows, tests.adopted) == (None, 20, 20)
        assert len(state.audits.look("default", AuditAsk(limit=100))) == 31


def test_a_command_does_not_upgrade_under_the_hands_of_a_server_of_before(tmp_path: Path) -> None:
    with closing(State.open(tmp_path)):
        sql(tmp_path, "UPDATE state_version SET version = 2")
        with pytest.raises(StateLockedError, match="another pathgrade server"):
            create_token(tmp_path, 1, 60)
        sql(tmp_path, "UPDATE state_version SET version = 3")


def test_a_test_is_noted_with_what_each_end_measured(state: State) -> None:
    audit = Audit(state, "default", clock=lambda: NOW_US)
    ends = {
        "a": wire.TestEnded(test="t", rung=Rung.LAN, rtt_p50_us=812, loss_bp=0, sent_bytes=20_312),
        "b": wire.TestEnded(test="t", rung=Rung.LAN, rtt_p50_us=803, error="late"),  # one of before
    }
    audit.tested("a", "b", test="t", ends=ends)
    audit.tested("a", "b", test="u", ends={}, why="a is gone")
    audit._write(audit._take())
    second, first = state.audits.look("default", AuditAsk(limit=2))
    assert first.detail == (
        "test=t rung=lan,lan rtt_p50_us=812,803 loss_bp=0,- sent_bytes=20312,- error='late'"
    )
    assert second.detail == "test=u rung=-,- rtt_p50_us=-,- loss_bp=-,- sent_bytes=-,- error='a is gone'"
    assert {first.action, second.action} == {"tested"}
    assert state.audits.look("default", AuditAsk(limit=9, tests=False)) == []


def test_what_the_disk_did_not_take_in_time_is_told_in_the_chain(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.audit.MOST_WAITING", 3)
    audit = Audit(state, "default")
    for number in range(5):
        audit.mark("ada", f"{number}", important=True)
    audit._write(audit._take())
    rows = state.audits.look("default", AuditAsk(limit=9))
    assert [(row.action, row.subject, row.detail) for row in rows][3:] == [("lost", "audit", "rows=2")]
    assert audit.dropped == 2


def test_how_much_was_lost_is_not_lost_itself_while_the_disk_takes_nothing(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tenant: str, rows: Any) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr("server.audit.MOST_WAITING", 3)
    audit = Audit(state, "default")
    for number in range(8):
        audit.mark("ada", f"{number}", important=True)
        with monkeypatch.context() as patch:
            patch.setattr(state, "add_audit", full)
            audit._write(audit._take())
    audit._write(audit._take())
    rows = state.audits.look("default", AuditAsk(limit=9))
    assert [(row.subject, row.detail) for row in rows][3:] == [("audit", "rows=5")]
    assert [row.subject for row in rows][:3] == ["7", "6", "5"]
    assert audit.dropped == 5


def test_an_export_is_checked_without_a_server_and_every_change_in_it_is_found(
    with_server: Run, tmp_path: Path
) -> None:
    out, key = tmp_path / "audit.jsonl", tmp_path / "key"

    async def scenario(site: Any) -> None:
        await account(site, "ada", "viewer")
        async with browser(site) as ada:
            await ada.log_in("ada")
            assert (await ada.get("/v1/audit/export")).status_code == 200
        await site.enrol("a")
        for _ in range(200):
            if (await site.report.get("/v1/audit", params={"action": "export"})).json():
                break
            await asyncio.sleep(0.05)  # rows are written twice a second
        answer = await site.report.get("/v1/audit/export")
        out.write_bytes(answer.content)
        key.write_text((await site.report.get("/v1/sla/key")).json()["key"])

    with_server(scenario)
    lines = out.read_text().splitlines()
    done = verify(out, key, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)["default"]
    acts = next(one for one in told if one["chain"] == "acts")
    assert (acts["first"], acts["broken"]) == (1, None)
    exports = [line for line in lines if '"action":"export"' in line]
    assert '"actor":"ada"' in exports[0]
    assert re.search(r'"subject":"audit chains","detail":"bytes=\d+"', exports[0])

    at = next(n for n, line in enumerate(lines) if '"action":"login"' in line)
    forged = {
        "changed": [*lines[:at], lines[at].replace("ada", "eve"), *lines[at + 1 :]],
        "missing": [*lines[:at], *lines[at + 1 :]],
        "out of order": [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        "cut at the end": [line for line in lines if f'"seq":{acts["last"]},' not in line],
        "unsigned": [line for line in lines if '"type":"mark"' not in line],
    }
    public = key_bytes(key.read_text())
    for what, changed in forged.items():
        out.write_text("\n".join(changed) + "\n")
        _, found = audit_file.verified(out, public)
        assert [one.broken.fault for one in found if one.broken] == [what], what
    out.write_text("\n".join(lines) + "\n")
    with pytest.raises(SealError, match="by another key"):
        audit_file.verified(out, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    later = f"acts:{acts['last'] + 5}:{acts['hash']}"
    done = verify(out, key, "--head", later)
    assert (done.returncode, "BROKEN at row" in done.stdout, "was noted" in done.stdout) == (1, True, True)
    out.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(SealError, match="cut short"):
        audit_file.verified(out, public)


@pytest.mark.parametrize("lets_go", [False, True])
def test_an_export_that_crosses_a_signing_is_whole(
    state: State, signer: Signer, tmp_path: Path, lets_go: bool
) -> None:
    for day in (90, 60, 2, 1):
        write(state, 3, at_us=NOW_US - day * DAY_US)
        state.sign_audit(signer, now_us=NOW_US - day * DAY_US)
    state.prune_audit(Ages(80, 80), now_us=NOW_US, sealer=signer)
    write(state, 3)
    pieces = audit_file.written(state, "default", signer, now_us=NOW_US)
    begun = next(pieces)
    write(state, 1)
    state.sign_audit(signer, now_us=NOW_US + 60_000_000)
    if lets_go:
        assert state.prune_audit(Ages(30, 30), now_us=NOW_US, sealer=signer) == 3
    (tmp_path / "f").write_bytes(b"".join([begun, *pieces]))
    acts, _ = audit_file.verified(tmp_path / "f", signer.public_key)[1]
    assert (acts.broken, acts.first, acts.last, acts.signed) == (None, 7 if lets_go else 4, 15, 15)


def test_a_broken_chain_of_one_tenant_stops_nobody_elses_export(
    state: State, signer: Signer, tmp_path: Path
) -> None:
    write(state, 3, tenant="clinic")
    sql(tmp_path, "UPDATE audit SET subject = 'x' WHERE seq = 2")
    write(state, 3)
    (tmp_path / "f").write_bytes(b"".join(audit_file.written(state, "default", signer, now_us=NOW_US)))
    acts, _ = audit_file.verified(tmp_path / "f", signer.public_key)[1]
    assert (acts.broken, acts.signed) == (None, 3)
    with pytest.raises(AuditBrokenError, match="'clinic'"):
        next(audit_file.written(state, "clinic", signer, now_us=NOW_US))


def test_a_chain_that_is_broken_is_walked_once_for_each_signed_row_it_goes_on_from(
    state: State, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []

    def walking(*args: Any, **more: Any) -> Iterator[Any]:
        walked.append(1)
        return rows_of(*args, **more)

    monkeypatch.setattr("server.audit_seal.rows_of", walking)
    write(state, 3)
    state.sign_audit(signer, now_us=NOW_US)
    write(state, 3)
    sql(tmp_path, "UPDATE audit SET subject = 'x' WHERE seq = 5")
    for _ in range(3):
        with pytest.raises(AuditBrokenError, match="row 5 is changed"):
            state.sign_audit(signer, now_us=NOW_US)
        write(state, 1)
    assert len(walked) == 2  # one was good
    assert fault(found(tmp_path)) == (5, Fault.CHANGED)
    assert len(walked) == 4  # who asks for a check gets one, of both chains
    sql(tmp_path, "DELETE FROM audit_marks")
    with pytest.raises(AuditBrokenError, match="row 5 is changed"):
        state.sign_audit(signer, now_us=NOW_US)
    assert len(walked) == 5  # it goes on from another row now


def verify(out: Path, key: Path | str, *more: str) -> Any:
    return pathgrade("audit", "verify", str(out), "--key", str(key), *more, url="http://127.0.0.1:9")


def test_a_running_server_signs_and_a_command_checks_it_where_it_lies(with_server: Run) -> None:
    folder: list[Path] = []

    async def scenario(site: Any) -> None:
        folder.append(site.settings.data)
        await site.enrol("a")
        await asyncio.to_thread(audit_of_one_test, site)

    with_server(scenario)
    done = pathgrade("server", "audit-check", "--data", str(folder[0]), url="http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout
    assert "default acts: intact from row 1" in done.stdout
    assert "default tests: intact from row 1 to 1, 1 row" in done.stdout
    sql(folder[0], "UPDATE audit SET actor = 'nobody' WHERE action = 'enrol'")
    assert fault(found(folder[0])) == (3, Fault.CHANGED)  # after an access token and an enrolment token


def audit_of_one_test(site: Any) -> None:
    site.running.realms.of("default").audit.test("a", "b", test="t", cycle=1)


def test_a_file_that_is_hostile_is_one_error(tmp_path: Path) -> None:
    for body in (b"", b"\xff\xfe\n", b"x" * 70_000, b'{"type":"row"}\n', b'[1,2]\n{"type":"end","rows":0}\n'):
        (tmp_path / "f").write_bytes(body)
        with pytest.raises(SealError):
            audit_file.verified(tmp_path / "f", bytes(32))
