"""Makes a plan's network with ``ip``, ``nft`` and ``sysctl``, and removes it. The plan decides."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lab.errors import CommandError
from lab.plan import Node, Patch, Plan

NETNS: Final = Path("/run/netns")
CABLE_QUEUE: Final = 2_000  # packets of a TUN's own queue: a 64 KB send is 45 packets at once
COMMAND_S: Final = 60

HOST_SYSCTLS: Final = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
ROUTER_SYSCTLS: Final = (*HOST_SYSCTLS, "net.ipv4.ip_forward=1")


def inside(namespace: str, command: Sequence[str]) -> list[str]:
    """Give the command line that runs ``command`` in a namespace.

    nsenter, not ``ip netns exec``: the latter hides /sys/fs/cgroup and the BPF file system from an agent.
    """
    return ["nsenter", f"--net={NETNS / namespace}", "--", *command]


def run(command: Sequence[str], *, stdin: str = "") -> str:
    """Run a system command to its end; raises ``CommandError`` with what it said."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout


def existing() -> set[str]:
    """Names of all network namespaces of this machine."""
    return {entry.name for entry in NETNS.iterdir()} if NETNS.is_dir() else set()


def make_nodes(plan: Plan) -> None:
    """Make the namespaces and everything in them that needs no cable."""
    for node in plan.nodes.values():
        run(["ip", "netns", "add", node.namespace])
        run(inside(node.namespace, ["sysctl", "-qw", *(ROUTER_SYSCTLS if node.forwards else HOST_SYSCTLS)]))
        _batch(node.namespace, _own_devices(node))
        if node.rules:
            run(inside(node.namespace, ["nft", "-f", "-"]), stdin=node.rules)
    for patch in plan.patches:
        _batch(plan.namespace(patch.node_a), _patch_lines(plan, patch))
        _batch(plan.namespace(patch.node_b), _far_end_lines(patch))


def bring_up(plan: Plan) -> None:
    """Give every device its address and switch it on; the cables must be there. Then the routes."""
    cable_ends = {(c.node_a, c.device_a) for c in plan.cables} | {(c.node_b, c.device_b) for c in plan.cables}
    for node in plan.nodes.values():
        _batch(node.namespace, [*_address_lines(node, cable_ends), *_route_lines(node)])


def remove(namespaces: Iterable[str]) -> None:
    """Remove those of the namespaces that exist; their devices go with them."""
    for namespace in sorted(existing().intersection(namespaces)):
        run(["ip", "netns", "delete", namespace])


def pids_inside(namespace: str) -> list[int]:
    """Processes in a namespace."""
    return [int(pid) for pid in run(["ip", "netns", "pids", namespace]).split()]


def _batch(namespace: str, lines: Sequence[str]) -> None:
    if lines:
        run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")


def _own_devices(node: Node) -> list[str]:
    bridges = [one.device for one in node.interfaces if one.bridge]
    return ["link set dev lo up", *(f"link add {name} type bridge" for name in bridges)]


def _patch_lines(plan: Plan, patch: Patch) -> list[str]:
    peer = f"peer name {patch.device_b} netns {plan.namespace(patch.node_b)}"
    return [f"link add {patch.device_a} type veth {peer}"]


def _far_end_lines(patch: Patch) -> list[str]:
    """The second end of a patch: joined to its bridge, or left to ``bring_up`` as an interface of its own."""
    if not patch.bridge:
        return []
    return [f"link set dev {patch.device_b} master {patch.bridge}", f"link set dev {patch.device_b} up"]


def _address_lines(node: Node, cable_ends: set[tuple[str, str]]) -> list[str]:
    lines = []
    for interface in node.interfaces:
        queue = f" txqueuelen {CABLE_QUEUE}" if (node.name, interface.device) in cable_ends else ""
        lines += [
            f"address add {interface.address} dev {interface.device}",
            f"link set dev {interface.device} up{queue}",
        ]
    return lines


def _route_lines(node: Node) -> list[str]:
    return [f"route add {network} via {via}" for network, via in node.routes]
