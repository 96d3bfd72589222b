"""Real receivers on loopback: an HTTP server, an SMTP server, Debian's Alertmanager and Prometheus.

Only tests import this.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from aiosmtpd.controller import Controller

PATIENCE_S = 60


@dataclass
class Taken:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float


@dataclass
class Web:
    """What an HTTP server was sent; answers are given in order, then 200."""

    url: str = ""
    taken: list[Taken] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    slow_s: float = 0.0
    body: bytes = b"{}"

    def wait(self, count: int = 1) -> list[Taken]:
        until(lambda: len(self.taken) >= count, f"{count} requests; {len(self.taken)} came")
        return self.taken


@contextmanager
def web(port: int = 0) -> Iterator[Web]:
    seen = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.taken.append(
                Taken(self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.time())
            )
            time.sleep(seen.slow_s)
            status, more = seen.answers.pop(0) if seen.answers else (200, {})
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(seen.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have given up
                self.wfile.write(seen.body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()


class Mailbox:
    """An SMTP server's handler: keeps what it is sent."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.port = 0
        self.refuses = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802  # aiosmtpd's name
        if self.refuses:
            return self.refuses
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


@contextmanager
def smtp(**options: Any) -> Iterator[Mailbox]:
    box = Mailbox()
    box.port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=box.port, **options)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


ALERTMANAGER = """
route: {receiver: nobody, group_wait: 1s, group_by: [alertname]}
receivers: [{name: nobody}]
"""


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """Debian's Alertmanager, alone; gives its URL."""
    config, at = folder / "alertmanager.yml", f"127.0.0.1:{free_port()}"
    config.write_text(ALERTMANAGER)
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'am'}",
        f"--web.listen-address={at}",
        "--cluster.listen-address=",
    ]
    with running(command, folder / "alertmanager.log"):
        until(lambda: answers(f"http://{at}/-/ready"), "Alertmanager is ready")
        yield f"http://{at}"


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Debian's Prometheus, scraping one target every second; gives its URL."""
    config, at = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: pathgrade, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={at}",
    ]
    with running(command, folder / "prometheus.log"):
        until(lambda: answers(f"http://{at}/-/ready"), "Prometheus is ready")
        yield f"http://{at}"


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    """Run a program until the block ends; ended by its own pid."""
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield
        except BaseException:
            print(log.read_text()[-2000:])  # noqa: T201  # why it did not work
            raise
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def until(ready: Any, what: str, *, look_every_s: float = 0.05) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := ready()):
        assert time.monotonic() < deadline, what
        time.sleep(look_every_s)
    return found


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
