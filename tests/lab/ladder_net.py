"""The network of test_ladder.py: two sites, each behind a gateway, 50 ms apart, and a server site between.

::

    a  192.168.1.10 ─┐
    a2 192.168.1.11 ─┴ gwa 203.0.113.2 ══ core ══ 203.0.113.6 gwb ── 192.168.2.10 b
                                            └─ srv 198.51.100.18, .19: the product's STUN; .20: coturn

    ══ a cable that delays 12.5 ms each way
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lab import cables

PREFIX = f"pgl{os.getpid()}-"  # another run of these tests may be under way
NODES = ("a", "a2", "gwa", "core", "gwb", "b", "srv")
ROUTERS = ("gwa", "core", "gwb")
STUN = ("198.51.100.18", "198.51.100.19")
STUN_PORTS = (3478, 3479)
TURN = "198.51.100.20"
TURN_NAME = "turn.lab"
SECRET = "north-star-north-star"  # of this lab's coturn
CABLE_US = 12_500
A_PORTS, A2_PORTS = (20_000, 39_999), (40_000, 59_999)  # by which the hairpin tells the two hosts
PORTS_A_CASE = 1_000
READY_S = 60.0

TURN_CONF = """listening-ip={address}
relay-ip={address}
listening-port=3478
tls-listening-port=443
cert={folder}/turn.crt
pkey={folder}/turn.key
use-auth-secret
static-auth-secret={secret}
realm=lab
min-port=50000
max-port=59999
relay-threads=1
no-cli
no-dtls
log-file=stdout
simple-log
pidfile={folder}/turn.pid
userdb={folder}/turn.db
"""

UDP_BLOCKED = "meta l4proto udp drop"
ONLY_443 = "meta l4proto udp drop; meta l4proto tcp tcp dport != 443 iifname lan drop;"
HAIRPIN_IN = (
    f'iifname "lan" ip daddr 203.0.113.2 udp dport {A_PORTS[0]}-{A_PORTS[1]} dnat to 192.168.1.10\n'
    f'iifname "lan" ip daddr 203.0.113.2 udp dport {A2_PORTS[0]}-{A2_PORTS[1]} dnat to 192.168.1.11'
)
HAIRPIN_OUT = 'iifname "lan" oifname "lan" ip saddr 192.168.1.0/24 snat to 203.0.113.2'
RULES = """flush ruleset
table ip nat {{
 chain cpre {{ type nat hook prerouting priority dstnat;
  {before}
 }}
 chain cpost {{ type nat hook postrouting priority srcnat;
  {after}
 }}
}}
table inet fw {{
 chain cforward {{ type filter hook forward priority filter; policy drop;
  {blocked}
  ct state established,related accept
  iifname "lan" accept
  {through}
 }}
 chain cinput {{ type filter hook input priority filter; policy accept; {to_gateway} }}
}}
"""
FILTER = (
    'iifname "wan" ct state established,related accept; '
    'iifname "wan" meta l4proto { icmp, ipv6-icmp } accept; iifname "wan" drop;'
)


@dataclass(frozen=True)
class Gateway:
    """What a router does to the packets of its site."""

    nat: str = "masquerade"  # "" = routes; "masquerade fully-random" = symmetric
    filters: bool = True  # drops what nobody inside asked for
    blocked: str = ""
    hairpin: bool = False

    def rules(self) -> str:
        out = f'oifname "wan" {self.nat};' if self.nat else ""
        return RULES.format(
            before=HAIRPIN_IN if self.hairpin else "",
            after=f"{out}\n{HAIRPIN_OUT if self.hairpin else ''}",
            blocked=self.blocked,
            # Without NAT a site is reachable; with one, from outside only what it asked for.
            through="" if self.nat else 'iifname "wan" accept',
            to_gateway=FILTER if self.filters else "",
        )


ROUTED = Gateway(nat="")
ORDINARY = Gateway()
SYMMETRIC = Gateway(nat="masquerade fully-random")
UNFILTERED = Gateway(filters=False)
HAIRPIN = Gateway(hairpin=True)
NO_UDP = Gateway(blocked=UDP_BLOCKED)
TCP_443 = Gateway(blocked=ONLY_443)


def run(*words: str, text: str = "") -> str:
    done = subprocess.run(words, input=text, text=True, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def inside(node: str, *words: str, text: str = "") -> str:
    return run("ip", "netns", "exec", PREFIX + node, *words, text=text)


def fresh_ports(case: int) -> None:
    """Give the hosts source ports that no case before has used: routers remember flows for two minutes."""
    for node, (low, high) in (("a", A_PORTS), ("a2", A2_PORTS), ("b", A_PORTS)):
        first = low + case * PORTS_A_CASE % (high - low)
        inside(node, "sysctl", "-qw", f"net.ipv4.ip_local_port_range={first} {first + PORTS_A_CASE - 1}")


def set_gateway(node: str, gateway: Gateway) -> None:
    inside(node, "nft", "-f", "-", text=gateway.rules())


def isolate(*, on: bool) -> None:
    """Whether the two hosts of site a hear each other on their LAN (Wi-Fi client isolation)."""
    for port in ("p1", "p2"):
        inside("gwa", "bridge", "link", "set", "dev", port, "isolated", "on" if on else "off")


def set_ipv6(*, on: bool) -> None:
    """Whether the hosts have IPv6."""
    for node in ("a", "b"):
        inside(node, "ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global")
        if on:
            inside(node, "ip", "addr", "add", f"2001:db8:{node}::10/64", "dev", "eth0", "nodad")
            inside(node, "ip", "-6", "route", "replace", "default", "via", f"2001:db8:{node}::1")


@contextlib.contextmanager
def router_address(node: str, device: str, address: str) -> Iterator[None]:
    """Let a router answer gateway a from another address, as a carrier's does behind its NAT."""
    route = f"203.0.113.2 dev {device}"
    _batch(node, f"addr add {address}/30 dev {device}", f"route add {route} src {address}")
    try:
        yield
    finally:
        _batch(node, f"route del {route}", f"addr del {address}/30 dev {device}")


