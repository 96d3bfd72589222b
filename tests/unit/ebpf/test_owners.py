"""What the kernel kept of a process, and its twin in C."""

import pytest

from ebpf.events import OwnerFacts
from ebpf.owners import OWNER, decode_owner


def kept(*, started_ns: int = 5, uid: int = 1000, cgroup: bytes = b"", executable: bytes = b"") -> bytes:
    return OWNER.pack(started_ns, uid, cgroup, executable)


def test_an_owner_is_told() -> None:
    value = kept(cgroup=b"ssh.service", executable=b"/usr/sbin/sshd")
    assert decode_owner(value, started_ns=5) == OwnerFacts(1000, "/usr/sbin/sshd", "ssh.service")


def test_another_process_with_the_same_pid_is_not_taken_for_it() -> None:
    assert decode_owner(kept(started_ns=6), started_ns=5) is None


def test_what_is_not_known_is_empty() -> None:
    assert decode_owner(kept(), started_ns=5) == OwnerFacts(1000, "", "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"/opt/caf\xc3\xa9/run", "/opt/café/run"),
        (b"/opt/\xff", "/opt/�"),
        (b"/usr/bin/x\0left over of a longer path", "/usr/bin/x"),
        (b"/" + b"x" * 255, "/" + "x" * 255),
    ],
)
def test_a_path_is_text_up_to_its_end(name: bytes, text: str) -> None:
    facts = decode_owner(kept(executable=name), started_ns=5)
    assert facts is not None
    assert facts.executable == text
