"""Who asks: the token that the command sends, where it comes from, and what is refused."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from server.api.client import Client
from server.api.token_file import kept_token, one_token, token_file
from server.errors import DeniedError, TokenFileError
from tests.unit.cli.test_cli import pathgrade


class Guard(ThreadingHTTPServer):
    """Answers GET /v1/mesh/marks to who has the token 'let-me-in'; says what it heard."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.heard: list[tuple[int, str]] = []  # port of the connection, Authorization
        self.problem: dict[str, Any] = {"status": 401, "title": "Who are you?"}


class Asked(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Guard

    def do_GET(self) -> None:
        who = self.headers.get("Authorization", "")
        self.server.heard.append((self.client_address[1], who))
        known = who == "Bearer let-me-in"
        body = json.dumps([] if known else self.server.problem).encode()
        self.send_response(200 if known else self.server.problem["status"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url_of(guard: Guard) -> str:
    return f"http://127.0.0.1:{guard.server_address[1]}"


def write(home: Path, token: str, mode: int = 0o600) -> Path:
    path = token_file({"HOME": str(home)})
    path.parent.mkdir(parents=True)
    path.write_text(token)
    path.chmod(mode)
    return path


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    guard: Guard, tmp_path: Path
) -> None:
    write(tmp_path, "let-me-in\n")
    asked = ("mesh", "mark", "--json")
    known = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    assert pathgrade(*asked, url=url_of(guard), **known).returncode == 0
    assert pathgrade(*asked, url=url_of(guard), PATHGRADE_TOKEN="b", **known).returncode == 77
    done = pathgrade(*asked, "--token", "let-me-in", url=url_of(guard), PATHGRADE_TOKEN="b", **known)
    assert done.returncode == 0
    assert [who for _, who in guard.heard] == ["Bearer let-me-in", "Bearer b", "Bearer let-me-in"]


def test_a_token_that_others_can_read_is_not_used(guard: Guard, tmp_path: Path) -> None:
    path = write(tmp_path, "let-me-in", mode=0o640)
    done = pathgrade("mesh", "mark", url=url_of(guard), HOME=str(tmp_path), XDG_CONFIG_HOME="")
    first, second = done.stderr.splitlines()
    assert done.returncode == 77
    assert first == f"error: the token in {path} may be read by others (mode 0640): not used"
    assert second.startswith(f"  try: chmod 600 {path}")
    assert guard.heard == []


def test_what_the_server_refuses_names_what_to_try(guard: Guard, tmp_path: Path) -> None:
    nobody = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    done = pathgrade("mesh", "mark", url=url_of(guard), **nobody)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.startswith("error: Who are you?\n  try: give a token: --token, PATHGRADE_TOKEN")
    guard.problem = {"status": 403, "title": "Not with this token", "remedy": "ask Ms. Admin"}
    done = pathgrade("mesh", "mark", url=url_of(guard), **nobody)
    assert (done.returncode, done.stderr) == (77, "error: Not with this token\n  try: ask Ms. Admin\n")


def test_one_connection_serves_all_questions_of_a_command(guard: Guard) -> None:
    client = Client(url_of(guard), "let-me-in")
    for _ in range(3):
        assert client.marks() == []
    client.connection.close()
    assert len(guard.heard) == 3
    assert len({port for port, _ in guard.heard}) == 1
    with pytest.raises(DeniedError):
        Client(url_of(guard)).marks()


def test_no_file_is_no_token(tmp_path: Path) -> None:
    assert kept_token(tmp_path / "none") is None
    assert token_file({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/pathgrade/token")


@pytest.mark.parametrize("text", ["", " \n", "two words", "a\nb", "caf\u00e9", "x" * 5_000])
def test_what_is_no_token_is_refused_before_it_is_sent(text: str, tmp_path: Path) -> None:
    with pytest.raises(TokenFileError):
        one_token(text, "--token")
    with pytest.raises(TokenFileError):
        kept_token(write(tmp_path, text))


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.mkdir(mode=0o700)
    with pytest.raises(TokenFileError, match="read the token"):
        kept_token(path)
