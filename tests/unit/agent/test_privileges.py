"""What is decided about privileges. That the kernel does it: tests/kernel/test_privileges.py."""

import pwd
from pathlib import Path

import pytest

from agent import privileges
from agent.errors import PrivilegesError
from agent.privileges import DYNAMIC_UIDS, account, lacking, require
from agent.standing import CAPABILITIES, Standing, mask, names, standing

STATUS = """Name:\tpathgrade
Uid:\t1000\t1000\t1000\t1000
Gid:\t100\t100\t100\t100
Groups:\t4 24\x20
CapInh:\t0000000000000000
CapPrm:\t000000c000000000
CapEff:\t0000008000000000
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000000
NoNewPrivs:\t1
"""
NOBODY_SPECIAL = Standing(
    uids=(0,) * 4,
    gids=(0,) * 4,
    groups=(),
    permitted=mask(CAPABILITIES),
    effective=mask(CAPABILITIES),
    inheritable=0,
    bounding=mask(CAPABILITIES),
    ambient=0,
    no_new_privs=False,
)


def test_a_status_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    now = standing(tmp_path / "status")
    assert (now.uids, now.gids, now.groups) == ((1000,) * 4, (100,) * 4, (4, 24))
    assert (names(now.permitted), names(now.effective)) == (["cap_perfmon", "cap_bpf"], ["cap_bpf"])
    assert now.may("CAP_BPF")
    assert not now.may("CAP_PERFMON")
    assert now.no_new_privs
    assert str(now) == "uid=1000 gid=100 capabilities=cap_bpf no_new_privs=1"


def test_a_capability_without_a_name_here_is_told_by_number() -> None:
    assert names(1 << 12 | 1 << 39) == ["cap_12", "cap_bpf"]


def test_an_account_is_taken_as_it_is() -> None:
    nobody = pwd.getpwnam("nobody")
    assert account("nobody") == (nobody.pw_uid, nobody.pw_gid, True)


def test_without_an_account_it_is_always_the_same_number_that_nobody_has() -> None:
    found = account("no-such-account")
    assert found == account("no-such-account")
    assert (found.uid, found.exists) == (found.gid, False)
    assert found.uid in DYNAMIC_UIDS


def test_a_number_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first = account("no-such-account").uid
    monkeypatch.setattr(privileges, "_taken", lambda uid: uid == first)
    assert account("no-such-account").uid - first in (1, 1 - len(DYNAMIC_UIDS))


def test_root_is_not_an_account_without_privileges() -> None:
    with pytest.raises(PrivilegesError, match="it is root") as caught:
        account("root")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("mode", "becomes", "held", "missing"),
    [
        ("ebpf", True, set(CAPABILITIES), []),
        ("ebpf", False, {"CAP_BPF", "CAP_PERFMON"}, []),
        ("ebpf", False, {"CAP_BPF"}, ["CAP_PERFMON"]),
        ("ebpf", True, {"CAP_BPF", "CAP_PERFMON"}, ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]),
        ("inet_diag", False, set(), []),
        ("off", False, set(), []),
        ("off", True, set(), ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]),
    ],
)
def test_what_is_missing_is_named_before_anything_is_given_up(
    mode: str, becomes: bool, held: set[str], missing: list[str]
) -> None:
    now = NOBODY_SPECIAL._replace(uids=(0 if becomes else 1000,) * 4, permitted=mask(held))
    assert lacking(mode, now, becomes=becomes) == missing
    if missing:
        with pytest.raises(PrivilegesError, match=" and ".join(missing)) as caught:
            require(mode, now, becomes=becomes)
        assert caught.value.exit_code == 77


def test_root_never_stays() -> None:
    with pytest.raises(PrivilegesError, match="give up root"):
        require("off", NOBODY_SPECIAL, becomes=False)
