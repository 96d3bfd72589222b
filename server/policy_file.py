"""A policy as a TOML file, read whole or refused with the place that does not hold."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import msgspec

from analytics.errors import PolicyError
from analytics.policy import PolicyRules, check

MAX_FILE: Final = 256 * 1024


def load(path: Path) -> PolicyRules:
    """Read a file; raises ``PolicyError``."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise PolicyError(f"read {path}: over {MAX_FILE} bytes", remedy="keep to 200 rules")
        asked = msgspec.convert(tomllib.loads(text.decode()), PolicyRules)
    except OSError as error:
        raise PolicyError(f"read {path}: {error.strerror}", remedy="name a readable file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PolicyError(f"read {path}: {error}", remedy="correct the TOML") from error
    except msgspec.ValidationError as error:
        raise PolicyError(f"read {path}: {error}", remedy="docs/control.md lists what a rule has") from error
    check(asked.rules)
    return asked
