"""Names of programs and what they say; they stand in the C sources and in three tables."""

import re
from pathlib import Path

import pytest

from ebpf.check import PURPOSES
from ebpf.compile import PROGRAMS, SUBJECTS
from ebpf.hooks import ITERATOR, OPTIONAL, STAND_IN, TASK_FILE, TRACEPOINT, hook_of, kind_of, shown
from ebpf.objects import possible_cpus


def in_the_sources() -> set[str]:
    text = "".join((PROGRAMS / f"{subject}.bpf.c").read_text() for subject in SUBJECTS)
    iterators = {f"bpf_iter__{name}" for name in re.findall(r"^BPF_ITER\((\w+)\)", text, re.MULTILINE)}
    return iterators | set(re.findall(r"^int (\w+)\(u64 \*ctx\)", text, re.MULTILINE))


def test_every_program_has_a_purpose() -> None:
    assert set(PURPOSES) == in_the_sources()


def test_what_can_be_done_without_exists() -> None:
    assert set(OPTIONAL) | set(STAND_IN) | set(STAND_IN.values()) | {TASK_FILE} <= in_the_sources()
    assert set(STAND_IN.values()) <= set(OPTIONAL)


@pytest.mark.parametrize(
    ("program", "kind", "hook", "text"),
    [
        ("tp_btf__tcp_destroy_sock", TRACEPOINT, "tcp_destroy_sock", "tp_btf:tcp_destroy_sock"),
        ("bpf_iter__task_file", ITERATOR, "task_file", "bpf_iter:task_file"),
    ],
)
def test_a_name_says_how_to_attach(program: str, kind: object, hook: str, text: str) -> None:
    assert kind_of(program) is kind
    assert (hook_of(program), shown(program)) == (hook, text)


@pytest.mark.parametrize(("text", "count"), [("0-7\n", 8), ("0\n", 1), ("0,2-5\n", 6), ("0-1,8\n", 9)])
def test_per_cpu_maps_have_room_for_every_possible_cpu(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "possible").write_text(text)
    assert possible_cpus(tmp_path / "possible") == count
