"""Capture at one device, stamped by the kernel: ``python -m benches.capture DEVICE``, in its namespace.

Prints "ready", waits until its standard input ends, and only then takes what came: until then it asks for no
CPU, so it disturbs nobody. What it prints is a ``Captured`` in msgpack.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from benches.errors import PartError
from benches.net import inside
from benches.wire_truth import Seen

# asm-generic/socket.h, linux/if_packet.h, linux/if_ether.h: the socket module has no names for these.
SO_RCVBUFFORCE: Final = 33
SO_TIMESTAMPNS: Final = 35
SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
PACKET_OUTGOING: Final = 4
ETH_P_ALL: Final = 3
ETH_P_IP: Final = 0x0800

BUFFER_BYTES: Final = 128 * 1024 * 1024  # 40,000 packets, with what the kernel keeps of each
SNAP_BYTES: Final = 256
START_S: Final = 10
END_S: Final = 30
_STAMP: Final = struct.Struct("@qq")


class Captured(msgspec.Struct, frozen=True, array_like=True):
    """All that passed; ``dropped`` found no room."""

    seen: list[Seen]
    dropped: int


class Capture:
    """A capture that runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it is ready. Raises ``PartError``."""
        self._process = process
        assert process.stdout
        readable, _, _ = select.select([process.stdout], [], [], START_S)
        if not readable or process.stdout.readline() != b"ready\n":
            raise PartError("a capture did not start", remedy="its last words stand above")

    def end(self) -> list[Seen]:
        """End it; gives what passed. Raises ``PartError``."""
        try:
            told, _ = self._process.communicate(timeout=END_S)
            captured = msgspec.msgpack.decode(told, type=Captured)
        except (subprocess.TimeoutExpired, msgspec.DecodeError) as error:
            raise PartError(f"a capture did not end well: {error}", remedy="run the bench again") from error
        if captured.dropped:
            raise PartError(f"a capture dropped {captured.dropped} packets", remedy="run the bench again")
        return captured.seen


@contextmanager
def capture(node: str, device: str) -> Iterator[Capture]:
    """Capture at a device; gone afterwards, whatever happens. Raises ``PartError``."""
    command = inside(node, [sys.executable, "-m", "benches.capture", device])
    path = str(Path(__file__).parents[1])
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    ) as process:
        try:
            yield Capture(process)
        finally:
            process.kill()


def main() -> None:
    """Be the capture that the command line names."""
    with _opened(sys.argv[1]) as sock:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.buffer.read()
        seen = list(_waiting(sock))
        _, dropped = struct.unpack("@II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    sys.stdout.buffer.write(msgspec.msgpack.encode(Captured(seen, dropped)))


def _opened(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setblocking(False)
    sock.bind((device, ETH_P_ALL))
    return sock


def _waiting(sock: socket.socket) -> Iterator[Seen]:
    """Take all IPv4 packets that wait."""
    while True:
        try:
            packet, ancillary, _, address = sock.recvmsg(SNAP_BYTES, 64)
        except BlockingIOError:
            return
        if address[1] == ETH_P_IP:
            seconds, nanoseconds = _STAMP.unpack(ancillary[0][2])
            yield Seen(seconds * 1_000_000_000 + nanoseconds, address[2] == PACKET_OUTGOING, packet)


if __name__ == "__main__":
    main()
