"""Two ends that talk over TCP and report, for each connection, the TCP_INFO that belongs to its close.

The rule: an end shuts its direction down, waits until the kernel says CLOSE (or the peer resets), and reads
TCP_INFO from the descriptor it still holds. Nothing of its own can change then any more. An end that aborts
loses its descriptor with the abort, so it reads just before, with nothing of its own in flight.

``talk.py serve ADDRESS PORT COUNT`` prints ``ready``; both print one JSON list at the end.
``talk.py connect ADDRESS4 ADDRESS6 PORT COUNT``
"""

import fcntl
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

REQUEST = struct.Struct("!III")  # bytes that follow, bytes wanted back, 1 = read slowly
ABORT = 0xFFFFFFFF
STATE_CLOSE = 7
LIMIT_S = 60 * int(os.environ.get("PATHGRADE_TEST_PATIENCE", "1"))
AT_A_TIME = 60

SLOW_BUFFER, SLOW_READ, SLOW_PAUSE_S = 16_384, 16_384, 0.01
LEAST_BUFFER = 1  # the kernel makes it its least, 4,608: three segments
PIECE, PIECES = 300, 60  # bytes; at a time

CONGESTION = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
"""The kernel's congestion controls: connections take them in turn."""


class Kind(NamedTuple):
    """What one connection does."""

    rounds: int
    up: int  # bytes
    down: int
    aborts: bool = False  # the client ends it with a reset
    server_is_slow: bool = False  # to read: the client is limited by the receiver's window
    client_is_slow: bool = False
    small_buffer: bool = False  # the client is limited by its own, for sending


SHORT = Kind(1, 10, 30)
LONG = Kind(12, 9_000, 40_000)
KINDS = (
    SHORT,
    LONG,
    SHORT._replace(aborts=True),
    SHORT,
    Kind(1, 250_000, 10, server_is_slow=True),
    LONG,
    Kind(1, 60_000, 10, small_buffer=True),
    SHORT,
    Kind(1, 10, 250_000, client_is_slow=True),
    LONG._replace(aborts=True),
    SHORT,
)
"""Connections take these in turn. Their number is odd, so that each kind goes over IPv4 and IPv6."""


def main() -> None:
    command, *arguments = sys.argv[1:]
    reports = {"serve": serve, "connect": connect}[command](*arguments)
    say(json.dumps(reports))