@contextlib.contextmanager
def network(folder: Path) -> Iterator[None]:
    """Make it, and remove it."""
    _tear_down()
    with contextlib.ExitStack() as parts:
        parts.callback(_tear_down)
        _make_nodes()
        for link, near, far in (("a", ("gwa", "wan"), ("core", "ca")), ("b", ("core", "cb"), ("gwb", "wan"))):
            parts.enter_context(_delaying(folder, link, near, far))
        _address_all()
        yield


@contextlib.contextmanager
def servers(folder: Path, pathgrade: Path) -> Iterator[None]:
    """The product's STUN responder, as part of its server, and coturn."""
    make_certificates(folder)
    secret = folder / "turn-secret"
    secret.write_text(SECRET)
    conf = folder / "turn.conf"
    conf.write_text(TURN_CONF.format(address=TURN, folder=folder, secret=SECRET))
    stun = [f"--stun={host}:{port}" for host in STUN for port in STUN_PORTS]
    product = [str(pathgrade), "server", "run", "--data", str(folder / "server"), *stun]
    turn = ["turnserver", "-c", str(conf)]
    with (
        _running(folder, "server", product, "ready"),
        _running(folder, "coturn", turn, "SQLite DB connection success"),
    ):
        yield


def make_certificates(folder: Path) -> None:
    """A certificate authority of this lab's own, and coturn's certificate from it."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("lab authority", authority_key, "lab authority", authority_key, [], ca=True)
    names = [x509.DNSName(TURN_NAME), x509.IPAddress(ipaddress.ip_address(TURN))]
    certificate = _certificate(TURN_NAME, key, "lab authority", authority_key, names, ca=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(authority.public_bytes(pem))
    (folder / "turn.crt").write_bytes(certificate.public_bytes(pem))
    (folder / "turn.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: Sequence[x509.GeneralName],
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@contextlib.contextmanager
def _running(folder: Path, name: str, command: Sequence[str], ready: str) -> Iterator[None]:
    log = folder / f"{name}.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            ["ip", "netns", "exec", PREFIX + "srv", *command], stdout=out, stderr=out
        ) as process,
    ):
        try:
            _wait_for(log, ready)
            yield
        finally:
            process.terminate()
            process.wait(10)


@contextlib.contextmanager
def _delaying(folder: Path, link: str, near: tuple[str, str], far: tuple[str, str]) -> Iterator[None]:
    ends = [PREFIX + near[0], near[1], PREFIX + far[0], far[1]]
    delays = [f"{direction}.delay_us={CABLE_US}" for direction in cables.DIRECTIONS]
    log = folder / f"cable-{link}.log"
    command = [str(cables.build()), *ends, str(folder / f"{link}.cable"), "1", *delays]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _wait_for(log, "ready")
            yield
        finally:
            process.kill()


def _wait_for(log: Path, word: str) -> None:
    until_s = time.monotonic() + READY_S
    while word not in log.read_text():
        assert time.monotonic() < until_s, f"{log.name}: {log.read_text()[-2000:]}"
        time.sleep(0.05)


def _make_nodes() -> None:
    for node in NODES:
        run("ip", "netns", "add", PREFIX + node)
        _batch(node, "link set lo up")
    for node in ROUTERS:
        inside(node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for left, right in (
        ("a eth0", "gwa p1"),
        ("a2 eth0", "gwa p2"),
        ("gwb lan", "b eth0"),
        ("core cs", "srv eth0"),
    ):
        _cable(*left.split(), *right.split())


def _cable(left: str, left_name: str, right: str, right_name: str) -> None:
    run("ip", "link", "add", "name", left_name, "netns", PREFIX + left, "type", "veth",
        "peer", "name", right_name, "netns", PREFIX + right)  # fmt: skip


def _batch(node: str, *commands: str) -> None:
    run("ip", "-n", PREFIX + node, "-batch", "-", text="\n".join(commands) + "\n")


def _address_all() -> None:
    _host("a", "192.168.1.10/24", "192.168.1.1")
    _host("a2", "192.168.1.11/24", "192.168.1.1")
    _host("b", "192.168.2.10/24", "192.168.2.1")
    _host("srv", f"{STUN[0]}/29", "198.51.100.17")
    _batch("srv", *(f"addr add {address}/29 dev eth0" for address in (STUN[1], TURN)))
    _batch("gwa", "link add lan type bridge", "link set p1 master lan", "link set p2 master lan")
    _gateway("gwa", ["lan", "p1", "p2", "wan"], number=1, wan_last=2)
    # A hairpin is no reason to tell the hosts to talk straight to each other.
    inside("gwa", "sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.lan.send_redirects=0")
    # Where br_netfilter is loaded, a bridge would translate addresses itself, and past the router.
    inside("gwa", "sysctl", "-eqw", "net.bridge.bridge-nf-call-iptables=0")
    _gateway("gwb", ["lan", "wan"], number=2, wan_last=6)
    _batch(
        "core",
        *(f"link set {name} up" for name in ("ca", "cb", "cs")),
        "addr add 203.0.113.1/30 dev ca",
        "addr add 203.0.113.5/30 dev cb",
        "addr add 198.51.100.17/29 dev cs",
        "addr add 2001:db8:1::1/64 dev ca nodad",
        "addr add 2001:db8:2::1/64 dev cb nodad",
        "route add 192.168.1.0/24 via 203.0.113.2",
        "route add 192.168.2.0/24 via 203.0.113.6",
        "route add 2001:db8:a::/64 via 2001:db8:1::2",
        "route add 2001:db8:b::/64 via 2001:db8:2::2",
    )


def _host(node: str, address: str, gateway: str) -> None:
    _batch(node, "link set eth0 up", f"addr add {address} dev eth0", f"route add default via {gateway}")


def _gateway(node: str, devices: list[str], *, number: int, wan_last: int) -> None:
    _batch(
        node,
        *(f"link set {name} up" for name in devices),
        f"addr add 192.168.{number}.1/24 dev lan",
        f"addr add 2001:db8:{'_ab'[number]}::1/64 dev lan nodad",
        f"addr add 203.0.113.{wan_last}/30 dev wan",
        f"addr add 2001:db8:{number}::2/64 dev wan nodad",
        f"route add default via 203.0.113.{wan_last - 1}",
        f"route add default via 2001:db8:{number}::1",
    )


def _tear_down() -> None:
    for node in NODES:
        subprocess.run(["ip", "netns", "del", PREFIX + node], check=False, capture_output=True, timeout=60)
