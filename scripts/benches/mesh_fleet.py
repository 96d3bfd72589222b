"""A fleet for the mesh bench: namespaces joined by one router, a real server and real agents in them.

Each is started by its own command. Nothing is emulated, neither delay nor loss nor NAT: what an agent costs
does not depend on them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benches import net
from benches.errors import PartError

NETWORK: Final = "10.90"
SERVER: Final = f"{NETWORK}.0.1"
GATEWAY: Final = "10.91.0.1"
AGENTS_PORT: Final = 8440
CACHE: Final = Path("/var/cache/pathgrade/ebpf")
"""Compiled eBPF programs, as the lab keeps them: a hundred compilers at once would be another bench."""
NO_IPV6: Final = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
END_S: Final = 15.0
READY_S: Final = 30.0
ASK_S: Final = 60.0
LOG_LINES: Final = 6


@dataclass(slots=True)
class Part:
    """One process of the fleet."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its pid: ``setpriv`` and ``nsenter`` become what they run."""
        return self.process.pid

    def check(self) -> None:
        """Raise ``PartError`` with its last words if it has ended."""
        if self.process.poll() is not None:
            words = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise PartError(f"{self.name} ended: {words}", remedy=f"run it by hand; its log was {self.log}")


class Fleet:
    """A server and its agents, until the context of ``fleet`` ends."""

    def __init__(self, folder: Path, namespaces: Sequence[str]) -> None:
        self._folder = folder
        self._namespaces = namespaces
        self._listener = _listen()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.server: Part | None = None
        self._token = ""
        self.agents: dict[str, Part] = {}
        self._where: dict[str, str] = {}  # agent -> its namespace

    def start_server(self, settings: Mapping[str, str]) -> None:
        """Start the server and wait until it answers. ``settings`` are ``PATHGRADE_*``."""
        fd = self._listener.fileno()
        command = [pathgrade(), "server", "run", "--data", str(self._folder / "server")]
        command += ["--agents", f"0.0.0.0:{AGENTS_PORT}", "--report-fd", str(fd)]
        self.server = self._start("server", self._namespaces[0], command, fds=[fd], settings=settings)
        self._until(lambda: self.ask("status") is not None, READY_S, "the server answers")
        if self._token:
            return  # it is started again
        made = [pathgrade(), "server", "access-token", "bench", "--scope", "operate"]
        self._token = net.run([*made, "--data", str(self._folder / "server")]).strip()

    def start_agents(self, *, passive: int, within_s: float) -> None:
        """Start an agent a namespace, the first ``passive`` with eBPF, and wait until all are online."""
        token = net.run(
            [
                *(pathgrade(), "server", "token", "--data", str(self._folder / "server")),
                *("--seats", str(len(self._namespaces))),
            ]
        ).strip()
        CACHE.mkdir(parents=True, exist_ok=True)
        for number, namespace in enumerate(self._namespaces[1:]):
            name = f"a{number + 1:03d}"
            config = self._folder / f"{name}.toml"
            config.write_text(_config(self._folder, name, token, passive=number < passive))
            self._where[name] = namespace
            self.start_again(name)
            if number == 0 and passive:
                self._until(lambda: self._online() == 1, READY_S * 2, "the first agent has compiled eBPF")
        self._until(lambda: self._online() == len(self.agents), within_s, "all agents are online")

    def start_again(self, name: str) -> None:
        """Start an agent that has its configuration already."""
        command = [pathgrade(), "agent", "run", "--config", str(self._folder / f"{name}.toml")]
        self.agents[name] = self._start(name, self._where[name], command)

    def command(self, *words: str) -> str:
        """Run a command of the product against this server, as an operator; returns what it printed."""
        token = {"PATHGRADE_TOKEN": self._token}
        return net.run([pathgrade(), *words, "--url", self.url], within_s=ASK_S * 10, variables=token)

    def ask(self, what: str) -> Any:
        """GET from the read API; None while the server does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/{what}", timeout=ASK_S) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    @property
    def parts(self) -> list[Part]:
        """All processes, agents first."""
        return [*self.agents.values(), *([self.server] if self.server else [])]

    @property
    def server_log(self) -> str:
        """What the server has said so far."""
        return self.server.log.read_text(errors="replace") if self.server else ""

    def check(self) -> None:
        """Raise ``PartError`` if a process has ended."""
        for part in self.parts:
            part.check()

    def stop_agents(self, names: Sequence[str]) -> None:
        """End some agents, and wait until the server has noticed."""
        _end([self.agents.pop(name) for name in names])
        self._until(lambda: self._online() == len(self.agents), READY_S, "the others are offline")

    def stop(self) -> None:
        """End every process, agents first; kill what does not end."""
        self._listener.close()
        _end(self.parts)

    def _online(self) -> int:
        status = self.ask("status")
        return int(status["agents_online"]) if status else 0

    def _until(self, ready: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise PartError(f"{what}: not within {within_s:.0f} s", remedy="try fewer: --agents 10")
            time.sleep(0.5)

    def _start(
        self,
        name: str,
        namespace: str,
        command: Sequence[str],
        *,
        fds: Sequence[int] = (),
        settings: Mapping[str, str] | None = None,
    ) -> Part:
        log = self._folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                net.inside(namespace, command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(fds),
                env={**os.environ, **(settings or {})},
                start_new_session=True,  # Ctrl-C is for the bench, which then ends all in order
            )
        return Part(name, process, log)


@contextmanager
def fleet(folder: Path, agents: int) -> Iterator[Fleet]:
    """Make the network for a server and so many agents; everything is ended and removed afterwards."""
    with ExitStack() as opened:
        namespaces = [opened.enter_context(net.namespace()) for _ in range(agents + 2)]
        join(namespaces[0], namespaces[1:])
        made = Fleet(folder, namespaces[1:])
        opened.callback(made.stop)
        yield made


def pathgrade() -> str:
    """Name the product's command, of the same environment as this one."""
    return str(Path(sys.executable).with_name("pathgrade"))


