"""The token that a person keeps for the command: ``~/.config/pathgrade/token``, for nobody else to read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from server.errors import TokenFileError

MOST_BYTES: Final = 4_096
FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def token_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where it is (XDG Base Directory Specification)."""
    home = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config")
    return home / "pathgrade" / "token"


def kept_token(path: Path) -> str | None:
    """Read the token; None where there is no file. Raises ``TokenFileError``."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & FOR_OTHERS:
                raise TokenFileError(
                    f"the token in {path} may be read by others (mode {stat.S_IMODE(mode):04o}): not used",
                    remedy=f"chmod 600 {path}, and have a new token made if others could read this one",
                )
            return _one_word(path, file.read(MOST_BYTES + 1))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise TokenFileError(
            f"read the token {path}: {error.strerror}",
            remedy="name a token with --token or PATHGRADE_TOKEN",
        ) from error


def one_token(text: str, where: str) -> str:
    """Check that a token can stand in a header (RFC 6750, section 2.1). Raises ``TokenFileError``."""
    token = text.strip()
    if not token or len(token) > MOST_BYTES or not all("!" <= letter <= "~" for letter in token):
        raise TokenFileError(
            f"the token in {where} is not one word of printable ASCII",
            remedy="copy it as it was shown, in one line",
        )
    return token


def _one_word(path: Path, content: bytes) -> str:
    return one_token(content.decode("ascii", errors="replace"), str(path))
