"""Whether this process may load programs, from the text of /proc/PID/status."""

from pathlib import Path

import pytest

from ebpf.capabilities import missing_capabilities, require_capabilities
from ebpf.errors import PrivilegeError

BPF, PERFMON, SYS_ADMIN = 1 << 39, 1 << 38, 1 << 21


@pytest.mark.parametrize(
    ("bits", "missing"),
    [
        (BPF | PERFMON, []),
        (SYS_ADMIN, []),
        (BPF, ["CAP_PERFMON"]),
        (PERFMON, ["CAP_BPF"]),
        (0, ["CAP_BPF", "CAP_PERFMON"]),
    ],
)
def test_what_is_missing(bits: int, missing: list[str]) -> None:
    assert missing_capabilities(f"Name:\tx\nCapPrm:\t{0:016x}\nCapEff:\t{bits:016x}\n") == missing


def test_the_error_says_what_and_what_to_do(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(f"CapEff:\t{BPF:016x}\n")
    with pytest.raises(PrivilegeError, match="lacks CAP_PERFMON") as refused:
        require_capabilities(status)
    assert refused.value.exit_code == 77
    assert "passive" in refused.value.remedy
