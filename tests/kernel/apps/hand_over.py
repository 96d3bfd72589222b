"""A server that accepts, may read, and hands the socket to another process: ``hand_over.py PORT BYTES``.

The parent reads BYTES of the question first (0: none) and passes the descriptor over SCM_RIGHTS to a process
that is no child of the accept: it was forked before. That one reads the rest, answers "answer", and closes.

Prints ``ready``, then the pid of the process that answered.
"""

import os
import socket
import sys

QUESTION = b"question"


def main() -> None:
    port, taken = map(int, sys.argv[1:])
    ours, theirs = socket.socketpair()
    worker = os.fork()
    if worker == 0:
        ours.close()
        answer(theirs, len(QUESTION) - taken)
        os._exit(0)
    theirs.close()
    listener = socket.create_server(("127.0.0.1", port))
    say("ready")
    accepted, _ = listener.accept()
    accepted.recv(taken, socket.MSG_WAITALL) if taken else None
    socket.send_fds(ours, [b"x"], [accepted.fileno()])
    accepted.close()
    os.waitpid(worker, 0)
    say(str(worker))


def answer(channel: socket.socket, left: int) -> None:
    _, (descriptor,), _, _ = socket.recv_fds(channel, 1, 1)
    with socket.socket(fileno=descriptor) as sock:
        sock.recv(left, socket.MSG_WAITALL)
        sock.sendall(b"answer")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
