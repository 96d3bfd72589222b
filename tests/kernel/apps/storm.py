"""Open and close many connections over loopback: ``storm.py COUNT``. Both ends are this process."""

import socket
import sys

with socket.create_server(("127.0.0.1", 0)) as listener:
    for _ in range(int(sys.argv[1])):
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        client.sendall(b"x")
        accepted.recv(1)
        client.close()
        accepted.recv(1)
        accepted.close()
