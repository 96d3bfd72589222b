"""``pathgrade doctor``: what it says of hosts, servers and fleets that are well, and that are not."""

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agent import doctor as of_agent
from agent.check import Survey
from analytics import host_checks as host
from analytics.checkup import Check, Checkup, State, asked, drawn, ok, summary
from analytics.errors import StoreError
from analytics.report import Member
from ebpf.check import Finding
from server import doctor as of_server
from server import fleet_doctor
from server.agent_tls import listener_context
from server.authority import create
from server.settings import Address
from server.stun import HEADER
from tests.unit.cli.test_cli import pathgrade
from tests.unit.web.fleet import AT_US, CYCLE, FixtureCore, serve

CORE = FixtureCore()
STATUS = msgspec.structs.replace(CORE.status(), cycle_s=300)


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state.value for check in checks}


def seen(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


@contextmanager
def listening(kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock


def at(sock: socket.socket) -> str:
    return f"127.0.0.1:{sock.getsockname()[1]}"


def answer_one(sock: socket.socket) -> None:
    packet, asker = sock.recvfrom(1_500)
    _, _, cookie, transaction = HEADER.unpack(packet[: HEADER.size])
    sock.sendto(HEADER.pack(0x0101, 0, cookie, transaction), asker)


@contextmanager
def stun() -> Iterator[str]:
    """One that answers once, as coturn and our own responder do."""
    with listening(socket.SOCK_DGRAM) as sock:
        thread = threading.Thread(target=answer_one, args=(sock,), daemon=True)
        thread.start()
        yield at(sock)
        thread.join(10)


def test_a_server_that_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, secret = tmp_path / "data", tmp_path / "secret"
    data.mkdir(mode=0o700)
    for path, content in ((data / "grant-key.pem", "k"), (secret, "s" * 32)):
        path.write_text(content)
        path.chmod(0o600)
    with listening() as agents, listening() as report, stun() as near, stun() as turn:
        for name, value in (("AGENTS", at(agents)), ("REPORT", at(report)), ("STUN", near)):
            monkeypatch.setenv(f"PATHGRADE_{name}", value)
        monkeypatch.setenv("PATHGRADE_TURN", f"turn:{turn}?transport=udp")
        monkeypatch.setenv("PATHGRADE_TURN_SECRET_FILE", str(secret))
        found = of_server.checks(data)
    assert {name for name, state in states(found).items() if state != "ok"} <= {"clock"}
    assert seen(found, "secret files").seen == "for their owner only: grant-key.pem, secret"


def test_a_server_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    key = tmp_path / "grant-key.pem"
    key.write_text("k")
    key.chmod(0o644)
    with listening() as gone, listening(socket.SOCK_DGRAM) as silent:
        monkeypatch.setenv("PATHGRADE_AGENTS", at(gone))
        monkeypatch.setenv("PATHGRADE_STUN", at(silent))
        monkeypatch.setattr(of_server, "ANSWER_S", 0.05)
        gone.close()
        monkeypatch.setenv("PATHGRADE_TURN", "turn:127.0.0.1:1")
        found = of_server.checks(tmp_path)
    assert {name: state for name, state in states(found).items() if state != "ok" and name != "clock"} == {
        "data folder": "look",
        "secret files": "wrong",
        "agent listener": "wrong",
        "report listener": "wrong",
        "STUN": "wrong",
        "TURN": "wrong",
    }
    assert seen(found, "secret files").remedy == f"chmod 600 {key}"
    assert "turn-secret-file" in seen(found, "TURN").seen
    assert all(check.remedy for check in found if check.state is not State.OK)


def test_a_report_in_the_clear_on_the_network_is_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as sock:
        port = sock.getsockname()[1]
        assert of_server._report(Address("127.0.0.1", port)).state is State.OK
        assert of_server._report(Address("0.0.0.0", port)).state is State.LOOK  # asked near by


def test_settings_that_do_not_hold_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHGRADE_CYCLE_S", "soon")
    (only,) = of_server.checks(tmp_path)
    assert (only.name, only.state, only.part) == ("settings", State.WRONG, "server")


def config(folder: Path, **more: str) -> Path:
    path = folder / "agent.toml"
    told = {"server": "https://127.0.0.1:9", "name": "pacs", "site": "hospital", "data": str(folder / "data")}
    path.write_text("".join(f'{key} = "{value}"\n' for key, value in (told | more).items()))
    return path


def test_an_agent_that_was_never_started(tmp_path: Path) -> None:
    found = of_agent.checks(config(tmp_path, passive="off"))
    told = states(found)
    assert (told["configuration"], told["enrolment"], told["server"]) == ("ok", "wrong", "wrong")
    assert "token_file" in seen(found, "enrolment").remedy
    assert "127.0.0.1:9 in the firewall" in seen(found, "server").remedy
    assert "kernel" not in told  # nobody asked for eBPF


def test_an_agents_secrets_and_its_servers_clock(tmp_path: Path) -> None:
    data, token = tmp_path / "data", tmp_path / "token"
    data.mkdir(mode=0o700)
    for path, mode in ((data / "identity.pem", 0o600), (data / "credential.json", 0o600), (token, 0o644)):
        path.write_text('{"version": 2}')
        path.chmod(mode)
    with tls_server() as url:
        found = of_agent.checks(config(tmp_path, server=url, passive="off", token_file=str(token)))
    assert seen(found, "secret files").remedy == f"chmod 600 {token}"
    assert seen(found, "server's clock").seen == "agrees with the server's"
    assert states(found)["enrolment"] == "look"  # not of this server


@contextmanager
def tls_server() -> Iterator[str]:
    """Answer like the agents' listener, as far as anybody can ask it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = listener_context(create(), Counter())
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("passive", "state"),
    [("ebpf", State.WRONG), ("auto", State.LOOK), ("inet_diag", None), ("off", None)],
)
def test_what_ebpf_lacks_is_wrong_only_where_it_is_insisted_on(passive: str, state: State | None) -> None:
    lacks = Finding("type information", False, "no /sys/kernel/btf/vmlinux", "boot another kernel")
    made = Survey(works=False, ebpf=[lacks], agent=[Finding("fallback", True, "inet_diag", "")])
    told = {check.name: check.state for check in of_agent.passive_checks(made, passive)}
    assert told == {"fallback": State.OK} | ({"type information": state} if state else {})


def test_a_configuration_that_does_not_read_is_the_one_answer(tmp_path: Path) -> None:
    (only,) = of_agent.checks(tmp_path / "none.toml")
    assert (only.name, only.state) == ("configuration", State.WRONG)


def judged(now=STATUS, members=CORE.fleet, report=None, at_us=AT_US):  # type: ignore[no-untyped-def]
    return asked("fleet", fleet_doctor.of_fleet(now, members, report or CORE.report("pacs"), at_us))


def test_a_fleet_that_is_well_and_one_that_is_not() -> None:
    assert set(states(judged()).values()) == {"ok"}
    away = [Member(name=f"a{number}", site="s", online=number == 0) for number in range(9)]
    late = msgspec.structs.replace(
        STATUS, paths_measured=10, paths_put_off=4, cycles_for_all=2, store={"upkeep_failures": 2}
    )
    report = CORE.report("pacs")
    grade = msgspec.structs.replace(report.paths[0].grade, rule="any.stale.v1")
    report = msgspec.structs.replace(
        report, paths=[msgspec.structs.replace(report.paths[0], grade=grade), *report.paths[1:]]
    )
    found = judged(late, away, report, (CYCLE + 3_600) * 1_000_000)
    assert states(found) == {
        "agents online": "look",
        "cycle": "wrong",
        "paths measured": "look",
        "fresh": "look",
        "budget": "look",
        "store": "look",
    }
    assert seen(found, "agents online").seen == "1 of 9; not a1, a2, a3, a4, a5 and 3 more"
    assert seen(found, "cycle").seen == "the latest began 60 min ago, one every 300 s"
    assert states(judged(members=[]))["agents online"] == "wrong"


def test_as_people_run_it(tmp_path: Path) -> None:
    nowhere = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    with serve(CORE) as url:
        done = pathgrade("doctor", url=url, columns=120, **nowhere)
        told = json.loads(pathgrade("doctor", "--json", url=url, **nowhere).stdout)
    assert "agents online" in done.stdout
    assert "6 of 6" in done.stdout
    assert {check["part"] for check in told["checks"]} >= {"fleet"}
    away = pathgrade("doctor", url="http://127.0.0.1:9", **nowhere)
    assert away.returncode == 1
    assert "start it with: pathgrade server run --data DIR" in away.stdout
    assert away.stderr == ""


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_width_keeps_its_lines(width: int, tmp_path: Path) -> None:
    made = Checkup(checks=of_agent.checks(config(tmp_path, passive="off")))
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(drawn(made, width))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[-1] == summary(made)


def test_a_checkup_in_a_sentence() -> None:
    def of(*counts: int) -> str:
        made = [
            Check(part="p", name="n", state=state, seen="")
            for state, count in zip((State.WRONG, State.LOOK, State.OK), counts, strict=True)
            for _ in range(count)
        ]
        return summary(Checkup(checks=made))

    assert of(0, 0, 3) == "All 3 checks are well."
    assert of(1, 2, 3) == "1 thing is wrong, 2 to look at, 3 well."
    assert of(0, 1, 0) == "Nothing is wrong, 1 to look at, 0 well."


def test_an_error_with_a_remedy_is_an_answer_and_any_other_is_raised() -> None:
    def fails() -> None:
        raise StoreError("the disk is gone", remedy="put it back")

    (check,) = asked("p", {"store": fails})  # type: ignore[dict-item]  # it never returns
    assert (check.state, check.seen, check.remedy) == (State.WRONG, "the disk is gone", "put it back")
    (check,) = asked("p", {"file": lambda: ok(Path("/nonexistent/x").read_text())})
    assert check.seen == "/nonexistent/x: No such file or directory"
    with pytest.raises(ZeroDivisionError):
        asked("p", {"bug": lambda: ok(str(1 // 0))})


def test_room_and_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.free_space(tmp_path / "not" / "yet").seen.endswith("%)")
    full = os.statvfs_result((4096, 4096, 1_000, 10, 10, 1_000, 1_000, 1_000, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert host.free_space(tmp_path).state is State.WRONG
    assert host.private([tmp_path / "none"]).state is State.OK


moments = st.floats(0, 2e9)


@given(moments, st.floats(0, 60), st.floats(-1e6, 1e6), st.floats(0, 1))
def test_a_clock_is_called_off_only_as_far_as_it_is_certain(
    sent_s: float, took_s: float, off_s: float, when: float
) -> None:
    """The server's second, made from its true time at some moment in between, proves no more than is so."""
    server_now = sent_s + when * took_s - off_s
    told = host.clock_off_s(int(server_now // 1), sent_s, sent_s + took_s)
    assert abs(told) <= abs(off_s) + 1e-6
    assert told * off_s >= 0
    assert abs(off_s - told) <= took_s + 1 + 1e-6


def test_a_clock_that_is_off_is_said_in_words() -> None:
    date = "Mon, 23 Nov 2026 20:00:00 GMT"
    at_s = AT_US / 1e6
    assert host.clock_beside(date, at_s, at_s + 0.1).state is State.OK
    behind = host.clock_beside(date, at_s - 40, at_s - 39.9)
    assert (behind.state, behind.seen) == (State.LOOK, "40 s behind the server's")
    assert host.clock_beside(date, at_s + 4_000, at_s + 4_000).state is State.WRONG
    assert host.clock_beside(None, at_s, at_s).state is State.LOOK
