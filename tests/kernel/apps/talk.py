"""Two ends that talk over TCP and report, for each connection, the TCP_INFO that belongs to its close.

The rule: an end shuts its direction down, waits until the kernel says CLOSE (or the peer resets), and reads
TCP_INFO from the descriptor it still holds. Nothing of its own can change then any more. An end that aborts
loses its descriptor with the abort, so it reads just before, with nothing of its own in flight.

``talk.py serve ADDRESS PORT COUNT`` prints ``ready``; both print one JSON list at the end.
``talk.py connect ADDRESS4 ADDRESS6 PORT COUNT``
"""

import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

REQUEST = struct.Struct("!II")  # bytes that follow, bytes wanted back
ABORT = 0xFFFFFFFF
STATE_CLOSE = 7
LIMIT_S = 20
SHORT, LONG = (1, 10, 30), (12, 9_000, 40_000)  # rounds, bytes up, bytes down


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
    for _ in range(int(count)):
        accepted, _ = listener.accept()
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
            up, down = REQUEST.unpack(request)
            received += len(request)
            if up == ABORT:
                wait_for_reset(sock)
            received += len(sock.recv(up, socket.MSG_WAITALL)) if up else 0
            sock.sendall(bytes(down))
            sent += down
        sock.shutdown(socket.SHUT_WR)
        wait_for_close(sock)
    except ConnectionResetError:
        pass
    reports.append(report(sock, client=client, sent=sent, received=received))
    sock.close()


def wait_for_reset(sock: socket.socket) -> None:
    """A reset may get lost; a keepalive, which carries no byte, brings another."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.recv(1)


def connect(address4: str, address6: str, port: str, count: str) -> list[dict]:
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(call, (address4, address6)[i % 2], int(port), i) for i in range(int(count))]
        return [job.result(LIMIT_S) for job in jobs]


def call(address: str, port: int, number: int) -> dict:
    began = time.monotonic_ns()
    sock = socket.create_connection((address, port), timeout=None)
    connect_us = (time.monotonic_ns() - began) // 1000
    rounds, up, down = LONG if number % 3 == 0 else SHORT
    client = endpoint(sock.getsockname())
    for _ in range(rounds):
        sock.sendall(REQUEST.pack(up, down) + bytes(up))
        assert len(sock.recv(down, socket.MSG_WAITALL)) == down
    sent, received = rounds * (REQUEST.size + up), rounds * down
    aborts = number % 5 == 0
    if aborts:
        sock.sendall(REQUEST.pack(ABORT, 0))
        sent += REQUEST.size
        wait_until(lambda: not unacked(sock))
    else:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        wait_for_close(sock)
    told = report(sock, client=client, sent=sent, received=received)
    if aborts:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return told | {"aborted": aborts, "connect_us": connect_us}


def report(sock: socket.socket, *, client: str, sent: int, received: int) -> dict:
    return {
        "client": client,
        "pid": os.getpid(),
        "info": tcp_info(sock).hex(),
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
        time.sleep(0.002)


def unacked(sock: socket.socket) -> int:
    return struct.unpack_from("=I", tcp_info(sock), 24)[0]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tcp_info(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)


if __name__ == "__main__":
    main()
