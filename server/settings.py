"""What an operator may set: arguments of ``pathgrade server run``, or ``PATHGRADE_*`` in the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import NoDecode, SettingsConfigDict

from analytics.errors import UNREADABLE
from analytics.store.lake_place import LakePlace
from analytics.store.query import Limits
from analytics.store.tidy import Keep
from analytics.wire import ProbePlan
from server.accounts.settings import AccountSettings
from server.errors import SettingsError
from server.receipts import Receipts
from server.secret_file import TURN_SECRET

_ADDRESS: Final = re.compile(r"^(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>\d{1,5})\Z")
_TURN_URL: Final = re.compile(
    r"^(turn:[^\s?]+:\d{1,5}(\?transport=(udp|tcp))?|turns:[^\s?]+:\d{1,5}(\?transport=tcp)?)\Z"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the kernel choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> Address:
        """Read ``host:port`` or ``[v6]:port``; raises ``ValueError``."""
        if isinstance(text, Address):
            return text
        found = _ADDRESS.match(str(text))
        if found is None or int(found["port"]) > 65_535:
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(found["v6"] or found["host"], int(found["port"]))

    def __str__(self) -> str:
        """As in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split(value: object) -> object:
    """Take a comma-separated text (from the environment) apart."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _turn_url(value: object) -> str:
    if not _TURN_URL.match(str(value)):
        raise ValueError(
            f"{value!r} is not turn:HOST:PORT, turn:HOST:PORT?transport=udp|tcp or turns:HOST:PORT"
        )
    return str(value)


def _plan(value: object) -> object:
    """Read a plan from JSON, as the environment gives it; raises ``ValueError``."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value, type=ProbePlan)
    except UNREADABLE as error:
        raise ValueError(str(error)) from error


At = Annotated[Address, NoDecode, BeforeValidator(Address.parse)]
Plan = Annotated[ProbePlan, BeforeValidator(_plan)]
TurnUrl = Annotated[str, BeforeValidator(_turn_url)]


