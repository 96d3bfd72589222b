"""Records every IPv4 packet that passes one device of a namespace (packet(7)), while the test runs."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.net import NETNS

CLONE_NEWNET = 0x40000000
ETH_P_IP = 0x0800
ETH_P_ALL = 3  # with any other, what leaves is not seen
SO_RCVBUFFORCE = 33
BUFFER = 32 * 1024 * 1024
UDP, TCP, ICMP = 17, 6, 1
LATEST = 1_000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Packet:
    """One IPv4 packet; ports of UDP and TCP only."""

    at_s: float
    protocol: int
    src: str
    dst: str
    src_port: int
    dst_port: int
    payload: bytes  # of UDP; else what follows the IP header
    whole: bytes

    @property
    def ends(self) -> frozenset[str]:
        return frozenset({self.src, self.dst})


def parse(data: bytes, at_s: float) -> Packet:
    header = (data[0] & 15) * 4
    total = struct.unpack_from("!H", data, 2)[0]
    protocol = data[9]
    src, dst = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    rest = data[header:total]
    ports = struct.unpack_from("!HH", rest) if protocol in (UDP, TCP) else (0, 0)
    payload = rest[8:] if protocol == UDP else rest
    return Packet(at_s, protocol, src, dst, *ports, payload, data[:total])


def socket_in(namespace: str, device: str) -> socket.socket:
    """Open a packet socket there: a socket stays in the namespace it was opened in, a thread is soon gone."""
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        handle = os.open(Path(NETNS / namespace), os.O_RDONLY)
        try:
            if _libc.setns(handle, CLONE_NEWNET):
                made.append(OSError(ctypes.get_errno(), f"setns {namespace}"))
                return
            # Without the link header: the lab's cables are TUN devices, which have none.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            sock.bind((device, ETH_P_ALL))
            made.append(sock)
        except OSError as error:
            made.append(error)
        finally:
            os.close(handle)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


@dataclass
class Capture:
    """What was seen so far."""

    packets: list[Packet] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, wanted: Callable[[Packet], bool], *, at_most_s: float, count: int = 1) -> None:
        """Wait until so many packets of a kind came after this call."""
        seen, deadline, begin = 0, time.monotonic() + at_most_s, len(self.packets)
        while True:
            now = len(self.packets)
            seen += sum(wanted(packet) for packet in self.packets[begin:now])
            begin = now
            if seen >= count:
                return
            assert time.monotonic() < deadline, f"{seen} of {count} packets within {at_most_s} s"
            time.sleep(0.005)

    def last(self, wanted: Callable[[Packet], bool]) -> float | None:
        """When the last packet of a kind came, of the latest ones; None if none of them is."""
        return next((packet.at_s for packet in reversed(self.packets[-LATEST:]) if wanted(packet)), None)

    def run(self, sock: socket.socket) -> None:
        sock.settimeout(0.1)
        while not self._ending.is_set():
            try:
                data, (_, protocol, *_) = sock.recvfrom(65_536)
            except TimeoutError:
                continue
            if protocol == ETH_P_IP:
                self.packets.append(parse(data, time.monotonic()))


@contextmanager
def capturing(namespace: str, device: str) -> Iterator[Capture]:
    """Record until the end of the block."""
    capture = Capture()
    with socket_in(namespace, device) as sock:
        thread = threading.Thread(target=capture.run, args=(sock,))
        thread.start()
        try:
            yield capture
        finally:
            capture._ending.set()
            thread.join()


def is_probe(packet: Packet) -> bool:
    """A DTLS record of application data."""
    return packet.protocol == UDP and packet.payload[:1] == b"\x17"
