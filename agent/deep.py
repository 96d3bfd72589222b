"""``pathgrade hops --deep``: traces to a real service from this host, and how they differ by protocol.

The traces are made by a helper process (``agent/mesh/deep.py``), which needs CAP_NET_RAW and ends with them.
The flows of load balancing are plain UDP sockets of this process, which need nothing.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.errors import DeepDeniedError, DeepError
from agent.mesh.fan import routes_of_flows
from agent.mesh.ledger import RouterLedger
from agent.mesh.route import FanHop, fan_out
from agent.mesh.stamps import StampingLoop
from agent.mesh.treatment import PROTOCOLS, DeepHop, DeepOrder, DeepTrace, Protocol, differences

DEFAULT_PORT: Final = 443
ALLOWANCE_S: Final = 20.0
"""For the helper beyond a second a pass: its imports on a slow host, and the last answers."""
NOTHING: Final = "\N{EN DASH}"


class Deep(msgspec.Struct, frozen=True, kw_only=True):
    """What is printed, and with ``--json`` exactly this."""

    address: str
    port: int
    traces: list[DeepTrace]
    differences: list[str]
    flows: int = 0
    fan: list[FanHop] = []


def trace(target: str, protocols: Sequence[Protocol], *, flows: int = 0) -> Deep:
    """Trace to ``HOST[:PORT]`` by the protocols given (none: all). Raises ``DeepError``."""
    address, port = resolve(target)
    order = DeepOrder(address=address, port=port, protocols=list(protocols or PROTOCOLS))
    _require_raw_sockets()
    traces = _ask(order)
    fan = _fan(order, routers_before_end(traces), flows) if flows else []
    return Deep(
        address=address, port=port, traces=traces, differences=differences(traces), flows=flows, fan=fan
    )


def resolve(target: str) -> tuple[str, int]:
    """Read HOST[:PORT] and look the host up. Raises ``DeepError``."""
    host, colon, port = target.rpartition(":") if target.count(":") == 1 else (target, "", "")
    if not host or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise DeepError(f"read {target!r}: not HOST[:PORT]", remedy="name it as in pacs.example.org:11112")
    try:
        found = socket.getaddrinfo(host, int(port or DEFAULT_PORT), socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise DeepError(
            f"look up {host}: {error.strerror or error}", remedy="name an IPv4 host that resolves here"
        ) from error
    return str(found[0][4][0]), int(port or DEFAULT_PORT)


def routers_before_end(traces: Sequence[DeepTrace]) -> int:
    """How far flows may go without reaching the end: one TTL short of the nearest sight of it."""
    ends = [hop.ttl for each in traces for hop in each.hops if hop.is_end]
    last = [each.last_answer.ttl + 1 for each in traces if each.last_answer is not None]
    return min(ends or last or [1]) - 1


def _require_raw_sockets() -> None:
    """Fail before half a second of imports does."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except PermissionError as error:
        raise denied(str(error)) from error


def denied(why: str) -> DeepDeniedError:
    """The one error of a process that may not."""
    return DeepDeniedError(
        f"open a raw socket: {why}: a deep trace needs CAP_NET_RAW",
        remedy="run it as root\ngrant it: setpriv --inh-caps +net_raw --ambient-caps +net_raw pathgrade ...",
    )


def _ask(order: DeepOrder) -> list[DeepTrace]:
    most_s = order.rounds * len(order.protocols) * 2 + ALLOWANCE_S
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agent.mesh.deep"],
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=most_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeepError(f"trace {order.address}: not done within {most_s:.0f} s") from error
    if done.returncode == DeepDeniedError.exit_code:
        raise denied(msgspec.json.decode(done.stdout, type=str))
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DeepError(f"trace {order.address}: {' '.join(last) or f'exit {done.returncode}'}")
    return msgspec.json.decode(done.stdout, type=list[DeepTrace])


def _fan(order: DeepOrder, routers: int, flows: int) -> list[FanHop]:
    from agent.mesh.pair import SystemClock  # noqa: PLC0415  # loads the mesh, for flows only

    def open_socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", 0))
        return sock

    if routers < 1:
        return []
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        routes = runner.run(
            routes_of_flows(
                open_socket,
                (order.address, order.port),
                routers=routers,
                clock=SystemClock(),
                ledger=RouterLedger(),
                flows=flows,
            )
        )
    return fan_out(list(routes.values()))


# --- in a terminal ------------------------------------------------------------------------------------------


def shown(made: Deep) -> RenderableType:
    """Show the traces side by side, what differs in words, and the fan of the flows."""
    parts: list[RenderableType] = [Text(f"{made.address} port {made.port}", "bold"), _table(made.traces)]
    parts += [Text(sentence) for sentence in made.differences]
    if not made.differences and len(made.traces) > 1:
        parts.append(Text("No difference between the protocols was seen."))
    if made.fan:
        parts += [
            "",
            Text(f"{made.flows} flows by UDP, each from a port of its own:"),
            *map(_fan_line, made.fan),
        ]
    return Group(*parts)


def _table(traces: Sequence[DeepTrace]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim", pad_edge=False)
    table.add_column("hop", justify="right")
    for each in traces:
        table.add_column(each.protocol.upper())
        table.add_column("min ms", justify="right", no_wrap=True)
    for place in range(max((len(each.hops) for each in traces), default=0)):
        cells = [c for each in traces for c in _cells(each.hops[place] if place < len(each.hops) else None)]
        table.add_row(str(place + 1), *cells)
    return table


def _cells(hop: DeepHop | None) -> tuple[str, str]:
    if hop is None:
        return "", ""
    if not hop.address:
        return "no answer", NOTHING
    notes = [hop.answer, *(["also " + " ".join(hop.others)] if hop.others else [])]
    notes += [f"MPLS {hop.mpls}"] if hop.mpls else []
    words = "; ".join(note for note in notes if note)
    time = NOTHING if hop.rtt_min_us is None else f"{hop.rtt_min_us / 1000:.1f}"
    return f"{hop.address} {words}".rstrip(), time


def _fan_line(hop: FanHop) -> Text:
    told = ", ".join(f"{address} ({count})" for address, count in hop.flows)
    silent = f"{hop.silent} without an answer" if hop.silent else ""
    return Text(f"  hop {hop.ttl}: " + "; ".join(part for part in (told, silent) if part))