class Settings(AccountSettings):
    """Everything ``server.app.run`` needs to know."""

    model_config = SettingsConfigDict(env_prefix="PATHGRADE_", frozen=True, extra="forbid")

    data: Path
    """Folder of everything the server keeps."""
    agents: At = Address("0.0.0.0", 8440)  # noqa: S104  # agents come from anywhere; each has a certificate
    """Listener for agents: enrolment, batches, control connections. It speaks TLS 1.3 only."""
    report: At = Address("127.0.0.1", 8080)
    """Listener for people and programs: the pages and the API. It speaks HTTP: before opening it to a
    network, put a proxy that speaks TLS in front, and set `public_url`."""
    report_fd: int | None = Field(default=None, ge=3)
    """An open listening socket to take for readers instead of ``report``."""
    certificate_s: int = Field(default=86_400, ge=600, le=31 * 86_400)
    """How long a certificate of an agent is good for; it renews it by itself at half of that. An agent that
    is revoked is refused at once, not only when its certificate is over."""
    stun: Annotated[tuple[At, ...], NoDecode, BeforeValidator(_split)] = (
        Address("0.0.0.0", 3478),  # noqa: S104  # as agents
        Address("0.0.0.0", 3479),  # noqa: S104  # as agents
    )
    """UDP addresses of the STUN responder; empty = none. Two ports tell agents what their NATs do; a second
    address of this host, with both ports too, tells them all of it (RFC 5780)."""
    turn: Annotated[tuple[TurnUrl, ...], NoDecode, BeforeValidator(_split)] = ()
    """TURN servers (coturn with use-auth-secret) that agents may relay through; ``turns:`` is over TLS."""
    turn_secret_file: Path | None = None
    """File with coturn's static-auth-secret."""
    profiles: Path | None = None
    """Rules file of profiles of your own, beside the built-in ones or in their place (docs/grades.md)."""
    alerts: Path | None = None
    """File of who is told of alerts: webhooks, Alertmanager, mail, Slack (docs/alerts.md). None = they are
    on the page, in the API and in the command only."""
    alert_rules: Path | None = None
    """Rules of alerts of your own, beside the built-in ones or in their place (docs/alerts.md)."""
    metrics_pairs: bool = False
    """Whether `/metrics` and OTLP have the worst 1,000 paths one by one, too; else sites only."""
    otlp_url: str | None = None
    """Where metrics are sent as OTLP over HTTP, as in `http://127.0.0.1:4318/v1/metrics`; none = nowhere."""
    otlp_interval_s: float = Field(default=60.0, ge=1, le=3600)
    """How often."""
    otlp_headers_file: Path | None = None
    """File with headers for it, one `Name: value` a line, as a collector's credential."""
    lake_catalog: str | None = None
    """PostgreSQL database of a lake that several servers share, as ``postgres:host=... dbname=... user=...``
    (docs/lake.md); none = rows are kept in ``data``. Needs pathgrade[lake]."""
    lake_data: str | None = None
    """Where the lake's Parquet is: a folder that all its servers mount, or ``s3://BUCKET/PREFIX``."""
    cycle_s: int = Field(default=300, ge=10, le=86_400)
    """From the start of one cycle to the start of the next."""
    watch_s: int = Field(default=30, ge=0, le=300)
    """From one light test to the next of paths that are marked or that changed, between their turns in
    cycles, as far as a quarter of the budget allows; 0 = none."""
    settle_s: float = Field(default=2.0, ge=0, le=60)
    """A cycle waits until no agent came or went for so long."""
    seal_s: float = Field(default=60.0, ge=1, le=3600)
    """How often acknowledged rows become Parquet, besides after each cycle."""
    keep_readings_days: int = Field(default=30, ge=8, le=36_500)
    """Days that readings are kept as they came. Of 100 agents that test each other every five minutes a day
    is 0.1 GB, of 1,000 it is 11 GB. What is usual on a path is looked for in 14 of them, the latest in 7."""
    keep_hops_days: int = Field(default=14, ge=8, le=36_500)
    """Days that hops are kept; they are the largest table, some ten rows to each reading."""
    keep_receipts_days: int = Field(default=30, ge=1, le=36_500)
    """Days that receipts are kept: what both ends signed of a reading, of use as long as that is kept."""
    keep_flows_days: int = Field(default=30, ge=1, le=36_500)
    """Days that passive flows are kept."""
    keep_5m_days: int = Field(default=90, ge=1, le=36_500)
    """Days that the readings' rollup by five minutes is kept: about half the size of the readings."""
    keep_1h_days: int = Field(default=400, ge=1, le=36_500)
    """Days that the rollup by hour is kept: a year and some, to compare with the last."""
    keep_1d_days: int = Field(default=1_830, ge=1, le=36_500)
    """Days that the rollup by day is kept: five years."""
    keep_audit_days: int = Field(default=400, ge=1, le=36_500)
    """Days that audit rows are kept: who did what."""
    keep_test_audit_days: int = Field(default=30, ge=1, le=36_500)
    """Days that audit rows of tests are kept, if that is less: each test that an agent was ordered to make.
    Of 100 agents that test each other every five minutes a day is 1.4 million rows."""
    memory_mb: int = Field(default=2_048, ge=256, le=10**6)
    """Memory in MB that each of the server's two databases may take: one answers, one rolls up and compacts.
    What does not fit is spilled into `tmp` in the data folder."""
    threads: int = Field(default=2, ge=1, le=256)
    """Threads of each of the two."""
    budget_cpu_bp: int = Field(default=80, ge=1, le=10_000)
    """CPU time that active tests may take on each agent, in 1/100 of a percent of one core; the rest of an
    agent takes about 0.1 %. Tests that a cycle has no room for wait for a later one; paths that matter or
    that changed come first."""
    budget_bytes_per_hour: int = Field(default=36_000_000, ge=100_000, le=10**12)
    """Bytes that active tests may send from each agent in an hour."""
    receipts: Receipts = Receipts.AUTO
    """Of which tests both ends sign the readings (docs/receipts.md): `auto` = of all while a tenant has at
    most 100 agents, and above that of those with a service at one end; `all`, or `off`. 128 bytes of
    signatures a reading."""
    jitter_s: float = Field(default=0.5, ge=0, le=60)
    """Cycles and tests start up to so late, at random, so that nothing happens everywhere at once."""
    tests_at_once: int = Field(default=200, ge=1, le=10_000)
    """Pair tests that run at one time in the whole fleet: as many as this server, and a way that the sites
    share, can bear."""
    test_deadline_s: int = Field(default=60, ge=1, le=300)
    """How long one pair test may take."""
    plan: Plan = ProbePlan()
    """What a pair test in full does once connected."""

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Build settings from arguments (None = not given) and the environment; raises ``SettingsError``."""
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(
                "; ".join(map(_say, error.errors())),
                remedy="see pathgrade server run --help; the environment has the same as PATHGRADE_<NAME>",
            ) from error

    def lake(self) -> LakePlace | None:
        """Where the lake is; None where none is set. Raises ``SettingsError``."""
        if self.lake_catalog is None and self.lake_data is None:
            return None
        try:
            return LakePlace.parse(self.lake_catalog or "", self.lake_data or "")
        except ValueError as error:
            raise SettingsError(
                f"the lake: {error}",
                remedy="set both: --lake-catalog 'postgres:host=... dbname=...' --lake-data /DIR or s3://BUCKET",
            ) from error

    def keep(self) -> Keep:
        """For how long the store keeps what."""
        return Keep(
            readings=self.keep_readings_days,
            hops=self.keep_hops_days,
            flows=self.keep_flows_days,
            receipts=self.keep_receipts_days,
            readings_5m=self.keep_5m_days,
            readings_1h=self.keep_1h_days,
            readings_1d=self.keep_1d_days,
        )

    def limits(self) -> Limits:
        """What each of the store's databases may take."""
        return Limits(memory_mb=self.memory_mb, threads=self.threads)

    def turn_secret(self) -> str | None:
        """Read coturn's shared secret; None where no TURN server is set. Raises ``SettingsError``."""
        if not self.turn:
            return None
        if self.turn_secret_file is None:
            raise SettingsError(
                "--turn is set without --turn-secret-file",
                remedy="write coturn's static-auth-secret to a file and name it",
            )
        return TURN_SECRET.read(self.turn_secret_file)


def _say(fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"]) or "settings"
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"
