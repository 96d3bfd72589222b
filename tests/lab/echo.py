"""Small UDP ends for the lab's tests, run inside a namespace as ``python echo.py ROLE ...``; bounded in time.

``serve SECONDS PORT...`` answers each packet with the address it came from; ``ask HOST PORT...`` sends one
packet to each port from ONE socket and says its own port and the answers; ``listen PORT`` says how many
packets of a burst came and how many nanoseconds apart; ``burst HOST PORT COUNT BYTES`` sends one.
"""

# ruff: noqa: T201  # its standard output is what the test reads

import itertools
import select
import socket
import statistics
import struct
import sys
import time

QUIET_S = 2.0
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it


def serve(seconds, *ports):
    socks = []
    for port in ports:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", int(port)))
        socks.append(sock)
    print("ready", flush=True)
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        for sock in select.select(socks, [], [], 0.2)[0]:
            _, source = sock.recvfrom(2048)
            sock.sendto(f"{source[0]} {source[1]}".encode(), source)


def ask(host, *ports):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 0))
    sock.settimeout(QUIET_S)
    print(sock.getsockname()[1])
    for port in ports:
        sock.sendto(b"?", (host, int(port)))
        try:
            print(sock.recv(2048).decode())
        except TimeoutError:
            print("nothing")


def listen(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # the kernel's clock: this process may wake late
    sock.bind(("", int(port)))
    print("ready", flush=True)
    sock.settimeout(30)
    stamps = []
    while True:
        try:
            _, ((_, _, stamp),), _, _ = sock.recvmsg(2048, 64)
        except TimeoutError:
            break
        seconds, nanoseconds = struct.unpack("qq", stamp)
        stamps.append(seconds * 1_000_000_000 + nanoseconds)
        sock.settimeout(QUIET_S)
    print(len(stamps), spacing_ns(stamps))


def spacing_ns(stamps):
    """From one packet to the next: the median over all pairs (Theil-Sen), which late packets do not bend."""
    pairs = itertools.combinations(enumerate(stamps), 2)
    return round(statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs)) if len(stamps) > 1 else 0


def burst(host, port, count, size):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
    for _ in range(int(count)):
        sock.sendto(bytes(int(size)), (host, int(port)))


if __name__ == "__main__":
    {"serve": serve, "ask": ask, "listen": listen, "burst": burst}[sys.argv[1]](*sys.argv[2:])
