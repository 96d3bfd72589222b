"""The rules of the SLA report, read from ``sla.toml`` and checked."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from analytics.errors import UNREADABLE, RulesError

BUILT_IN: Final = Path(__file__).with_name("sla.toml")


class CauseKind(StrEnum):
    """Where a cause is, without saying at whose end."""

    HOST = "host"
    ACCESS = "access"
    TRANSIT = "transit"
    REGION = "region"
    RELAY = "relay"
    UNKNOWN = "unknown"


class Side(StrEnum):
    """At which end of the way from the service to the workplace."""

    SERVICE = "service"
    WORKPLACE = "workplace"
    BETWEEN = "between"


class Owner(StrEnum):
    """Who has to mend it."""

    OURS = "ours"
    CUSTOMER = "customer"
    PROVIDER = "provider"
    UNKNOWN = "unknown"


class OwnerRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose a kind of cause is; without a side, wherever it is."""

    kind: CauseKind
    side: Side | None = None
    owner: Owner


class SlaRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a month is counted."""

    version: str
    time_rule: str
    time: str
    incident_rule: str
    incident: str
    owner_rule: str
    owners: list[OwnerRow]

    def owner(self, kind: CauseKind, side: Side) -> Owner:
        """Whose a cause is."""
        fits = (row.owner for row in self.owners if row.kind is kind and row.side in (None, side))
        return next(fits, Owner.UNKNOWN)


@cache
def load_sla_rules(path: Path = BUILT_IN) -> SlaRules:
    """Read the rules. Raises ``RulesError`` with the file and the key."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=SlaRules)
    except (OSError, *UNREADABLE) as error:
        raise RulesError(f"{path}: {error}", remedy="take the file of this version") from error
