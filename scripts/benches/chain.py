"""A chain of namespaces of the bench's own: two hosts, and routers with known links in between.

::

    a ── router ══ router ══ ... ── b       ── a plain veth   ══ a link whose truth is known
      link 0    link 1    link 2            198.18.LINK.1 on its left end, .2 on its right (RFC 2544)

The links between routers are emulated cables (scripts/lab/wire.c: delay, jitter, loss, counters). Where there
is none, the one router may be made to let out so many bits a second (tbf).
"""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab import cables
from lab.errors import LabError

from benches.errors import PartError
from benches.net import inside, namespace, run

LEFT: Final = "left"  # the device of a node that faces a
RIGHT: Final = "right"
CABLE_QUEUE: Final = 2_000  # packets of a TUN's own queue
ETHERNET_BYTES: Final = 14
BURST_LEAST_BYTES: Final = 3_200  # two packets with all their headers
BURST_S: Final = 200e-6  # a timer this late must cost no tokens
SHAPER_QUEUE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Cable:
    """An emulated cable; settings as ``{"up.delay_us": 150}``, up = from a to b."""

    settings: Mapping[str, int]
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Chain:
    """The namespaces, a first and b last; the cables' controls are in ``folder``."""

    nodes: tuple[str, ...]
    folder: Path

    @property
    def a(self) -> str:
        """Namespace of the left host."""
        return self.nodes[0]

    @property
    def b(self) -> str:
        """Namespace of the right host."""
        return self.nodes[-1]

    @property
    def near(self) -> str:
        """Namespace of the router next to a; its device ``LEFT`` faces a."""
        return self.nodes[1]

    @property
    def far(self) -> str:
        """Namespace of the router next to b; its device ``RIGHT`` faces b."""
        return self.nodes[-2]

    @property
    def b_address(self) -> str:
        """Address of the right host."""
        return _address(len(self.nodes) - 2, 2)

    @property
    def a_network(self) -> str:
        """Network of the left host."""
        return _network(0)

    def state(self, link: int = 1) -> cables.CableState:
        """Ask a cable what went through it. Raises ``PartError``."""
        try:
            return cables.state(self.folder, str(link))
        except LabError as error:
            raise PartError(str(error), remedy="run the bench again") from error

    def sent_bytes(self, node: str, device: str) -> int:
        """Count what a node has sent on a device, Ethernet headers included."""
        told = json.loads(run(["ip", "-n", node, "-s", "-j", "link", "show", "dev", device]))
        return int(told[0]["stats64"]["tx"]["bytes"])


@contextmanager
def chain(folder: Path, links: Sequence[Cable] = ()) -> Iterator[Chain]:
    """Make one with these cables between its routers; all gone afterwards. Raises ``BenchError``."""
    with ExitStack() as stack:
        nodes = tuple(stack.enter_context(namespace()) for _ in range(len(links) + 3))
        made = Chain(nodes, folder)
        _veth(nodes, 0)
        if links:
            stack.enter_context(_emulated(made, links))
        _veth(nodes, len(links) + 1)
        for position, node in enumerate(nodes):
            _configure(node, position, len(nodes))
        yield made


def shape(made: Chain, rate_kbps: int) -> None:
    """Let the router next to a send at a rate on both its devices, counted as IP packets."""
    for device in (LEFT, RIGHT):
        _shape(made.near, device, rate_kbps)


@contextmanager
def _emulated(made: Chain, links: Sequence[Cable]) -> Iterator[None]:
    """Run the emulator: one process for all cables, so that being late does not add up along the way."""
    described = [_description(made, number, cable) for number, cable in enumerate(links, 1)]
    words = [word for one in described for word in (cables.SEPARATOR, *one)][1:]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", str(cables.build()), *words],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout
            readable, _, _ = select.select([process.stdout], [], [], cables.READY_S)
            if not readable or process.stdout.readline() != b"ready\n":
                raise PartError("the emulated cables did not start", remedy="its last words stand above")
            yield
        finally:
            process.kill()


def _description(made: Chain, number: int, cable: Cable) -> list[str]:
    ends = [made.nodes[number], RIGHT, made.nodes[number + 1], LEFT]
    settings = [f"{key}={value}" for key, value in cable.settings.items()]
    return [*ends, str(cables.control_path(made.folder, str(number))), str(cable.seed), *settings]


def _veth(nodes: Sequence[str], number: int) -> None:
    left, right = nodes[number : number + 2]
    run(["ip", "link", "add", RIGHT, "netns", left, "type", "veth", "peer", "name", LEFT, "netns", right])
    for node, device in ((left, RIGHT), (right, LEFT)):
        # As most network cards: the kernel cuts what UDP GSO sends, so a counter counts what goes out.
        run(inside(node, ["ethtool", "-K", device, "tx-udp-segmentation", "off"]))


def _configure(node: str, position: int, count: int) -> None:
    """Addresses and routes of one node: what is further left by its left neighbour, and so right."""
    lines = []
    if position > 0:
        lines += _up(LEFT, _address(position - 1, 2))
        lines += [f"route add {_network(n)} via {_address(position - 1, 1)}" for n in range(position - 1)]
    if position < count - 1:
        lines += _up(RIGHT, _address(position, 1))
        beyond = range(position + 1, count - 1)
        lines += [f"route add {_network(n)} via {_address(position, 2)}" for n in beyond]
    run(["ip", "-n", node, "-batch", "-"], stdin="\n".join(lines) + "\n")
    forwards = int(0 < position < count - 1)
    run(inside(node, ["sysctl", "-qw", f"net.ipv4.ip_forward={forwards}", *NO_IPV6]))


NO_IPV6: Final = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")


def _up(device: str, address: str) -> list[str]:
    return [f"link set {device} txqueuelen {CABLE_QUEUE} up", f"address add {address}/30 dev {device}"]


def _address(link: int, end: int) -> str:
    return f"198.18.{link}.{end}"


def _network(link: int) -> str:
    return f"198.18.{link}.0/30"


def _shape(node: str, device: str, rate_kbps: int) -> None:
    """Let a device send at a rate; Ethernet's header is taken out of the count (tc-stab(8))."""
    burst = max(BURST_LEAST_BYTES, round(rate_kbps / 8 * 1_000 * BURST_S))
    limit = burst + round(rate_kbps / 8 * 1_000 * SHAPER_QUEUE_S)
    words = f"tc -n {node} qdisc add dev {device} root stab overhead -{ETHERNET_BYTES} linklayer ethernet"
    run([*words.split(), "tbf", "rate", f"{rate_kbps}kbit", "burst", str(burst), "limit", str(limit)])
