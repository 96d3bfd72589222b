"""The file of settings that systemd gives the packaged server, for commands that are run beside it.

``NAME=VALUE`` a line, as ``EnvironmentFile`` of systemd.exec(5) has it; what of that is rarely used, as
backslashes and lines that go on, is refused and not guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from server.errors import SettingsError

SERVER_ENV: Final = Path("/etc/pathgrade/server.env")
MOST_BYTES: Final = 64 * 1024
_LINE: Final = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?:"(?P<double>[^"\\]*)"|'(?P<single>[^'\\]*)'|(?P<bare>[^"'\\][^\\]*)?)"""
)


def take_env(path: Path | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """Put a file's settings into the environment, but for those that are there; None: the package's, if any.

    Raises ``SettingsError``.
    """
    try:
        with (path or SERVER_ENV).open("rb") as file:
            body = file.read(MOST_BYTES + 1)
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return
        raise SettingsError(
            f"read {path or SERVER_ENV}: {error.strerror}",
            remedy="run it as root, or name another: --env FILE",
        ) from error
    for name, value in read_env(body, str(path or SERVER_ENV)).items():
        environ.setdefault(name, value)


def read_env(body: bytes, where: str) -> dict[str, str]:
    """Read such a file; raises ``SettingsError``, which has no value in it: some are secret."""
    if len(body) > MOST_BYTES:
        raise SettingsError(f"{where} has more than {MOST_BYTES} bytes", remedy="name a file of settings")
    try:
        lines = body.decode().split("\n")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{where} is not UTF-8", remedy="name a file of settings") from error
    told = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return dict(
        _pair(line, f"{where} line {number}") for number, line in told if line and line[0] not in "#;"
    )


def _pair(line: str, where: str) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None or not line.isprintable():
        raise SettingsError(
            f"{where} is not NAME=VALUE",
            remedy="one a line; quotes around all of a value or none, no backslash",
        )
    return found["name"], next(filter(None, found.group("double", "single", "bare")), "")
