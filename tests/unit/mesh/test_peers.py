"""Keys pinned at the first meeting, and anchors."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from agent.errors import ConfigError, FolderError, PeerUnknownError, TrustError
from agent.identity import create
from agent.mesh import peers
from agent.mesh.peers import FILE_NAME, KnownPeers, load_anchors
from analytics.trust import key_text

A, B, C = (create(name) for name in "abc")


def test_the_first_key_is_pinned_and_no_other_taken(tmp_path: Path) -> None:
    known = KnownPeers(tmp_path)
    known.check("b", B.public_key, now_us=7)
    known.check("b", B.public_key, now_us=8)
    for reader in (known, KnownPeers(tmp_path)):  # also after a restart
        with pytest.raises(TrustError, match="pathgrade agent peers forget b") as caught:
            reader.check("b", C.public_key, now_us=9)
        assert caught.value.reason == "identity-changed"
    assert known.listed() == {"b": peers.Peer(key=key_text(B.public_key), first_met_us=7)}
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_the_command_forgets_a_running_agent_has_forgotten(tmp_path: Path) -> None:
    running = KnownPeers(tmp_path)
    running.check("b", B.public_key, now_us=1)
    KnownPeers(tmp_path).forget("b")
    running.check("b", C.public_key, now_us=2)
    with pytest.raises(TrustError):
        running.check("b", B.public_key, now_us=3)
    with pytest.raises(PeerUnknownError):
        running.forget("never met")


def test_an_anchor_comes_before_the_first_meeting(tmp_path: Path) -> None:
    file = tmp_path / "anchors.toml"
    file.write_text(f"# brought here by hand\n{B.anchor}\n")
    known = KnownPeers(tmp_path, load_anchors(file))
    known.check("b", B.public_key, now_us=1)
    assert known.listed() == {}
    with pytest.raises(TrustError, match="identity_anchors") as caught:
        known.check("b", C.public_key, now_us=1)
    assert caught.value.reason == "not-anchored"
    known.check("c", C.public_key, now_us=1)  # not named in it: as without


@pytest.mark.parametrize(
    "text", ["b = 1", 'b = "ed25519:AAAA"', "b", '"no/name" = "ed25519:AAAA"', 'b = "ssh-rsa AAAA"']
)
def test_an_anchors_file_that_does_not_hold_is_one_clear_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "anchors.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="identity_anchors") as caught:
        load_anchors(file)
    assert caught.value.remedy
    with pytest.raises(ConfigError):
        load_anchors(tmp_path / "not there")


def test_nothing_is_pushed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_PEERS", 2)
    known = KnownPeers(tmp_path)
    known.check("a", A.public_key, now_us=1)
    known.check("b", B.public_key, now_us=1)
    with pytest.raises(TrustError) as caught:
        known.check("c", C.public_key, now_us=1)
    assert caught.value.reason == "too-many-peers"
    assert list(known.listed()) == ["a", "b"]
    known.check("a", A.public_key, now_us=1)


@pytest.mark.parametrize("damage", [b"", b"{}x", b'{"version":2,"peers":{}}', b"\xff", b'{"peers":{"b":1}}'])
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, damage: bytes) -> None:
    known = KnownPeers(tmp_path)
    known.check("b", B.public_key, now_us=1)
    (tmp_path / FILE_NAME).write_bytes(damage)
    with pytest.raises(FolderError, match="damaged") as caught:
        known.check("b", B.public_key, now_us=1)
    assert "backup" in caught.value.remedy
    assert (tmp_path / FILE_NAME).read_bytes() == damage


def test_a_crash_before_the_rename_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownPeers(tmp_path)
    known.check("b", B.public_key, now_us=1)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FolderError, match="No space left"):
        known.check("c", C.public_key, now_us=1)
    assert list(KnownPeers(tmp_path).listed()) == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_two_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    def meet(kind: str) -> None:
        known = KnownPeers(tmp_path)
        for number in range(20):
            known.check(f"{kind}{number}", B.public_key, now_us=1)

    threads = [threading.Thread(target=meet, args=(kind,)) for kind in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(KnownPeers(tmp_path).listed()) == 60


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else's folder")
def test_what_root_forgets_stays_the_agents_file(tmp_path: Path) -> None:
    known = KnownPeers(tmp_path)
    known.check("b", B.public_key, now_us=1)
    os.chown(tmp_path, 61_500, 61_500)
    known.forget("b")
    status = (tmp_path / FILE_NAME).stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (61_500, 61_500, 0o600)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FolderError):
        KnownPeers(tmp_path / "elsewhere").listed()