def _end(parts: Sequence[Part]) -> None:
    for part in parts:
        part.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + END_S
    for part in parts:
        try:
            part.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            part.process.kill()
            part.process.wait()


def join(router: str, hosts: Sequence[str]) -> None:
    """Give every host an address and a cable of its own to one router.

    Not a bridge: each host would have to know the others' hardware addresses, and the kernel's table of those
    (1,024 entries, one for all namespaces) overflows from 32 hosts on.
    """
    net.run(net.inside(router, ["sysctl", "-qw", *NO_IPV6, "net.ipv4.ip_forward=1"]))
    for number, host in enumerate(hosts):
        cable, address = f"p{number}", address_of(number)
        _batch(
            router,
            [
                f"link add {cable} type veth peer name eth0 netns {host}",
                f"link set {cable} up",
                f"address add {GATEWAY}/32 dev {cable}",
                f"route add {address}/32 dev {cable}",
            ],
        )
        net.run(net.inside(host, ["sysctl", "-qw", *NO_IPV6]))
        _batch(
            host,
            [
                f"address add {address}/32 dev eth0",
                "link set eth0 up",
                f"route add {GATEWAY}/32 dev eth0",
                f"route add default via {GATEWAY}",
            ],
        )


def address_of(number: int) -> str:
    return f"{NETWORK}.{number // 250}.{number % 250 + 1}"


def _batch(namespace: str, lines: Sequence[str]) -> None:
    net.run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")


def _listen() -> socket.socket:
    """Take a port of this host's loopback: the server, in its namespace, gets it as an open descriptor."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.setblocking(False)
    return listener


def _config(folder: Path, name: str, token: str, *, passive: bool) -> str:
    values = {
        "server": f"https://{SERVER}:{AGENTS_PORT}",
        "token": token,
        "name": name,
        "site": f"site-{name}",
        "data": str(folder / name),
        "cache": str(CACHE),
        "passive": "ebpf" if passive else "off",
    }
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
