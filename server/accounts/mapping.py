"""From the groups that another says a person is in, to a role and a tenant here: one table, given as text.

::

    netops=operator@north        members of netops are operators of tenant north
    it-directors=viewer          viewers of the default tenant
    msp-staff=admin@*            admins of all tenants
    *=viewer                     everybody else who is let in there
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from server.accounts.roles import Role, is_home
from server.api.access import ALL_TENANTS
from server.database import DEFAULT_TENANT

EVERYBODY: Final = "*"
_ORDER: Final = list(Role)


@dataclass(frozen=True, slots=True)
class Grant:
    """What members of a group are here."""

    group: str
    role: Role
    home: str

    @classmethod
    def parse(cls, text: object) -> Grant:
        """Read ``GROUP=ROLE[@TENANT]``; raises ``ValueError``."""
        if isinstance(text, Grant):
            return text
        group, equals, rest = str(text).rpartition("=")
        role, _, home = rest.partition("@")
        home = home or DEFAULT_TENANT
        if not (group and equals) or role not in _ORDER or not is_home(home):
            raise ValueError(
                f"{text!r} is not GROUP=ROLE or GROUP=ROLE@TENANT with a role of {', '.join(_ORDER)}"
            )
        return cls(group, Role(role), home)


class AmbiguousError(Exception):
    """The groups are of several tenants, and none of all of them."""


def granted(grants: Sequence[Grant], groups: Iterable[str]) -> Grant | None:
    """Find what somebody in these groups is; None: nothing. Raises ``AmbiguousError``.

    A group of all tenants counts before those of one, then the highest role; ``*`` only where none fits.
    """
    of = set(groups)
    fitting = [grant for grant in grants if grant.group in of]
    fitting = fitting or [grant for grant in grants if grant.group == EVERYBODY]
    everywhere = [grant for grant in fitting if grant.home == ALL_TENANTS]
    fitting = everywhere or fitting
    if len({grant.home for grant in fitting}) > 1:
        homes = ", ".join(sorted({grant.home for grant in fitting}))
        raise AmbiguousError(f"the groups are of several tenants: {homes}")
    return max(fitting, key=lambda grant: _ORDER.index(grant.role), default=None)