def serve(address: str, port: str, count: str) -> list[dict]:
    # One dual-stack socket: its IPv4 peers have v4-mapped addresses.
    listener = socket.create_server(
        (address, int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
    )
    say("ready")
    reports: list[dict] = []
    threads = []
    for number in range(int(count)):
        accepted, _ = listener.accept()
        set_congestion(accepted, number)
        threads.append(threading.Thread(target=answer, args=(accepted, reports)))
        threads[-1].start()
    for thread in threads:
        thread.join(LIMIT_S)
    return reports


def answer(sock: socket.socket, reports: list[dict]) -> None:
    client = endpoint(sock.getpeername())
    received = sent = 0
    try:
        while request := sock.recv(REQUEST.size, socket.MSG_WAITALL):
            up, down, slowly = REQUEST.unpack(request)
            received += len(request)
            if up == ABORT:
                wait_for_reset(sock)
            received += read_slowly(sock, up) if slowly else read(sock, up)
            sock.sendall(bytes(down))
            sent += down
        sock.shutdown(socket.SHUT_WR)
        wait_for_close(sock)
    except ConnectionResetError:
        pass
    reports.append(report(sock, client=client, sent=sent, received=received))
    sock.close()


def read(sock: socket.socket, size: int) -> int:
    return len(sock.recv(size, socket.MSG_WAITALL)) if size else 0


def read_slowly(sock: socket.socket, size: int) -> int:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    left = size
    while left:
        time.sleep(SLOW_PAUSE_S)
        left -= len(sock.recv(min(left, SLOW_READ)))
    return size


def wait_for_reset(sock: socket.socket) -> None:
    """A reset may get lost; a keepalive, which carries no byte, brings another."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.recv(1)


def connect(address4: str, address6: str, port: str, count: str) -> list[dict]:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        jobs = [pool.submit(call, (address4, address6)[i % 2], int(port), i) for i in range(int(count))]
        return [job.result(LIMIT_S) for job in jobs]


def call(address: str, port: int, number: int) -> dict:
    kind = KINDS[number % len(KINDS)]
    began = time.monotonic_ns()
    sock = socket.create_connection((address, port), timeout=None)
    connect_us = (time.monotonic_ns() - began) // 1000
    set_congestion(sock, number)
    client = endpoint(sock.getsockname())
    sent, received = converse(sock, kind)
    if kind.aborts:
        sock.sendall(REQUEST.pack(ABORT, 0, 0))
        sent += REQUEST.size
        wait_until(lambda: all_is_acked(sock))
    else:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        wait_for_close(sock)
    told = report(sock, client=client, sent=sent, received=received)
    if kind.aborts:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return told | {"aborted": kind.aborts, "connect_us": connect_us}


def converse(sock: socket.socket, kind: Kind) -> tuple[int, int]:
    """Ask and be answered; give the bytes sent and received."""
    for _ in range(kind.rounds):
        sock.sendall(REQUEST.pack(kind.up, kind.down, kind.server_is_slow))
        (send_in_pieces if kind.small_buffer else send)(sock, kind.up)
        assert (read_slowly if kind.client_is_slow else read)(sock, kind.down) == kind.down
    return kind.rounds * (REQUEST.size + kind.up), kind.rounds * kind.down


def send(sock: socket.socket, size: int) -> None:
    sock.sendall(bytes(size))


def send_in_pieces(sock: socket.socket, size: int) -> None:
    """Send from a pipe that keeps what was written to it apart, through the least buffer.

    A sender counts as limited by its buffer where it sends the last it has while its application waits for
    room: when the buffer ran full of pieces that are not sent yet. A segment is of 17 pages at most.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LEAST_BUFFER)
    out, into = os.pipe2(os.O_DIRECT)
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 2 * PIECES * os.sysconf("SC_PAGE_SIZE"))
    for left in range(size, 0, -PIECE * PIECES):
        batch = min(left, PIECE * PIECES)
        for piece in range(batch, 0, -PIECE):
            os.write(into, bytes(min(piece, PIECE)))
        while batch:
            batch -= os.splice(out, sock.fileno(), batch)
    os.close(out)
    os.close(into)


def set_congestion(sock: socket.socket, number: int) -> None:
    name = CONGESTION[number % len(CONGESTION)]
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


def report(sock: socket.socket, *, client: str, sent: int, received: int) -> dict:
    return {
        "client": client,
        "pid": os.getpid(),
        "thread": threading.get_native_id(),
        "info": tcp_info(sock).hex(),
        "congestion": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode(),
        "sent": sent,
        "received": received,
    }


def endpoint(name: tuple) -> str:
    """Address and port: an IPv4 and an IPv6 client may well have the same port."""
    return f"{name[0].removeprefix('::ffff:')} {name[1]}"


def wait_for_close(sock: socket.socket) -> None:
    wait_until(lambda: tcp_info(sock)[0] == STATE_CLOSE)


def wait_until(holds: Callable[[], bool]) -> None:
    """No event tells of these: look again until it is so, with a limit."""
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.005)


def all_is_acked(sock: socket.socket) -> bool:
    """True where nothing is in flight, and nothing waits to be sent (bbr paces)."""
    info = tcp_info(sock)
    unacked, not_sent = (struct.unpack_from("=I", info, at)[0] for at in (24, 144))
    return unacked == not_sent == 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tcp_info(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)


if __name__ == "__main__":
    main()
