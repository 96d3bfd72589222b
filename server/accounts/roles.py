"""Roles of people and scopes of tokens: each has what the one before it has."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from server.api.access import ALL_TENANTS, Scope

ACCOUNT_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z"
"""No colon: "token:lab" in the audit log is a token, and nobody's name."""
TENANT_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}\Z"


class Role(StrEnum):
    """What an account may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class TokenScope(StrEnum):
    """What a token may do."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


SCOPES: Final[dict[str, frozenset[Scope]]] = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.OPERATOR: frozenset({Scope.READ, Scope.OPERATE}),
    Role.ADMIN: frozenset({Scope.READ, Scope.OPERATE, Scope.ADMIN}),
    TokenScope.READ: frozenset({Scope.READ}),
    TokenScope.OPERATE: frozenset({Scope.READ, Scope.OPERATE}),
    TokenScope.ADMIN: frozenset({Scope.READ, Scope.OPERATE, Scope.ADMIN}),
}

AccountName = Annotated[str, msgspec.Meta(pattern=ACCOUNT_NAME, description="name to log in with")]
TenantName = Annotated[str, msgspec.Meta(pattern=TENANT_NAME, description="tenant")]
Home = Annotated[
    str,
    msgspec.Meta(pattern=rf"^\*\Z|{TENANT_NAME}", description="tenant that it belongs to; *: all of them"),
]


def is_home(text: str) -> bool:
    """Tell whether a text names a tenant, or all of them."""
    return text == ALL_TENANTS or re.match(TENANT_NAME, text) is not None


def is_within(home: str, other: str) -> bool:
    """Tell whether who belongs to ``home`` may manage what belongs to ``other``."""
    return home in (ALL_TENANTS, other)
