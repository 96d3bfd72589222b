"""What is generated for the packages, and what goes into them."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack import requirements
from pack.errors import PackError
from pack.found import Findings, capabilities_of, drawn, left_over, parts_of
from pack.package import PACKAGES, RELEASES, checksums, control, file_name, script
from pack.try_ansible import counted
from pack.wheels import absent

ROOT = Path(__file__).parents[3]
HERE = ROOT / "scripts/packaging"
PYPROJECT = (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("release", RELEASES.values(), ids=str)
@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
def test_control(package, release) -> None:
    made = control(package, version="0.1.0", release=release, architecture="amd64", size_kb=12)
    fields = dict(re.findall(r"^([A-Z][\w-]+): (.+)$", made, re.MULTILINE))
    assert fields["Package"] == package.name
    assert fields["Version"] == f"0.1.0+deb{release.number}"
    assert f"python3 (<< 3.{release.python[1] + 1})" in fields["Depends"]
    assert ("python3-bpfcc" in fields["Depends"]) == (package.part == "agent")
    assert all(line.startswith(" ") for line in made.partition("Description:")[2].splitlines()[1:])
    assert (
        file_name(package, "0.1.0", release, "amd64") == f"{package.name}_0.1.0+deb{release.number}_amd64.deb"
    )


@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
def test_every_file_of_a_package_is_there(package) -> None:
    assert [source for source, _, _ in package.files if not (HERE / source).is_file()] == []
    targets = {target for _, target, _ in package.files}
    assert set(package.conffiles) <= targets
    assert f"/usr/lib/systemd/system/{package.unit}" in targets


@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_holds(package, name: str) -> None:
    template = f"{package.part}.postrm" if name == "postrm" else name
    made = script((HERE / "debian" / template).read_text(), package)
    assert "@" not in made
    assert made.startswith("#!/bin/sh\nset -e\n")
    subprocess.run(["sh", "-n"], input=made, text=True, check=True)


def test_remove_keeps_what_was_measured_and_purge_does_not() -> None:
    for part, folders in {
        "agent": ["/var/lib/pathgrade-agent"],
        "server": ["/var/lib/private/pathgrade"],
    }.items():
        purge = (HERE / f"debian/{part}.postrm").read_text().partition('"$1" = purge')
        for folder in folders:
            assert f"rm -rf {folder}\n" in purge[2]
            assert folder not in purge[0] + (HERE / "debian/prerm").read_text()


def test_the_agent_imports_what_its_package_has() -> None:
    """All of the agent and of the commands' help, in a process that has loaded nothing before."""
    program = (
        "import sys, importlib, pkgutil, agent, ebpf, pathgrade\n"
        "for package in (agent, ebpf):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "pathgrade.command_line()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    owners = importlib.metadata.packages_distributions()
    loaded = {owner.lower() for module in done.stdout.split() for owner in owners.get(module, [])}
    brought = closure(requirements.AGENT) - set(requirements.LEFT_OUT)
    assert loaded - brought - {"pathgrade", "setuptools"} == set()
    assert loaded >= requirements.AGENT - {"pathgrade"}


def closure(names) -> set[str]:
    """Follow what libraries ask for, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower()
        if name in found:
            continue
        found.add(name)
        asked = importlib.metadata.requires(name) or []
        waiting += [requirements.name_of(one) for one in asked if "extra ==" not in one and installed(one)]
    return {re.sub(r"[-_.]+", "-", name) for name in found} | found


def installed(requirement: str) -> bool:
    try:
        importlib.metadata.version(requirements.name_of(requirement))
    except importlib.metadata.PackageNotFoundError:
        return False  # of another platform
    return True


def test_the_agents_package_has_no_engine() -> None:
    named = {requirements.name_of(one) for one in requirements.agents_of(PYPROJECT)}
    assert named == requirements.AGENT
    assert not named & {"duckdb", "pyarrow", "fastapi", "sqlalchemy", "uvicorn"}
    assert len(requirements.all_of(PYPROJECT)) > len(named)


def test_a_requirement_that_is_gone_is_told() -> None:
    without = re.sub(r'(?m)^\s+"scapy.*$', "", PYPROJECT)
    with pytest.raises(PackError, match="scapy"):
        requirements.agents_of(without)


def test_another_version() -> None:
    assert requirements.version_of(requirements.renumbered(PYPROJECT, "9.8.7")) == "9.8.7"
    with pytest.raises(PackError, match="no version"):
        requirements.renumbered("[project]\n", "1")


def test_checksums_are_sorted_and_without_a_slash() -> None:
    assert checksums({"/usr/b": "2", "/etc/a": "1"}) == "1  etc/a\n2  usr/b\n"


@given(st.sets(st.sampled_from(["/a", "/a/b", "/c/d", "/var/log/x", "/run/y", "/etc/passwd"])))
def test_what_is_left_is_new_and_nobody_elses(after: set[str]) -> None:
    left = left_over({"/a"}, after)
    assert set(left) <= after - {"/a"}
    assert not any(path.startswith(("/var/log", "/run")) for path in left)


def test_what_a_process_may_is_read_from_the_kernel() -> None:
    status = capabilities_of(Path("/proc/self/status").read_text())
    assert set(status) == {"CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb", "Uid", "NoNewPrivs", "Seccomp"}


def test_the_table_says_what_is_not_as_expected() -> None:
    findings = Findings()
    assert not findings.all_ok
    findings.add("install", "active", "active", True, 3.2)
    findings.add("purge", "nothing left", "/etc/x", False, 61.0)
    assert not findings.all_ok
    assert drawn(findings.rows).splitlines()[2].split() == [
        "NO",
        "61",
        "s",
        "purge",
        "nothing",
        "left",
        "/etc/x",
    ]


def test_a_wheel_without_a_file_of_the_sources_is_no_wheel(tmp_path: Path) -> None:
    """Templates, programs in C, rules: what pip does not need, pathgrade does."""
    for name in ("server/templates/page.html", "ebpf/programs/a.bpf.c", "server/app.py", "server/app.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = ["server/app.py", "pathgrade-1.dist-info/licenses/LICENSE", "ebpf/programs/a.bpf.c"]
    assert absent(names, tmp_path) == ["server/templates/page.html"]
    assert absent(names[:1], tmp_path)[:2] == ["LICENSE", "ebpf/programs/a.bpf.c"]


def test_the_parts_of_the_first_path_are_read_from_the_servers_journal() -> None:
    journal = (
        "1000.5 server pathgrade[83]: 2026-11-26T02:45:47.863Z INFO pathgrade.server ready \n"
        "1010.0 server pathgrade[83]: INFO signalling agent online name=server site=server\n"
        "1020.0 server pathgrade[83]: INFO signalling agent online name=clinic site=clinic\n"
        "1022.0 server pathgrade[83]: INFO cycles cycle started cycle=1 agents=2 pairs=1\n"
        "1322.0 server pathgrade[83]: INFO cycles cycle started cycle=2 agents=2 pairs=1\n"
    )
    assert parts_of(journal, 1000.0) == "server ready 0.5 s, second agent on line 20.0 s, test begins 22.0 s"


def test_ansibles_recap_is_read() -> None:
    said = (
        "TASK [x] ***\nok: [server]\n\nPLAY RECAP ****\n"
        "clinic                     : ok=5    changed=2    unreachable=0    failed=0    skipped=0\n"
        "server                     : ok=9    changed=0    unreachable=0    failed=0    skipped=1\n"
    )
    assert {host: count["changed"] for host, count in counted(said).items()} == {"clinic": 2, "server": 0}
