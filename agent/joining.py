"""What ``pathgrade agent enrol`` does on a host: configuration, token, unit. Pure plan, thin steps.

The enrolment itself is the agent's (``agent.enrol``), at its start: only it has the identity key.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from agent import credential, tls
from agent.config import Config, load
from agent.errors import AgentError, ConfigError, JoinError, ServerSilentError
from analytics.channel import EnrolToken

UNIT: Final = "pathgrade-agent.service"
SYSTEMD: Final = Path("/run/systemd/system")
DATA: Final = Path("/var/lib/pathgrade-agent")
DEFAULT_SITE: Final = "default"
TOKEN_NAME: Final = "token"  # noqa: S105  # a file's name, beside the configuration
CONFIG_MODE: Final = 0o640
TOKEN_MODE: Final = 0o600
WAIT_S: Final = 60.0
"""For the first start: the eBPF programs are compiled, then the server is asked."""
POLL_S: Final = 0.5
COMMAND_S: Final = 60.0

_KEY: Final = re.compile(r"^\s*([A-Za-z_]+)\s*=")


class Wish(NamedTuple):
    """What was asked for; None is left as it is, or gets its default."""

    server: str
    name: str | None = None
    site: str | None = None
    data: Path | None = None


class Plan(NamedTuple):
    """What a host's files are to be."""

    config: Path
    text: str
    token_file: Path
    token: str
    changes: bool  # of the configuration


def host_name(told: str) -> str:
    """Make an agent's name of a host's: its first label, in the narrow alphabet that names have."""
    narrow = re.sub(r"[^a-z0-9._-]+", "-", told.partition(".")[0].lower())
    return narrow.strip("-._")[:63].strip("-._") or "agent"


def planned(before: str | None, wish: Wish, *, config: Path, token: str, host: str) -> Plan:
    """Plan the files of a host. ``before``: the configuration that is there; its other keys stay.

    Raises ``ConfigError`` where the result would not hold, or the file there cannot be changed line by line.
    """
    known = _parsed(before or "", config)
    token_file = config.with_name(TOKEN_NAME)
    keys = {
        "server": wish.server,
        "token_file": str(token_file),
        "name": str(wish.name or known.get("name") or host_name(host)),
        "site": str(wish.site or known.get("site") or DEFAULT_SITE),
        "data": str(wish.data or known.get("data") or DATA),
    }
    text = edited(before or "", keys, without=frozenset({"token"}))
    wanted = {key: value for key, value in known.items() if key != "token"} | keys
    if _parsed(text, config) != wanted:
        raise ConfigError(
            f"change {config}: its lines are not one key each",
            remedy="set server and token_file in it by hand, or move it away",
        )
    return Plan(config, text, token_file, token, changes=text != before)


def edited(before: str, keys: dict[str, str], *, without: frozenset[str] = frozenset()) -> str:
    """Set keys of TOML's top level, where they stand or else in front of the tables; all else stays."""
    lines = (
        before.removesuffix("\n").split("\n") if before else []
    )  # TOML's lines: splitlines() knows more ends
    tables = next((place for place, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    top, rest = lines[:tables], lines[tables:]
    kept, missing = [], dict(keys)
    for line in top:
        found = _KEY.match(line)
        key = found[1] if found else ""
        if key in without or (key in keys and key not in missing):
            continue
        kept.append(_line(key, missing.pop(key)) if key in missing else line)
    while kept and not kept[-1].strip():
        kept.pop()
    added = [_line(key, value) for key, value in missing.items()]
    gap = [""] if rest else []
    return "\n".join([*kept, *added, *gap, *rest]) + "\n"


def written(plan: Plan, account: str) -> list[str]:
    """Write what changes, readable for the account's user only. Returns what was done, in words.

    Raises ``ConfigError`` where the new configuration does not hold (nothing is changed then), ``JoinError``.
    """
    done = []
    owner = _owner(account)
    try:
        plan.config.parent.mkdir(parents=True, exist_ok=True)
        if plan.changes:
            _replace(plan.config, plan.text, CONFIG_MODE, (0, owner[1]), check=load)
            done.append(f"wrote {plan.config}")
        if not _holds(plan.token_file, plan.token):
            _replace(plan.token_file, f"{plan.token}\n", TOKEN_MODE, owner)
            done.append(f"wrote {plan.token_file}")
    except OSError as error:
        raise JoinError(
            f"write {error.filename or plan.config}: {error.strerror}", remedy="run it as root (sudo)"
        ) from error
    return done


def forget_another(config: Config, token: str) -> list[str]:
    """Forget the credential if another authority made it than the token's: the server was set up anew.

    The agent would keep to it, and wait for a server that is no more. Returns what was done, in words. Raises
    ``FolderError``, and ``MessageError`` for what is no token.
    """
    pin = EnrolToken.parse(token).pin
    known = credential.read(config)
    if not isinstance(known, credential.Credential):
        return []
    try:
        tls.check_pin(known.authority, pin)
    except ServerSilentError:  # also where it does not read
        credential.forget(config)
        return [f"removed {credential.path_of(config)}: another authority made it than the token's"]
    return []


def has_unit() -> bool:
    """Whether systemd runs here and knows the agent's unit."""
    return SYSTEMD.is_dir() and shutil.which("systemctl") is not None and not _systemctl("cat", UNIT)


def start(*, again: bool) -> list[str]:
    """Enable the unit, and start it; ``again``: also where it runs already. Raises ``JoinError``."""
    for step in (("enable", "--quiet", UNIT), ("restart" if again else "start", UNIT)):
        if said := _systemctl(*step):
            raise JoinError(f"systemctl {' '.join(step)}: {said}", remedy=f"journalctl -u {UNIT} -n 20")
    return [f"enabled and started {UNIT}"]


def wait_enrolled(
    config: Config,
    *,
    wait_s: float = WAIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the agent that was started has its credential; False if it has none in time."""
    until_s = clock() + wait_s
    while not is_enrolled(config):
        if clock() >= until_s:
            return False
        sleep(POLL_S)
    return True


def is_enrolled(config: Config) -> bool:
    """Whether the agent's folder has a credential for this server and name."""
    try:
        return isinstance(credential.read(config), credential.Credential)
    except AgentError:
        return False


def _parsed(text: str, config: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"read {config}: {error}", remedy="correct the TOML, or move it away") from error


def _line(key: str, value: str) -> str:
    quoted = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # all else is TOML's as well
    return f"{key} = {quoted}"


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text().strip() == token
    except OSError:
        return False


def _owner(account: str) -> tuple[int, int]:
    """The account that the unit runs as; root where there is none, or where this is no root."""
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        return (0, 0)
    return entry.pw_uid, entry.pw_gid


def _replace(
    path: Path, text: str, mode: int, owner: tuple[int, int], check: Callable[[Path], object] | None = None
) -> None:
    """Write beside, check, then put in place: what is there stays whole whatever happens."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchmod(file.fileno(), mode)  # while it is ours: of another's file it takes CAP_FOWNER
            if os.geteuid() == 0:
                os.fchown(file.fileno(), *owner)
            file.write(text)
        if check is not None:
            check(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _systemctl(*words: str) -> str:
    """Ask systemd; returns what it said where it refused, nothing where all is well."""
    try:
        done = subprocess.run(
            ["systemctl", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"exit {done.returncode}") if done.returncode else ""
