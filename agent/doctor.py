"""What a checkup asks on an agent's host: its configuration, its files, its server, and what it can see."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent import credential, identity, local, tls
from agent.check import Survey, survey
from agent.config import Config, load
from agent.credential import Credential
from agent.errors import AgentError, ConfigError, LocalRefusedError
from agent.http import httpx
from agent.local_switch import PASSIVE
from agent.mesh import peers
from analytics import host_checks as host
from analytics.checkup import Ask, Check, Found, State, asked, failed, look, ok, wrong
from ebpf import check as ebpf
from ebpf.check import Finding

ANSWER_S: Final = 5.0
PART: Final = "agent"


def checks(config_file: Path) -> list[Check]:
    """Look at the agent that a file configures. Raises nothing: what is wrong is in the checks."""
    try:
        config = load(config_file)
    except ConfigError as error:
        return failed(PART, "configuration", error)
    found = asked(
        PART,
        {
            "configuration": lambda: ok(f"{config_file}: {config.name} at {config.site}"),
            "versions": lambda: host.versions("aiortc"),
            "running": lambda: _running(config),
            "enrolment": lambda: _enrolled(config),
            "secret files": lambda: host.private(_secrets(config)),
            "free space": lambda: host.free_space(config.data),
            "clock": host.clock_kept,
            **_server(config.server, _known(config)),
        },
    )
    ask = ebpf.check if config.passive in _HOW_BAD else _nothing
    return found + passive_checks(survey(config, ask), config.passive)


def _running(config: Config) -> Found:
    if config.passive == "off":
        return ok('not asked: with passive = "off" it answers nobody on this host')
    if (off := PASSIVE.read(config.data)) is not None:
        why = f"passive capture is switched off on this host, by {off.by}: it answers nobody"
        return look(why, "pathgrade agent passive status; pathgrade agent passive on ends it")
    try:
        local.ask(config.data / local.SOCKET_NAME, process=None, remote=None, but=None, limit=1)
    except LocalRefusedError as error:
        return look(str(error), error.remedy)
    except AgentError as error:
        return wrong(str(error), error.remedy.splitlines()[0])
    return ok(f"answers at {config.data / local.SOCKET_NAME}")


def _enrolled(config: Config) -> Found:
    known = _known(config)
    if known is not None:
        return _certified(config, known)
    if (config.data / credential.FILE_NAME).exists():
        return look(
            f"{config.data / credential.FILE_NAME} is of another server, or of before certificates",
            "start the agent: its log says whether it needs a token",
        )
    if config.enrolment_token():
        return look("not yet; a token is there", "start the agent")
    return wrong(
        "not enrolled, and no token",
        "pathgrade server token on the server's host makes one; name its file as token_file",
    )


def _certified(config: Config, known: Credential) -> Found:
    left_s = known.got_s + known.life_s - time.time()
    if left_s <= 0:
        return look("enrolled; the certificate is over", "start the agent: it renews it by itself")
    return ok(
        f"enrolled: {config.data / credential.FILE_NAME}, certificate for {left_s / 3_600:.1f} h,"
        " renewed by itself"
    )


def _known(config: Config) -> Credential | None:
    try:
        found = credential.read(config)
    except AgentError:
        return None  # "secret files" says what is wrong with it
    return found if isinstance(found, Credential) else None


def _secrets(config: Config) -> list[Path]:
    own = [config.data / name for name in (identity.FILE_NAME, credential.FILE_NAME, peers.FILE_NAME)]
    return [*own, config.token_file] if config.token_file else own


def _server(url: str, known: Credential | None) -> dict[str, Ask]:
    """Ask once; the answer says two things. An agent that is enrolled takes only its own server."""
    context = tls.unproven() if known is None else tls.proven(known.authority)
    sent_s = time.time()
    try:
        answer = httpx.get(url, timeout=ANSWER_S, trust_env=False, verify=context)
    except httpx.HTTPError as error:
        remedy = (
            tls.OTHER_SERVER
            if tls.is_unproven(error)
            else f"start the server, open {urlsplit(url).netloc} in the firewall, or correct server"
        )
        silent = wrong(f"{url}: {error or type(error).__name__}", remedy)
        return {"server": lambda: silent}
    received_s = time.time()
    date = answer.headers.get("date")
    return {
        "server": lambda: ok(f"{url} answers in {1000 * (received_s - sent_s):.0f} ms"),
        "server's clock": lambda: host.clock_beside(date, sent_s, received_s),
    }


_HOW_BAD: Final = {"ebpf": State.WRONG, "auto": State.LOOK}
"""``passive`` -> what it means that eBPF would not work."""


def passive_checks(made: Survey, passive: str) -> list[Check]:
    """Judge what the kernel lets an agent see, by how its configuration says to look. Pure."""
    through = _HOW_BAD.get(passive)
    kernel = [(one, through) for one in made.ebpf] if through else []
    return [
        Check(
            part="passive capture",
            name=one.name,
            state=State.OK if one.ok else state,
            seen=one.seen,
            remedy=one.remedy,
        )
        for one, state in [*kernel, *((one, State.WRONG) for one in made.agent)]
    ]


def _nothing(_: Path) -> list[Finding]:
    """Ask the kernel nothing: nobody wants eBPF."""
    return []
