"""Sessions whose truth is known, because their ends tell it: ``workload.py SHORT LONG LASTS_S``.

Servers of three kinds (a thread a session; a forked child a session; workers forked before that share a
listener), clients of two (a thread a session; a forked child a session), over IPv4 and IPv6. A short session
is one request and its reply; a long one lasts all the time. Prints a JSON list of
[[local, local port, remote, remote port], pid, bytes sent, bytes received], one an end.

Stands alone: it imports nothing of pathgrade.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, NoReturn

REQUEST: Final = struct.Struct("!II")  # bytes that follow, bytes wanted back
ADDRESSES: Final = ("127.0.0.1", "::1", "127.0.0.1")  # of the servers, in order of their kinds
WORKERS: Final = 3
ROUND_S: Final = 0.1
LIMIT_S: Final = 60
PR_SET_PDEATHSIG: Final = 1

Job = Callable[[], None]
Starter = Callable[[Job], Callable[[], object]]


class Plan(NamedTuple):
    """What the command line asks for, and the pipe that truths are told into."""

    short: int
    long: int
    lasts_s: float
    tell: int


def main() -> None:
    """Run it all; the process ends its servers when every end has told its truth."""
    truths, tell = os.pipe()
    plan = Plan(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), tell)
    signal.alarm(LIMIT_S)
    listeners = [_listen(address) for address in ADDRESSES]
    servers = [_fork(partial(_serve, *kind, tell)) for kind in _kinds(listeners)]
    for turn, start in enumerate((in_thread, in_child)):
        _fork(partial(_call_all, listeners, start, turn, plan))
    os.close(tell)
    told = _lines(truths, 2 * (plan.short + plan.long))
    for server in servers:
        os.kill(server, signal.SIGKILL)
    print(json.dumps([json.loads(line) for line in told]))


def _kinds(listeners: list[socket.socket]) -> list[tuple[socket.socket, Starter]]:
    """List the servers: what each accepts from, and how it takes a session."""
    threads, children, shared = listeners
    return [(threads, in_thread), (children, in_child), *[(shared, at_once)] * WORKERS]


def in_thread(job: Job) -> Callable[[], object]:
    """Run a job in a thread; returns what waits for it."""
    thread = threading.Thread(target=job)
    thread.start()
    return thread.join


def in_child(job: Job) -> Callable[[], object]:
    """Run a job in a forked child; returns what waits for it."""
    child = _fork(job)
    return lambda: os.waitpid(child, 0)


def at_once(job: Job) -> Callable[[], object]:
    """Run a job here and now."""
    job()
    return int


def _fork(job: Job) -> int:
    """Run a job in a child that does not outlive this process."""
    child = os.fork()
    if child:
        return child
    _run_child(job)


def _run_child(job: Job) -> NoReturn:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    code = 1
    try:
        job()
        code = 0
    finally:
        os._exit(code)


def _listen(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family, backlog=256)


def _serve(listener: socket.socket, start: Starter, tell: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    while True:
        accepted, _ = listener.accept()
        start(partial(_answer, accepted, tell))
        if start is in_child:
            accepted.close()


def _answer(sock: socket.socket, tell: int) -> None:
    sent = received = 0
    while request := sock.recv(REQUEST.size, socket.MSG_WAITALL):
        up, down = REQUEST.unpack(request)
        received += len(request) + len(sock.recv(up, socket.MSG_WAITALL))
        sock.sendall(bytes(down))
        sent += down
    _tell(sock, sent, received, tell)


def _call_all(listeners: list[socket.socket], start: Starter, turn: int, plan: Plan) -> None:
    """Make every second session, from ``turn`` on: first the long ones; the short ones take their time."""
    ends = []
    for number in range(turn, plan.long + plan.short, 2):
        is_long = number < plan.long
        # Workers take one session at a time: long ones would hold the others up.
        server = number // 2 % 2 if is_long else number % len(listeners)
        rounds = int(plan.lasts_s / ROUND_S) if is_long else 1
        ends.append(start(partial(_call, listeners[server].getsockname()[:2], number, rounds, plan.tell)))
        time.sleep(0 if is_long else 2 * plan.lasts_s / plan.short)
    for wait in ends:
        wait()


def _call(name: tuple[str, int], number: int, rounds: int, tell: int) -> None:
    up, down = 1 + 37 * (number % 23), 1 + 997 * (number % 31)  # no two sessions in a row alike
    sock = socket.create_connection(name)
    for turn in range(rounds):
        if turn:
            time.sleep(ROUND_S)
        sock.sendall(REQUEST.pack(up, down) + bytes(up))
        assert len(sock.recv(down, socket.MSG_WAITALL)) == down
    _tell(sock, rounds * (REQUEST.size + up), rounds * down, tell)


def _tell(sock: socket.socket, sent: int, received: int, tell: int) -> None:
    """Close an end and tell its truth, in one write: lines of many processes do not mix."""
    end = [*sock.getsockname()[:2], *sock.getpeername()[:2]]
    sock.close()
    os.write(tell, json.dumps([end, os.getpid(), sent, received]).encode() + b"\n")


def _lines(pipe: int, count: int) -> list[str]:
    with os.fdopen(pipe) as file:
        return [file.readline() for _ in range(count)]


if __name__ == "__main__":
    main()
