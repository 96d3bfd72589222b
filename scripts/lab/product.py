"""Puts the product on a lab's network: coturn, the server, the agents, each by its own command line."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Final

from lab.errors import PartError
from lab.network import Lab
from lab.processes import listens
from lab.report import Reader
from lab.scenario import Agent, Site

AGENTS_PORT: Final = 8440
STUN_PORT: Final = 3478
TURN_PORT: Final = 3478
TURN_NICE: Final = -10
READY_S: Final = 60.0
ENROLLED_S: Final = 120.0  # the first agent on a machine compiles the eBPF programs
TOKEN_S: Final = 60
AGENT_CACHE: Final = Path("/var/cache/pathgrade/ebpf")  # compiled programs, shared by all agents and kept


def pathgrade() -> str:
    """The product's command, of the same environment as this one."""
    program = Path(sys.executable).with_name("pathgrade")
    if not program.exists():
        raise PartError(f"{program} is not there", remedy="scripts/setup makes the environment")
    return str(program)


def start_turn(lab: Lab) -> None:
    """Start coturn with a secret of its own."""
    secret = secrets.token_hex(32)
    secret_file = lab.folder / "turn-secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(secret)
    folder = lab.folder / "coturn"
    folder.mkdir()
    config = folder / "turnserver.conf"
    config.touch(mode=0o600)
    config.write_text(_turn_config(lab.plan.turn_address, secret, folder))
    run_turn(lab, config)


def run_turn(lab: Lab, config: Path) -> None:
    """Start coturn as it is configured, for the first time or again, and wait until it listens."""
    # A relay on the internet does not wait for our agents' CPU; nice keeps this machine's load out of it.
    command = ["nice", "-n", str(TURN_NICE), "turnserver", "-c", str(config)]
    part = lab.parts.start("coturn", command, namespace=lab.plan.namespace("turn"))
    pid = part.process.pid
    lab.parts.wait_until(
        lambda: listens(pid, "udp", TURN_PORT) and listens(pid, "tcp", TURN_PORT),
        what="coturn listens",
        at_most_s=READY_S,
    )


def _turn_config(address: str, secret: str, folder: Path) -> str:
    lines = [
        f"listening-ip={address}",
        f"relay-ip={address}",
        f"listening-port={TURN_PORT}",
        "fingerprint",
        "use-auth-secret",
        f"static-auth-secret={secret}",
        "realm=pathgrade.lab",
        "no-cli",
        "no-tls",
        "no-dtls",
        "relay-threads=1",
        "log-file=stdout",
        f"pidfile={folder}/turnserver.pid",
        f"userdb={folder}/turndb",
    ]
    return "\n".join(lines) + "\n"


def start_server(lab: Lab, environment: dict[str, str] | None = None) -> None:
    """Start the server in its namespace; the page it serves is on this machine's loopback.

    ``environment``: settings beside those of a lab, as ``PATHGRADE_<NAME>``.
    """
    assert lab.report_socket
    report_fd = lab.report_socket.fileno()
    command = [
        *(pathgrade(), "server", "run"),
        *("--data", str(data_folder(lab))),
        *("--agents", f"0.0.0.0:{AGENTS_PORT}"),
        *("--report-fd", str(report_fd)),
        *("--stun", f"0.0.0.0:{STUN_PORT}"),
        *("--turn", f"turn:{lab.plan.turn_address}:{TURN_PORT}"),
        *("--turn-secret-file", str(lab.folder / "turn-secret")),
    ]
    lab.parts.start(
        "server",
        command,
        namespace=lab.plan.namespace("server"),
        pass_fds=[report_fd],
        environment=environment,
    )
    reader = Reader(lab.url)
    lab.parts.wait_until(lambda: reader.status() is not None, what="the server answers", at_most_s=READY_S)


def access_token(lab: Lab) -> str:
    """A token that may test and switch, as an operator's script has one; made when first asked for."""
    file = lab.folder / "access-token"
    if not file.exists():
        command = [pathgrade(), "server", "access-token", "lab", "--scope", "operate"]
        made = _printed([*command, "--data", str(data_folder(lab))])
        file.touch(mode=0o600)
        file.write_text(made)
    return file.read_text()


def with_token(lab: Lab) -> dict[str, str]:
    """The environment of a command that asks this lab's server."""
    return {**os.environ, "PATHGRADE_URL": lab.url, "PATHGRADE_TOKEN": access_token(lab)}


def data_folder(lab: Lab) -> Path:
    """Where the server keeps everything."""
    return lab.folder / "server"


def start_agents(lab: Lab) -> None:
    """Start every agent with one token for all, and wait until all are enrolled and online."""
    token_file = _make_token(lab)
    AGENT_CACHE.mkdir(parents=True, exist_ok=True)
    for site, agent in lab.scenario.agents():
        config = lab.folder / f"{agent.name}.toml"
        config.write_text(_agent_config(lab, site, agent, token_file))
        lab.parts.start(
            agent.name,
            [pathgrade(), "agent", "run", "--config", str(config)],
            namespace=lab.plan.namespace(agent.name),
        )
    lab.parts.wait_until(
        lambda: _all_online(lab), what="all agents online", at_most_s=ENROLLED_S, look_every_s=0.2
    )


def _all_online(lab: Lab) -> bool:
    status = Reader(lab.url).status()
    return status is not None and status["agents_online"] == len(lab.plan.hosts)


def _make_token(lab: Lab) -> Path:
    seats = str(len(lab.plan.hosts))
    command = [pathgrade(), "server", "token", "--data", str(data_folder(lab)), "--seats", seats]
    file = lab.folder / "token"
    file.touch(mode=0o600)
    file.write_text(_printed(command))
    return file


def _printed(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOKEN_S, check=False)
    if done.returncode or not done.stdout.strip():
        raise PartError(f"{' '.join(command)}: {done.stderr.strip() or 'printed no token'}")
    return done.stdout.strip()


def _agent_config(lab: Lab, site: Site, agent: Agent, token_file: Path) -> str:
    values = {
        "server": f"https://{lab.plan.server_address}:{AGENTS_PORT}",
        "token_file": str(token_file),
        "name": agent.name,
        "site": site.name,
        "label": agent.label,
        "data": str(lab.folder / f"agent-{agent.name}"),
        "cache": str(AGENT_CACHE),
        "passive": "ebpf",  # a fall back to polling must not go unseen
    }
    lines = [f"{key} = {_quoted(value)}" for key, value in values.items()]
    for service in agent.services:
        lines += [
            "",
            "[[services]]",
            f"name = {_quoted(service.name)}",
            f"profile = {_quoted(service.profile)}",
        ]
        lines.append(f"port = {service.port}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML literal or basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def bpf_programs(lab: Lab) -> set[int]:
    """Ids of the eBPF programs that the agents hold now, from their open descriptors."""
    return {
        program
        for _, agent in lab.scenario.agents()
        if agent.name in lab.parts.running
        for program in programs_of(lab.parts.running[agent.name].process.pid)
    }


def programs_of(pid: int) -> set[int]:
    """Ids of the eBPF programs that a process holds (bpf_prog and bpf_link descriptors)."""
    ids = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = entry.read_text().splitlines()
        except FileNotFoundError:
            continue  # closed meanwhile
        ids |= {int(line.split()[1]) for line in lines if line.startswith("prog_id:")}
    return ids
