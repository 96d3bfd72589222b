"""Tokens, agents and audit rows on disk."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from analytics.channel import EnrolToken
from analytics.clock import now_us
from analytics.wire import EnrolRequest, ServiceOffer
from server.agent_rows import Agent
from server.api.audits import AuditAsk, AuditRow
from server.database import connect
from server.errors import (
    NameTakenError,
    StateError,
    StateLockedError,
    StateVersionError,
    TokenError,
)
from server.state import FILE_NAME, State, create_token, enrolled_agents, revoke_agent

FINGERPRINT = ":".join(["AB"] * 32)
OTHER = ":".join(["CD"] * 32)
IDENTITY_KEY, OTHER_KEY = bytes([1]) * 32, bytes([2]) * 32
UNKNOWN = "not-a-token"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path)
    yield opened
    opened.close()


def request(token: str, name: str = "pacs") -> EnrolRequest:
    offer = ServiceOffer(name="PACS", profile="pacs", port=4242)
    proof = {"certificate": b"", "signature": b"", "identity_signature": b""}  # what enrolment.py has checked
    proof["identity_key"] = IDENTITY_KEY
    if token != UNKNOWN:
        token = EnrolToken.parse(token).secret
    return EnrolRequest(token=token, name=name, site="hospital", services=[offer], **proof)


def enrol(
    state: State, wanted: EnrolRequest, *, fingerprint: str = FINGERPRINT, at_us: int | None = None
) -> Agent:
    at_us = now_us() if at_us is None else at_us
    return state.enrol(wanted, fingerprint=fingerprint, at_us=at_us, origin="192.0.2.1")


def test_a_token_lets_in_as_many_as_it_has_seats(state: State, tmp_path: Path) -> None:
    token = create_token(tmp_path, 2, 60)
    enrol(state, request(token, "a"))
    enrol(state, request(token, "b"))
    with pytest.raises(TokenError, match="all 2 seats") as caught:
        enrol(state, request(token, "c"))
    assert caught.value.remedy
    assert [agent.name for agent in state.agents("default")] == ["a", "b"]


def test_an_answer_that_was_lost_can_be_asked_for_again(state: State, tmp_path: Path) -> None:
    token = create_token(tmp_path, 1, 60)
    enrol(state, request(token))
    assert enrol(state, request(token)) == state.agent("default", "pacs")


def test_a_name_belongs_to_one_identity_key(state: State, tmp_path: Path) -> None:
    token = create_token(tmp_path, 5, 60)
    enrol(state, request(token))
    with pytest.raises(NameTakenError, match="'pacs' belongs to another agent"):
        enrol(state, msgspec.structs.replace(request(token), identity_key=OTHER_KEY), fingerprint=FINGERPRINT)
    enrol(state, request(token), fingerprint=OTHER)
    known = state.agent("default", "pacs")
    assert known is not None
    assert (known.fingerprint, known.identity_key) == (OTHER, IDENTITY_KEY)


def test_who_was_just_revoked_by_a_command_does_not_come_back_with_its_old_token(
    state: State, tmp_path: Path
) -> None:
    token = create_token(tmp_path, 1, 60)
    enrol(state, request(token))
    revoke_agent(tmp_path, "pacs", by="me")
    with pytest.raises(NameTakenError, match="'pacs' was revoked"):  # before the server took it in
        enrol(state, request(token))
    assert [one.revoked_by for one in enrolled_agents(tmp_path)] == ["me"]
    assert enrol(state, request(create_token(tmp_path, 1, 60, replaces="pacs")))


def test_unknown_and_expired_tokens_are_refused(state: State, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="unknown token"):
        enrol(state, request(UNKNOWN))
    token = create_token(tmp_path, 1, 60)
    with pytest.raises(TokenError, match="expired"):
        enrol(state, request(token), at_us=now_us() + 61_000_000)


def test_it_all_survives_a_restart_but_no_token_is_on_disk(tmp_path: Path) -> None:
    token = create_token(tmp_path, 1, 60)
    state = State.open(tmp_path)
    enrol(state, request(token))
    state.saw("default", "pacs", 1_800_000_000_000_000)
    state.close()
    again = State.open(tmp_path)
    agent = again.agent("default", "pacs")
    assert agent is not None
    assert (agent.site, agent.seen_us, agent.services[0].port) == ("hospital", 1_800_000_000_000_000, 4242)
    again.close()
    for path in tmp_path.iterdir():
        assert EnrolToken.parse(token).secret.encode() not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_enrolments_and_other_deeds_are_audited_newest_first(state: State, tmp_path: Path) -> None:
    enrol(state, request(create_token(tmp_path, 1, 60)), at_us=5)
    state.add_audit("default", [AuditRow(at_us=6, actor="a", action="test", subject="b", detail="cycle=1")])
    first, second, third = state.audits.look("default", AuditAsk(limit=10))
    assert (first.action, first.actor, first.subject) == ("test", "a", "b")
    assert (second.action, second.subject, second.detail) == ("enrol", "pacs", "site=hospital from=192.0.2.1")
    assert (third.action, third.detail) == ("token", "made seats=1 expires_s=60")
    assert state.audits.look("default", AuditAsk(limit=1)) == [first]


def test_two_servers_do_not_share_a_folder(state: State, tmp_path: Path) -> None:
    with pytest.raises(StateLockedError, match="another pathgrade server") as caught:
        State.open(tmp_path)
    assert caught.value.remedy


def test_a_newer_state_is_left_alone(tmp_path: Path) -> None:
    State.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.sqlite") as connection:
        connection.execute("UPDATE state_version SET version = 99")
    connection.close()
    with pytest.raises(StateVersionError, match="state version 99; this pathgrade knows 3"):
        State.open(tmp_path)
    with pytest.raises(StateVersionError):
        create_token(tmp_path, 1, 60)


def test_a_file_that_is_no_database_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StateError, match="not a database") as caught:
        State.open(tmp_path)
    assert caught.value.remedy


def test_a_file_in_place_of_the_folder_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    for use in (State.open, lambda data: create_token(data, 1, 60)):
        with pytest.raises(StateError, match="data: File exists") as caught:
            use(tmp_path / "data")
        assert caught.value.exit_code == 74


def test_tokens_made_by_many_processes_at_once_all_count(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from server.state import create_token as c\n"
    program += "print(c(Path(sys.argv[1]), 1, 60))"
    makers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    tokens = [maker.communicate(timeout=60)[0].strip() for maker in makers]
    assert [maker.returncode for maker in makers] == [0] * 4
    state = State.open(tmp_path)
    for number, token in enumerate(tokens):
        enrol(state, request(token, f"agent-{number}"))
    assert len(state.agents("default")) == 4
    state.close()


def test_a_command_beside_a_server_with_two_engines_leaves_its_wal_alone(
    state: State, tmp_path: Path
) -> None:
    """Closing a second descriptor of the file would let go of the server's locks on it (POSIX)."""
    create_token(tmp_path, 1, 60)
    connect(tmp_path / FILE_NAME).dispose()  # as another part of the server does
    beside = "import sys, pathlib, server.state as s; s.create_token(pathlib.Path(sys.argv[1]), 1, 60)"
    subprocess.run([sys.executable, "-c", beside, tmp_path], check=True)
    assert (tmp_path / f"{FILE_NAME}-wal").exists()
    assert state.tenants() == ["default"]
