"""What can go wrong between this process and the kernel.

::

    EbpfError
    ├── PrivilegeError      this process may not load eBPF programs
    ├── BtfError            the kernel's type information is absent or cannot be read
    │   └── LayoutError     the kernel has no such struct or field
    ├── BccMissingError     Debian's python3-bpfcc is not installed
    ├── CompileError        the compiling child failed
    ├── CacheError          the folder of the compiled programs cannot be used
    ├── LoadError           the kernel refused a map or a program
    ├── AttachError         the kernel refused a hook; the message names it
    │   └── HookAbsentError the kernel has no such hook
    ├── MachineError        nobody has tried this kind of machine
    └── DeliveryError       everything is attached, and yet a session was not told
"""

from __future__ import annotations


class EbpfError(Exception):
    """Base. ``remedy`` says what to try; ``exit_code`` is what a command ends with (77: no permission)."""

    exit_code = 77

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class PrivilegeError(EbpfError):
    """The capabilities for eBPF are missing."""


class BtfError(EbpfError):
    """The kernel's type information is absent or cannot be read."""


class LayoutError(BtfError):
    """The running kernel has no such struct or field."""


class BccMissingError(EbpfError):
    """Debian's bcc is not installed."""


class CompileError(EbpfError):
    """The child that compiles the programs failed."""


class CacheError(EbpfError):
    """The folder of the compiled programs cannot be written."""

    exit_code = 73


class LoadError(EbpfError):
    """The kernel refused a map or a program."""


class AttachError(EbpfError):
    """The kernel refused to attach a program to its hook."""


class HookAbsentError(AttachError):
    """The running kernel has no such hook."""


class MachineError(EbpfError):
    """The programs and their reader are untried on this kind of machine."""


class DeliveryError(EbpfError):
    """Everything is attached, and yet a session was not told."""
