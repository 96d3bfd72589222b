"""What a checkup asks on the server's host."""

from __future__ import annotations

import os
import secrets
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from analytics import host_checks as host
from analytics.checkup import Check, Found, asked, failed, look, ok, wrong
from server.env_file import take_env
from server.errors import SettingsError
from server.settings import Address, Settings
from server.stun import HEADER, MAGIC_COOKIE

PART: Final = "server"
ANSWER_S: Final = 2.0
SECRET_ENDINGS: Final = (".pem", ".sqlite", ".sqlite-wal", ".key")
NAMES_A_FILE: Final = "_file"
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # whom to ask where it listens on all
BINDING_REQUEST: Final = 0x0001


def checks(data: Path, env: Path | None = None) -> list[Check]:
    """Look at the server whose data folder this is, set as this environment and the file ``env`` say.

    None: the package's file, if it is there. Raises nothing: what is wrong is in the checks.
    """
    try:
        take_env(env)
        settings = Settings.load(data=data)
    except SettingsError as error:
        return failed(PART, "settings", error)
    return asked(
        PART,
        {
            "versions": lambda: host.versions("duckdb", "pyarrow", "fastapi"),
            "data folder": lambda: _folder(data),
            "free space": lambda: host.free_space(data),
            "secret files": lambda: host.private(_secrets(settings)),
            "clock": host.clock_kept,
            "agent listener": lambda: _listens(settings.agents, "agents"),
            "report listener": lambda: _report(settings.report),
            "STUN": lambda: _stun(settings.stun),
            "TURN": lambda: _turn(settings),
        },
    )


def _folder(data: Path) -> Found:
    found = data.stat()
    if os.geteuid() not in (0, found.st_uid):
        return look(f"{data} is uid {found.st_uid}'s", "run this as root or as that user to see all of it")
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        return wrong(f"anybody can write {data} (mode {mode:04o})", f"chmod o-w {data}")
    if mode & stat.S_IRWXO:
        return look(
            f"everybody on this host may read what {data} keeps (mode {mode:04o})", f"chmod o= {data}"
        )
    return ok(f"{data}, of uid {found.st_uid}, mode {mode:04o}")


def _secrets(settings: Settings) -> list[Path]:
    """The files in the data folder that hold secrets, and those that settings name as such."""
    own = [path for path in sorted(settings.data.iterdir()) if path.name.endswith(SECRET_ENDINGS)]
    named = (value for name, value in settings if name.endswith(NAMES_A_FILE))
    return [*own, *(path for path in named if isinstance(path, Path))]


def _listens(at: Address, who: str) -> Found:
    """Connect to it from this host."""
    near = Address(EVERYWHERE.get(at.host, at.host), at.port)
    try:
        socket.create_connection((near.host, near.port), timeout=ANSWER_S).close()
    except OSError as error:
        return wrong(
            f"nobody answers at {near}: {error.strerror or error}",
            f"start it: pathgrade server run; or say where it listens for {who}, as in PATHGRADE_AGENTS",
        )
    return ok(f"{at} answers")


def _report(at: Address) -> Found:
    found = _listens(at, "readers")
    is_near = at.host in ("127.0.0.1", "::1", "localhost")
    if found.remedy or is_near:
        return found
    return look(
        f"{at} answers, in the clear: passwords and tokens cross the network as they are",
        "listen on 127.0.0.1, and put a proxy with TLS in front",
    )


def _stun(addresses: Sequence[Address]) -> Found:
    silent = [at for at in addresses if not answers_stun(Address(EVERYWHERE.get(at.host, at.host), at.port))]
    if silent:
        return wrong(
            f"no answer at {', '.join(map(str, silent))} (UDP)",
            "start the server; where it runs, see that no firewall drops UDP to these ports",
        )
    if not addresses:
        return look("none is set", "--stun 0.0.0.0:3478: without it nobody is met through a NAT")
    return ok(f"{', '.join(map(str, addresses))}: answered")


def _turn(settings: Settings) -> Found:
    if not settings.turn:
        return look(
            "none is set: pairs whose NATs give every peer another port cannot meet",
            "run coturn with use-auth-secret, and name it with --turn and --turn-secret-file",
        )
    settings.turn_secret()
    silent = [url for url in settings.turn if not _answers_turn(url)]
    if silent:
        return wrong(f"no answer from {', '.join(silent)}", "start coturn; open its port in the firewall")
    return ok(f"{', '.join(settings.turn)}: answered; the secret can be read")


def _answers_turn(url: str) -> bool:
    """Ask a TURN server as its URL says: UDP by a STUN request (RFC 8656 has it answered), else connect."""
    scheme, _, rest = url.partition(":")
    at = Address.parse(rest.partition("?")[0])
    if scheme == "turn" and "transport=tcp" not in rest:
        return answers_stun(at)
    try:
        socket.create_connection((at.host, at.port), timeout=ANSWER_S).close()
    except OSError:
        return False
    return True


def answers_stun(at: Address) -> bool:
    """Send one STUN binding request (RFC 8489) by UDP, and wait for whatever is its answer."""
    transaction = secrets.token_bytes(12)
    try:
        family, kind, proto, _, where = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, proto) as asking:
            asking.settimeout(ANSWER_S)
            asking.connect(where)
            asking.send(HEADER.pack(BINDING_REQUEST, 0, MAGIC_COOKIE, transaction))
            return asking.recv(1_500)[8:20] == transaction
    except OSError:
        return False
