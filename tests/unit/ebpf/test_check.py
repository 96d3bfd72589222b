"""What the check makes of a host. That hooks are really tried is shown in tests/kernel/test_monitor.py."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ebpf import check as module
from ebpf.btf import Btf, Field
from ebpf.check import PURPOSES, Finding, fields, finding, judge_ends, lockdown, machine, untried
from ebpf.errors import DeliveryError, LayoutError, LoadError, MachineError, PrivilegeError
from ebpf.events import FORMATS, RECORD, SessionEvent, decode
from ebpf.hooks import OPTIONAL, STAND_IN, hook_of, kind_of, shown

ROOT = Path(__file__).parents[3]


class Kernel(Btf):
    """A kernel with every member and hook but some."""

    def __init__(self, *, lacks: set[str]) -> None:
        self._lacks = lacks

    def field(self, struct_name: str, path: str) -> Field:
        if f"{struct_name}.{path}" in self._lacks:
            raise LayoutError("not this one", remedy="none")
        return Field(0, 0, 8)

    def hook(self, name: str) -> int:
        return 0 if name in self._lacks else 7


def lacking(*programs: str) -> Kernel:
    return Kernel(lacks={kind_of(program).type_prefix + hook_of(program) for program in programs})


def by_program(found: list[Finding]) -> dict[str, Finding]:
    assert [one.name for one in found] == [shown(program) for program in PURPOSES]
    return dict(zip(PURPOSES, found, strict=True))


def test_what_was_asked_is_a_finding() -> None:
    def refuse() -> str:
        raise LoadError("loading the map: no", remedy="ask again")

    assert finding("x", lambda: "y") == Finding("x", True, "y", "")
    assert finding("x", refuse) == Finding("x", False, "loading the map: no", "ask again")


def test_all_missing_members_are_named_at_once() -> None:
    with pytest.raises(
        LayoutError, match=r"lacks task_struct\.start_boottime, tcp_sock\.chrono_type"
    ) as lacks:
        fields(Kernel(lacks={"tcp_sock.chrono_type", "task_struct.start_boottime"}))
    assert "inet_diag" in lacks.value.remedy


def test_members_that_are_there_are_counted() -> None:
    count, _, text = fields(Kernel(lacks=set())).partition(" ")
    assert int(count) > 70
    assert text.startswith("members of 2")


@pytest.mark.parametrize(
    ("modes", "mode"), [("[none] integrity confidentiality\n", "none"), ("none [integrity]\n", "integrity")]
)
def test_lockdown_that_lets_programs_read(tmp_path: Path, modes: str, mode: str) -> None:
    (tmp_path / "lockdown").write_text(modes)
    assert lockdown(tmp_path / "lockdown") == mode
    assert lockdown(tmp_path / "absent") == "none"


def test_lockdown_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "lockdown").write_text("none integrity [confidentiality]\n")
    with pytest.raises(PrivilegeError, match="confidentiality") as locked:
        lockdown(tmp_path / "lockdown")
    assert "lockdown=integrity" in locked.value.remedy


def test_another_machine_is_said_to_be_untried() -> None:
    assert machine("x86_64").endswith(", x86_64")
    with pytest.raises(MachineError, match="aarch64"):
        machine("aarch64")


def test_without_loading_it_is_said_which_hooks_there_are() -> None:
    needed = "tp_btf__tcp_destroy_sock"
    found = by_program(untried(lacking(needed)))
    absent = found.pop(needed)
    assert (absent.ok, absent.seen) == (False, "this kernel has no tp_btf:tcp_destroy_sock")
    assert {(one.ok, one.seen) for one in found.values()} == {(False, "the kernel has it; not tried")}
    assert all(one.remedy for one in (absent, *found.values()))


def test_a_hook_that_can_be_done_without_is_no_fault() -> None:
    """As before Linux 6.3: what it costs is said, and nothing is to be done."""
    found = by_program(untried(lacking(*OPTIONAL, *STAND_IN)))
    for program in OPTIONAL:
        assert found[program].ok
        assert found[program].seen.endswith(OPTIONAL[program])
    assert all(found[program].ok for program in STAND_IN)


def test_without_type_information_nothing_is_known_of_hooks() -> None:
    found = by_program(untried(None))
    assert not any(one.ok for one in found.values())
    assert all("not tried" in one.seen and one.remedy for one in found.values())


def test_one_fault_of_the_host_keeps_everything_from_being_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def locked() -> str:
        raise PrivilegeError("no", remedy="yes")

    monkeypatch.setattr(module, "_HOST", {"kernel": lambda: "this one", "lockdown": locked})
    first, second, *hooks = module.check(tmp_path / "never-made")
    assert (first.ok, second.ok) == (True, False)
    assert [one.name for one in hooks] == [shown(program) for program in PURPOSES]
    assert not (tmp_path / "never-made").exists()


def end(pid: int) -> SessionEvent:
    empty = {name: b"" if code.endswith("s") else 0 for name, code in FORMATS.items()}
    (event,) = decode(RECORD.pack(*(empty | {"pid": pid}).values()))
    return event


def test_a_session_is_judged_by_both_its_ends() -> None:
    me = os.getpid()
    assert "both ends told" in judge_ends([end(me), end(me)])
    for ends in ([], [end(me)], [end(me), end(0)], [end(me), end(me), end(me)]):
        with pytest.raises(DeliveryError, match=f"{len(ends)} of 2 ends") as wrong:
            judge_ends(ends)
        assert wrong.value.remedy


def test_without_privileges_it_still_tells_what_it_can(tmp_path: Path) -> None:
    """A process that has no capability at all, in fact."""
    code = (
        "import sys; from pathlib import Path; import msgspec; from ebpf.check import check\n"
        "sys.stdout.buffer.write(msgspec.json.encode(check(Path(sys.argv[1]))))"
    )
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*drop, sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    found = {one.name: one for one in msgspec.json.decode(done.stdout, type=list[Finding])}
    assert not found["capabilities"].ok
    assert "CAP_BPF and CAP_PERFMON" in found["capabilities"].seen
    assert found["compiler"].ok
    assert {shown(program) for program in PURPOSES} < set(found)
    assert list(tmp_path.iterdir()) == []
