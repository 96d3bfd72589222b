"""Which unit and container a control group stands for, and that a process is not taken for another."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.passive.owner import NOBODY, Owner, Owners, Place, place, place_of, started_in_ticks
from ebpf.events import OwnerFacts
from tests.unit.passive.records import Source

ID = "0123456789abcdef" * 4
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

PLACES = {
    "/": ("", ""),
    "": ("", ""),
    "/system.slice/ssh.service": ("ssh.service", ""),
    "ssh.service": ("ssh.service", ""),
    "/system.slice/system-getty.slice/getty@tty1.service": ("getty@tty1.service", ""),
    "/user.slice/user-1000.slice/session-3.scope": ("session-3.scope", ""),
    "/user.slice/user-1000.slice/user@1000.service/app.slice/reader.service": ("reader.service", ""),
    "/user.slice/user-1000.slice/user@1000.service/app.slice/app-7.scope": ("user@1000.service", ""),
    "/user.slice": ("user.slice", ""),
    "/system.slice/nginx.service/workers": ("nginx.service", ""),
    f"/system.slice/docker-{ID}.scope": ("system.slice", ID),
    f"docker-{ID}.scope": ("", ID),
    f"/docker/{ID}": ("", ID),
    f"/docker/{ID}/system.slice/nginx.service": ("nginx.service", ID),
    f"/machine.slice/libpod-{ID}.scope/container": ("machine.slice", ID),
    f"/machine.slice/libpod-conmon-{ID}.scope": (f"libpod-conmon-{ID}.scope", ""),
    f"/libpod_parent/libpod-{ID}": ("", ID),
    f"/user.slice/user-0.slice/user@0.service/user.slice/libpod-{ID}.scope": ("user@0.service", ID),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7_1.slice/crio-{ID}.scope": (
        "kubepods-burstable-pod7_1.slice",
        ID,
    ),
    f"/kubepods.slice/kubepods-pod7_1.slice/cri-containerd-{ID}.scope": ("kubepods-pod7_1.slice", ID),
    f"/kubepods/besteffort/pod5a3c/{ID}": ("", ID),
    f"/system.slice/containerd.service/kubepods-pod7.slice:cri-containerd:{ID}": ("containerd.service", ID),
    f"/default/{ID}": ("", ID),
    f"nerdctl-{ID}.scope": ("", ID),
    "/lxc.payload.pacs": ("", "pacs"),
    "/lxc.payload.pacs/system.slice/orthanc.service": ("orthanc.service", "pacs"),
    "/lxc/pacs/system.slice/orthanc.service": ("orthanc.service", "pacs"),
    "/lxc.payload/pacs": ("", "pacs"),
    "/lxc.monitor.pacs": ("", ""),
    f"/lxc.payload.pacs/docker/{ID}": ("", ID),
    f"/../../docker-{ID}.scope": ("", ID),
    f"/docker/{ID}0": ("", ""),
    f"/docker/{ID[1:]}": ("", ""),
}


@pytest.mark.parametrize("path", PLACES)
def test_places(path: str) -> None:
    assert place(path) == Place(*PLACES[path])


@given(st.text(st.sampled_from("/-.:0af\n\x00é") | st.characters(), max_size=400))
def test_any_text_is_a_place_that_fits_its_columns(path: str) -> None:
    for told in (place(path), place_of(path), place_of(f"0::{path}")):
        assert len(told.unit) <= 255
        assert len(told.container) <= 64


def test_version_2_comes_before_the_hierarchies_of_version_1() -> None:
    older = "9:cpu,cpuacct:/other.service\n1:name=systemd:/system.slice/one.service\n"
    mixed = older + "0::/system.slice/two.service\n"
    assert place_of(mixed) == Place("two.service", "")
    assert place_of(mixed.replace("0::/system.slice/two.service", "0::/")) == Place("one.service", "")
    assert place_of(f"4:memory:/docker/{ID}\n0::/\n") == Place("", ID)


def test_a_start_is_read_past_any_command() -> None:
    fields = " ".join(str(number) for number in range(3, 53))
    assert started_in_ticks(f"7 (a) b (c)) {fields}") == 22
    with pytest.raises(ValueError, match="stat"):
        started_in_ticks("7 (cut")


def own_start_ns() -> int:
    return started_in_ticks(Path("/proc/self/stat").read_text()) * TICK_NS


def test_a_living_process_is_asked_for_its_whole_path() -> None:
    source = Source()
    source.facts[os.getpid(), own_start_ns()] = OwnerFacts(uid=3, executable="/bin/x", cgroup="leaf.service")
    owner = Owners(source).of(os.getpid(), own_start_ns())
    assert owner == Owner("/bin/x", *place_of(Path("/proc/self/cgroup").read_text()), 3)


def fake_proc(folder: Path, pid: int, *, started_ticks: int, cgroup: str) -> Path:
    process = folder / str(pid)
    process.mkdir()
    (process / "stat").write_text(f"{pid} (x) S " + " ".join(["0"] * 18 + [str(started_ticks)] + ["0"] * 30))
    (process / "cgroup").write_text(cgroup)
    return folder


def test_a_process_that_ended_is_told_by_the_kernels_leaf(tmp_path: Path) -> None:
    source = Source()
    source.facts[77, 5 * TICK_NS] = OwnerFacts(uid=3, executable="/bin/x", cgroup="leaf.service")
    assert Owners(source, proc=tmp_path).of(77, 5 * TICK_NS) == Owner("/bin/x", "leaf.service", "", 3)


def test_a_pid_that_was_used_again_is_not_taken_for_its_successor(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path, 77, started_ticks=9, cgroup="0::/system.slice/successor.service\n")
    owners = Owners(Source(), proc=proc)
    assert owners.of(77, 5 * TICK_NS) == NOBODY
    assert owners.of(77, 9 * TICK_NS + TICK_NS - 1) == Owner(unit="successor.service")
    assert owners.of(77, 0) == NOBODY


@pytest.mark.parametrize("stat", ["", "7", "7 (x) S", "7 (x) " + "x " * 30])
def test_rubbish_in_proc_is_nobody(tmp_path: Path, stat: str) -> None:
    proc = fake_proc(tmp_path, 77, started_ticks=9, cgroup="rubbish")
    (proc / "77" / "stat").write_text(stat)
    assert Owners(Source(), proc=proc).of(77, 9 * TICK_NS) == NOBODY


def test_nobody_is_asked_for_no_pid() -> None:
    assert Owners(Source(), proc=Path("/nonexistent")).of(0, time.monotonic_ns()) == NOBODY


def test_the_longest_unused_owner_is_forgotten_first() -> None:
    source = Source()
    owners = Owners(source, proc=Path("/nonexistent"), most=2)
    facts = OwnerFacts(uid=1, executable="/bin/x", cgroup="")
    source.facts = {(pid, 1): facts for pid in (1, 2, 3)}
    for pid in (1, 2, 1, 3):
        owners.of(pid, 1)
    source.facts = {}
    assert [owners.of(pid, 1).uid for pid in (1, 3, 2)] == [1, 1, None]


def test_an_executable_longer_than_its_column_is_cut() -> None:
    source = Source()
    source.facts[1, 1] = OwnerFacts(uid=1, executable="/" + "x" * 300, cgroup="")
    assert len(Owners(source, proc=Path("/nonexistent")).of(1, 1).executable) == 255
