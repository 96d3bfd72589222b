"""The hooks: what the prefix of a program's name says of how it is loaded, and to what it attaches."""

from __future__ import annotations

from typing import Final, NamedTuple


class HookKind(NamedTuple):
    """One way to attach."""

    prefix: str  # of the program's name; the rest is the hook's
    type_prefix: str  # of the name in the kernel's BTF
    attach_type: int  # enum bpf_attach_type


TRACEPOINT: Final = HookKind("tp_btf__", "btf_trace_", 23)  # BPF_TRACE_RAW_TP
ITERATOR: Final = HookKind("bpf_iter__", "bpf_iter_", 28)  # BPF_TRACE_ITER

TASK_FILE: Final = "bpf_iter__task_file"

OPTIONAL: Final = {
    "tp_btf__sock_recv_length": "who reads is seen a little less often",
    "tp_btf__sock_send_length": "who writes is not seen: a session that was only written to is named late",
}
"""Since Linux 6.3. Program -> what is missing without it."""

STAND_IN: Final = {"tp_btf__tcp_rcv_space_adjust": "tp_btf__sock_recv_length"}
"""Program -> the one whose absence it makes up for; not loaded beside it."""


def kind_of(program: str) -> HookKind:
    """How a program attaches."""
    return ITERATOR if program.startswith(ITERATOR.prefix) else TRACEPOINT


def hook_of(program: str) -> str:
    """The hook of a program, as the kernel names it."""
    return program.removeprefix(kind_of(program).prefix)


def shown(program: str) -> str:
    """A program's hook as people see it: ``tp_btf:tcp_destroy_sock``."""
    return f"{kind_of(program).prefix.rstrip('_')}:{hook_of(program)}"
