"""``pathgrade agent identity`` and ``pathgrade agent peers``, as people run them."""

import json
from pathlib import Path

import pytest

from agent.identity import load_or_create
from agent.mesh.peers import KnownPeers, load_anchors
from tests.unit.cli.test_cli import pathgrade


@pytest.fixture
def data(tmp_path: Path) -> Path:
    load_or_create(tmp_path, "pacs")
    met = KnownPeers(tmp_path)
    for number, name in enumerate(("hotel", "clinic")):
        met.check(name, load_or_create(tmp_path / name, name).public_key, now_us=number * 86_400_000_000)
    return tmp_path


def test_the_line_it_prints_is_an_anchor(data: Path, tmp_path: Path) -> None:
    said = pathgrade("agent", "identity", "--data", str(data))
    assert said.returncode == 0, said.stderr
    file = tmp_path / "anchors.toml"
    file.write_text(said.stdout)
    assert load_anchors(file) == {"pacs": load_or_create(data, "pacs").public_key}
    as_json = json.loads(pathgrade("agent", "identity", "--data", str(data), "--json").stdout)
    assert said.stdout == f'{as_json["name"]} = "{as_json["key"]}"\n'


def test_peers_are_listed_with_their_keys(data: Path) -> None:
    said = pathgrade("agent", "peers", "--data", str(data)).stdout
    assert "clinic 1970-01-02 00:00 ed25519:" in said
    listed = json.loads(pathgrade("agent", "peers", "--data", str(data), "--json").stdout)["peers"]
    assert list(listed) == ["clinic", "hotel"]
    assert all(peer["key"] in said for peer in listed.values())


def test_a_peer_is_forgotten_by_name(data: Path) -> None:
    said = pathgrade("agent", "peers", "--data", str(data), "forget", "clinic")
    assert said.stdout.startswith("forgotten: clinic")
    assert list(KnownPeers(data).listed()) == ["hotel"]
    said = pathgrade("agent", "peers", "forget", "hotel", "--data", str(data), "--json")
    assert json.loads(said.stdout) == {"forgotten": "hotel"}
    assert "no peer met yet" in pathgrade("agent", "peers", "--data", str(data)).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["peers", "forget", "nobody"], 65, "'nobody' is not pinned here"),
        (["peers", "--data", "/nonexistent"], 73, "read /nonexistent/peers.json"),
        (["identity", "--data", "/nonexistent"], 77, "read /nonexistent/identity.pem: no identity key yet"),
    ],
)
def test_each_mistake_is_one_clear_error(data: Path, arguments: list[str], code: int, error: str) -> None:
    if "--data" not in arguments:
        arguments = [*arguments, "--data", str(data)]
    said = pathgrade("agent", *arguments)
    assert said.returncode == code
    assert f"error: {error}" in said.stderr
    assert "  try: " in said.stderr
