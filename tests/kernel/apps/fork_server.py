"""A server that accepts in the parent and answers in a forked child: ``fork_server.py PORT COUNT``.

Prints ``ready``, then the child's pid for each connection.
"""

import os
import socket
import sys


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    say("ready")
    for _ in range(int(sys.argv[2])):
        accepted, _ = listener.accept()
        child = os.fork()
        if child == 0:
            accepted.recv(100)
            accepted.sendall(b"answer")
            accepted.close()
            os._exit(0)
        accepted.close()
        os.waitpid(child, 0)
        say(str(child))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
