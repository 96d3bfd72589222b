"""How fast passwords may be guessed: who fails often waits, longer each time, in bounded memory.

Failures count for the account and for the address. A stranger must not keep somebody out by failing in their
name, so a browser that has logged in to an account before (a *device*, by a cookie that the server signed) is
counted by itself and not with the strangers
(https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies).
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

FORGET_S: Final = 3_600.0
MOST_KEYS: Final = 10_000

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many failures are free, and how long the wait may become."""

    free: int
    most_s: float


PACES: Final = {"account": Pace(5, 60.0), "device": Pace(5, 60.0), "address": Pace(20, 60.0)}


@dataclass(frozen=True, slots=True)
class Failures:
    """What is remembered of one key."""

    count: int
    last_s: float


def wait_s(pace: Pace, failures: Failures, now_s: float) -> float:
    """Seconds until the next try is taken; 0 = now. It doubles from 1 s with each failure beyond the free."""
    over = failures.count - pace.free
    if over < 0:
        return 0.0
    pause_s: float = min(2.0 ** min(over, 30), pace.most_s)
    return max(0.0, failures.last_s + pause_s - now_s)


class Throttle:
    """The failures of the last hour. Where there are too many keys, what failed longest ago is forgotten."""

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._most = most_keys
        self._failures: OrderedDict[Key, Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def wait_s(self, keys: list[Key], now_s: float) -> float:
        """Seconds until a try of all these keys is taken."""
        return max(wait_s(PACES[key[0]], self._of(key, now_s), now_s) for key in keys)

    def failed(self, keys: list[Key], now_s: float) -> None:
        """Count one failure."""
        for key in keys:
            self._failures[key] = Failures(self._of(key, now_s).count + 1, now_s)
            self._failures.move_to_end(key)
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def succeeded(self, keys: list[Key]) -> None:
        """Forget the failures of the account or device, and the one that was counted ahead of the address.

        No more of the address: it may be a guesser's who has an account, too.
        """
        for key in keys:
            if key[0] != "address":
                self._failures.pop(key, None)
        self.withdrawn([key for key in keys if key[0] == "address"])

    def withdrawn(self, keys: list[Key]) -> None:
        """Take one failure back that was counted ahead: it was never found out whether it is one."""
        for key in keys:
            known = self._failures.pop(key, None)
            if known is not None and known.count > 1:
                self._failures[key] = Failures(known.count - 1, known.last_s)

    def _of(self, key: Key, now_s: float) -> Failures:
        found = self._failures.get(key)
        if found is None or now_s - found.last_s > FORGET_S:
            return Failures(0, now_s)
        return found


def keys_of(name: str, address: str, device: str | None) -> list[Key]:
    """Name what a try counts for: the device where it was here before, else the account and the address."""
    if device is not None:
        return [("device", device)]
    return [("account", name.lower()[:64]), ("address", block_of(address))]


def block_of(address: str) -> str:
    """Name who has an address: of IPv6, one customer has at least a /64 (RFC 6177)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
