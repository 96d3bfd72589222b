"""The data folder: one agent's, and a slip in the configuration gives nothing away. As any user."""

import os
from pathlib import Path

import pytest

from agent import folder
from agent.errors import FolderError

ME, MINE = os.geteuid(), os.getegid()
SOMEBODY = 61_184


def test_it_is_made_private_and_held_by_one(tmp_path: Path) -> None:
    data = tmp_path / "a" / "data"
    with folder.exclusive(data):
        assert data.stat().st_mode & 0o777 == 0o700
        with pytest.raises(FolderError, match="another agent holds it"), folder.exclusive(data):
            pass
    with folder.exclusive(data):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "of somebody else"
    (tmp_path / folder.LOCK_NAME).symlink_to(target)
    with pytest.raises(FolderError), folder.exclusive(tmp_path):
        pass
    assert not target.exists()


def test_a_folder_with_other_things_in_it_is_not_given_away(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / folder.LOCK_NAME).touch()
    with pytest.raises(FolderError, match=r"not the agent's \(lib\)") as caught:
        folder.hand_over(tmp_path, uid=SOMEBODY, gid=SOMEBODY)
    assert caught.value.remedy
    assert tmp_path.stat().st_uid == ME


def test_what_is_the_users_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()  # whatever it is: nothing needs to be given
    folder.hand_over(tmp_path, uid=ME, gid=MINE)


@pytest.mark.parametrize(
    "name",
    ["agent.lock", "agent.sock", "identity.pem", "identity.tmp", "credential.json.tmp", "outbox", "cache"],
)
def test_what_an_agent_writes_is_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert folder.strangers(tmp_path) == []


def test_the_folder_that_is_in_the_way_is_named(open_folder: Path) -> None:
    private = open_folder / "private"
    (private / "data").mkdir(parents=True)
    private.chmod(0o700)
    assert folder.closed_parent(private / "data", uid=SOMEBODY, gid=SOMEBODY) == private
    assert folder.closed_parent(Path("/usr/lib/none/data"), uid=SOMEBODY, gid=SOMEBODY) is None


def test_the_first_class_that_fits_decides(open_folder: Path) -> None:
    open_folder.chmod(0o701)  # the group may not, though others may
    data = open_folder / "data"
    assert folder.closed_parent(data, uid=SOMEBODY, gid=MINE) == open_folder
    assert folder.closed_parent(data, uid=SOMEBODY, gid=SOMEBODY) is None
    open_folder.chmod(0o100)
    assert folder.closed_parent(data, uid=ME, gid=MINE) is None


def test_a_folder_that_can_be_used_is_not_argued_about(tmp_path: Path) -> None:
    folder.require_usable(tmp_path, uid=ME, gid=MINE)
    with pytest.raises(FolderError, match="cannot write it"):  # there is none: nobody can
        folder.require_usable(Path("/usr/lib/none"), uid=SOMEBODY, gid=SOMEBODY)
