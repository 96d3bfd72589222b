"""Compiled programs on disk."""

from pathlib import Path

import pytest

from ebpf import compiled
from ebpf.compile import PROGRAMS as PROGRAMS_FOLDER
from ebpf.compile import SUBJECTS, find_bcc, main, map_references
from ebpf.compiled import MapSpec, Programs, ProgramSpec
from ebpf.errors import BccMissingError, CacheError
from ebpf.objects import with_maps

PROGRAMS = Programs(
    key="abc",
    maps=(MapSpec("events", 27, 0, 0, 4096, 0),),
    programs=(ProgramSpec("tp_btf__x", 38238, b"\x18\x11\0\0\x07\0\0\0" + bytes(8), ((0, 0),)),),
)


def test_they_come_back_as_they_went(tmp_path: Path) -> None:
    path = tmp_path / "programs"
    compiled.write(path, PROGRAMS)
    assert compiled.read(path) == PROGRAMS
    assert [file.name for file in tmp_path.iterdir()] == ["programs"]


def test_one_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "programs"
    compiled.write(path, PROGRAMS)
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        assert compiled.read(path) is None


def test_none_where_there_is_no_file(tmp_path: Path) -> None:
    assert compiled.read(tmp_path / "programs") is None


def test_the_key_follows_kernel_and_compiler() -> None:
    keys = {
        compiled.key_of(btf_digest=btf, bcc_version=version) for btf in (b"1", b"2") for version in ("1", "2")
    }
    assert len(keys) == 4


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CacheError, match=f"{tmp_path}/file/cache") as refused,
        compiled.one_at_a_time(tmp_path / "file" / "cache"),
    ):
        pass
    assert "folder" in refused.value.remedy


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_programs_that_others_may_have_written_are_not_loaded(tmp_path: Path, mode: int) -> None:
    path = tmp_path / compiled.FILE_NAME
    compiled.write(path, PROGRAMS)
    path.chmod(mode)
    assert compiled.read(path) is None


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(CacheError, match="others may write there"), compiled.one_at_a_time(tmp_path):
        pass


def test_the_lock_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / f"{compiled.FILE_NAME}.lock").symlink_to(target)
    with pytest.raises(CacheError), compiled.one_at_a_time(tmp_path):
        pass
    assert target.read_text() == "kept"


def test_map_descriptors_are_found_and_replaced() -> None:
    other = b"\xb7\x01\0\0\x07\0\0\0"
    load_map = b"\x18\x11\0\0\x07\0\0\0" + bytes(8)
    code = other + load_map + other
    assert map_references(code, {7: 2}) == [(8, 2)]
    assert with_maps(code, ((8, 2),), [30, 31, 32]) == other + load_map.replace(b"\x07", b"\x20") + other


def test_bcc_is_found_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "version.py").write_text("__version__ = '0.26.0'\n")
    assert find_bcc(tmp_path) == (tmp_path / "bcc", "0.26.0")


def test_a_missing_bcc_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(BccMissingError, match=str(tmp_path)) as missing:
        find_bcc(tmp_path)
    assert "apt install python3-bpfcc" in missing.value.remedy
    assert missing.value.exit_code == 77


def test_the_compiler_wants_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert "usage" in capsys.readouterr().err


def test_every_source_of_the_programs_is_compiled() -> None:
    """One that is forgotten would be in the key, and nowhere else."""
    there = {path.name.removesuffix(".bpf.c") for path in PROGRAMS_FOLDER.glob("*.bpf.c")}
    assert there == set(SUBJECTS)
