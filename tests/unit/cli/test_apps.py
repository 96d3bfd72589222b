"""``pathgrade apps`` as people run it, against a real server."""

import json
from collections.abc import Iterator

import msgspec
import pytest

from analytics.passive import Applications
from analytics.rules.load import load_rules
from tests.unit.cli.test_cli import pathgrade, words
from tests.unit.web.fleet import FixtureCore, serve


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(FixtureCore()) as at:
        yield at


def test_processes_come_worst_first_without_the_agents_own(url: str) -> None:
    done = pathgrade("apps", url=url, columns=200)
    assert done.returncode == 0, done.stderr
    lines = [words(line) for line in done.stdout.splitlines()]
    assert lines[0] == "process agent sessions RTT again 24 h to now failed why"
    assert lines[1].startswith(
        "D getscu radiologist 920 258 ms 2.6 % DDD·DDDDDDDDDDDDDDDDDDDD 11 median round"
    )
    assert lines[2].startswith("A Orthanc pacs 920 24.1 ms")
    assert lines[-1] == f"worst first, sessions since 2026-11-22 21:00:00 UTC; rules {load_rules().version}"
    assert "pathgrade" not in done.stdout


def test_destinations_of_one_agent(url: str) -> None:
    done = pathgrade("apps", "--by", "destination", "--agent", "radiologist", url=url, columns=200)
    assert "to 198.51.100.66 port 4242" in done.stdout
    assert "203.0.113.20" not in done.stdout


def test_own_sessions_are_shown_when_asked_for(url: str) -> None:
    assert "A pathgrade" in pathgrade("apps", "--own", url=url, columns=200).stdout


def test_a_cut_list_says_so(url: str) -> None:
    done = pathgrade("apps", "--limit", "1", url=url, columns=200)
    assert "there are more: raise --limit, or name one --agent" in done.stdout


def test_json_is_the_servers_answer(url: str) -> None:
    done = pathgrade("apps", "--json", url=url)
    made = msgspec.json.decode(done.stdout, type=Applications, strict=True)
    assert [row.process for row in made.rows] == ["getscu", "Orthanc"]
    assert json.loads(done.stdout)["rows"][0]["grade"]["rule"] == "applications.sessions.v1"


@pytest.mark.parametrize("arguments", [("--by", "colour"), ("--limit", "0"), ("--limit", "1001")])
def test_a_wrong_option_is_refused(url: str, arguments: tuple[str, ...]) -> None:
    assert pathgrade("apps", *arguments, url=url).returncode == 2
