"""Orders of an honest server are followed once; those of a lying one are refused, each for its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.errors import TrustError
from agent.identity import Identity, create
from agent.mesh.peers import KnownPeers
from agent.mesh.trust import Guard, Me, Reason
from agent.own_policy import OwnPolicy, OwnRules
from analytics import wire
from analytics.measurement import Rung
from analytics.policy import NOT_TESTED, most_sent
from analytics.trust import Grant, ServerTime, fingerprint_bytes, seal
from analytics.wire import Welcome

A, B, EVE = create("a"), create("b"), create("b")  # Eve says that she is b
SERVER, OTHER_SERVER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NOW_US = 1_800_000_000_000_000


class Bench:
    """Agent a's guard, and a server whose words the test chooses."""

    def __init__(
        self, folder: Path, *, key: Ed25519PrivateKey = SERVER, rules: OwnRules | None = None
    ) -> None:
        self.monotonic_ns = 10**9
        self.wall_us = NOW_US  # 2027-01-15, a Friday, 08:00 UTC
        self.own = OwnPolicy(
            rules or OwnRules(),
            "a",
            monotonic_ns=lambda: self.monotonic_ns,
            wall_us=lambda: self.wall_us,
        )
        self.guard = Guard(
            Me("a", "default", A.fingerprint),
            SERVER.public_key().public_bytes_raw(),
            KnownPeers(folder),
            monotonic_ns=lambda: self.monotonic_ns,
            own=self.own,
        )
        self.nonces = 0
        self.connect(key)

    def connect(self, key: Ed25519PrivateKey = SERVER, *, now_us: int = NOW_US) -> None:
        challenge = self.guard.challenge()
        time = seal(ServerTime(challenge=challenge, now_us=now_us).encode(), key)
        self.guard.on_welcome(Welcome(tenant="default", server_version="1", time=time))

    def later(self, seconds: float) -> None:
        self.monotonic_ns += round(seconds * 1e9)

    def grant(self, key: Ed25519PrivateKey = SERVER, **changes: Any) -> bytes:
        self.nonces += 1
        given: dict[str, Any] = {
            "tenant": "default",
            "test": "t1",
            "cycle": 1,
            "src": "a",
            "dst": "b",
            "src_fingerprint": fingerprint_bytes(A.fingerprint),
            "dst_fingerprint": fingerprint_bytes(B.fingerprint),
            "issued_us": NOW_US + 1,
            "expires_us": NOW_US + 65_000_000,
            "nonce": self.nonces.to_bytes(16, "big"),
            "most_probes": 300,
            "most_bytes": most_sent(wire.ProbePlan()),
            "most_s": 60,
            "src_site": "here",
            "dst_site": "there",
            "rule": "r1",
        }
        return seal(Grant(**(given | changes)).encode(), key)

    def order(self, grant: bytes | None = None, *, end: Identity = B, **changes: Any) -> wire.TestOrder:
        given: dict[str, Any] = {
            "test": "t1",
            "cycle": 1,
            "peer": "b",
            "peer_fingerprint": end.fingerprint,
            "controlling": True,
            "rungs": [Rung.LAN],
            "ice_servers": [],
            "grant": self.grant() if grant is None else grant,
            "peer_identity_key": end.public_key,
            "peer_binding": end.binding("default", now_s=NOW_US // 1_000_000),
        }
        return wire.TestOrder(**(given | changes))

    def refused(self, order: wire.TestOrder, reason: Reason) -> str:
        before = self.guard.refused[reason]
        with pytest.raises(TrustError) as caught:
            self.guard.admit(order)
        assert caught.value.reason == reason
        assert self.guard.refused[reason] == before + 1
        return str(caught.value)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_honest_order_is_followed_by_either_end(bench: Bench) -> None:
    bench.guard.admit(bench.order())
    turned = bench.grant(
        src="b",
        dst="a",
        src_fingerprint=fingerprint_bytes(B.fingerprint),
        dst_fingerprint=fingerprint_bytes(A.fingerprint),
    )
    bench.guard.admit(bench.order(turned, controlling=False))
    assert not bench.guard.refused


def for_eve(bench: Bench) -> bytes:
    return bench.grant(dst_fingerprint=fingerprint_bytes(EVE.fingerprint))


def test_a_lying_server_cannot_put_itself_in_a_peers_place(bench: Bench) -> None:
    bench.guard.admit(bench.order())
    said = bench.refused(bench.order(for_eve(bench), end=EVE), Reason.CHANGED)
    assert "pathgrade agent peers forget b" in said
    # With b's own identity key, which she knows, but cannot sign with:
    posing = {"peer_fingerprint": EVE.fingerprint}
    said = bench.refused(bench.order(for_eve(bench), **posing), Reason.BINDING)
    assert "another certificate" in said
    # With b's key beside a binding by her own:
    eves = EVE.binding("default", now_s=NOW_US // 1_000_000)
    bench.refused(bench.order(for_eve(bench), **posing, peer_binding=eves), Reason.BINDING)
    bench.guard.admit(bench.order())  # and b is tested on


def test_a_grant_is_good_for_once(bench: Bench) -> None:
    order = bench.order()
    bench.guard.admit(order)
    bench.refused(order, Reason.REPLAYED)
    bench.refused(order, Reason.REPLAYED)


def test_a_stale_grant_is_refused_also_by_one_that_forgot_its_nonces(bench: Bench, tmp_path: Path) -> None:
    grant = bench.grant()
    bench.later(66)
    assert "expired 1 s ago" in bench.refused(bench.order(grant), Reason.STALE)
    started_again = Bench(tmp_path)
    started_again.connect(now_us=NOW_US + 10_000_000)
    assert "before this connection" in started_again.refused(bench.order(grant), Reason.STALE)


def test_nonces_are_forgotten_with_their_grants(bench: Bench) -> None:
    for number in range(10):
        later_us = number * 60_000_000
        bench.guard.admit(
            bench.order(
                bench.grant(issued_us=NOW_US + later_us + 1, expires_us=NOW_US + later_us + 65_000_000)
            )
        )
        bench.later(60)
    assert len(bench.guard._nonces) <= 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"src": "c"}, "src"),
        ({"dst": "c"}, "dst"),
        ({"src": "b", "dst": "a"}, "src, dst"),
        ({"test": "t2"}, "test"),
        ({"cycle": 2}, "cycle"),
        ({"tenant": "other"}, "tenant"),
        ({"src_fingerprint": bytes(32)}, "certificate of src"),
        ({"dst_fingerprint": bytes(32)}, "certificate of dst"),
    ],
)
def test_a_grant_for_others_is_refused(bench: Bench, changes: dict[str, Any], word: str) -> None:
    assert word in bench.refused(bench.order(bench.grant(**changes)), Reason.OTHERS)


@pytest.mark.parametrize(
    "changes", [{"controlling": False}, {"peer": "c"}, {"test": "t2"}, {"peer_fingerprint": ""}], ids=str
)
def test_an_order_that_says_something_else_than_its_grant_is_refused(
    bench: Bench, changes: dict[str, Any]
) -> None:
    bench.refused(bench.order(**changes), Reason.OTHERS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda bench: {"grant": b""}, Reason.MISSING),
        (lambda bench: {"grant": bench.grant(OTHER_SERVER)}, Reason.FORGED),
        (lambda bench: {"grant": B.binding("default", now_s=1)}, Reason.FORGED),
        (lambda bench: {"grant": seal(b"x" * 200, SERVER)}, Reason.FORGED),
        (lambda bench: {"peer_binding": b""}, Reason.BINDING),
        (lambda bench: {"peer_identity_key": b""}, Reason.BINDING),
        (lambda bench: {"peer_identity_key": EVE.public_key}, Reason.BINDING),
        (lambda bench: {"peer_binding": bench.grant()}, Reason.BINDING),
        (lambda bench: {"peer_binding": B.binding("other", now_s=NOW_US // 10**6)}, Reason.BINDING),
        (
            lambda bench: {"peer_binding": B.binding("default", now_s=NOW_US // 10**6 - 400 * 86_400)},
            Reason.BINDING,
        ),
    ],
)
def test_what_is_missing_or_forged_is_refused(
    bench: Bench, change: Callable[[Bench], dict[str, Any]], reason: Reason
) -> None:
    bench.refused(bench.order(**change(bench)), reason)


def test_one_flipped_bit_anywhere_in_an_order_is_refused(bench: Bench) -> None:
    order = bench.order()
    for field in ("grant", "peer_binding", "peer_identity_key"):
        value = getattr(order, field)
        for bit in range(0, 8 * len(value), 3):
            flipped = bytearray(value)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(TrustError):
                bench.guard.admit(msgspec.structs.replace(order, **{field: bytes(flipped)}))
    bench.guard.admit(order)


def test_a_server_that_is_not_the_one_enrolled_at_orders_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, key=OTHER_SERVER)
    said = bench.refused(bench.order(bench.grant(OTHER_SERVER)), Reason.NO_TIME)
    assert "does not prove to be the one enrolled at" in said


def test_an_old_answer_to_another_challenge_tells_no_time(bench: Bench) -> None:
    old = bench.guard.challenge()
    bench.guard.challenge()
    time = seal(ServerTime(challenge=old, now_us=NOW_US).encode(), SERVER)
    bench.guard.on_welcome(Welcome(tenant="default", server_version="1", time=time))
    bench.refused(bench.order(), Reason.NO_TIME)


def test_a_server_of_before_grants_is_named(bench: Bench) -> None:
    bench.guard.challenge()
    bench.guard.on_welcome(Welcome(tenant="default", server_version="1"))
    assert "0 bytes are nothing signed" in bench.refused(bench.order(), Reason.NO_TIME)


def test_the_hosts_clock_is_never_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> int:
        raise AssertionError("the wall clock")

    monkeypatch.setattr("time.time", asked)
    monkeypatch.setattr("time.time_ns", asked)
    bench.guard.admit(bench.order())


# --- how much, and this host's own policy -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "grant", "word"),
    [
        ({"plan": wire.ProbePlan(probes=301)}, {"most_bytes": 10**9}, "301 probes"),
        ({"plan": wire.ProbePlan(trains=8)}, {}, "bytes"),
        ({"plan": wire.ProbePlan(hop_rounds=60)}, {}, "bytes"),
        ({"deadline_us": 61_000_000}, {}, "61,000,000 us"),
        ({}, {"most_probes": 0}, "its grant for 0"),
        ({}, {"most_bytes": 0}, "its grant for 0"),
        ({}, {"most_s": 0}, "its grant for 0"),
    ],
)
def test_more_than_the_grant_says_is_refused(
    bench: Bench, order: dict[str, Any], grant: dict[str, Any], word: str
) -> None:
    assert word in bench.refused(bench.order(bench.grant(**grant), **order), Reason.EXCEEDED)


def test_a_grant_of_before_is_refused_as_such(bench: Bench) -> None:
    old = bench.grant()[:-64]
    for version, who in ((1, "server"), (3, "agent")):
        body = old[:7] + bytes([version]) + old[8:]
        order = bench.order(seal(body, SERVER))
        assert f"version {version}; this build takes 2" in bench.refused(order, Reason.VERSION)
        with pytest.raises(TrustError) as caught:
            bench.guard.admit(order)
        assert caught.value.remedy == f"upgrade the {who}"


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"peers": ["c"]}, Reason.OWN_PEER),
        ({"peers": []}, Reason.OWN_PEER),
        ({"peers": ["site:here"]}, Reason.OWN_PEER),
        ({"not_peers": ["b"]}, Reason.OWN_PEER),
        ({"not_peers": ["site:there"]}, Reason.OWN_PEER),
        ({"hours": "09:00-19:00"}, Reason.OWN_HOURS),
        ({"hours": "07:00-08:00"}, Reason.OWN_HOURS),
        ({"days": ["mon"]}, Reason.OWN_HOURS),
        ({"hours": "07:00-09:00", "zone": "Europe/Berlin"}, Reason.OWN_HOURS),
        ({"tests_an_hour": 0}, Reason.OWN_TESTS),
        ({"mb_an_hour": 0}, Reason.OWN_BYTES),
    ],
    ids=str,
)
def test_what_the_hosts_own_policy_does_not_allow_is_refused_whoever_signed_it(
    tmp_path: Path, rules: dict[str, Any], reason: Reason
) -> None:
    bench = Bench(tmp_path, rules=msgspec.convert(rules, OwnRules))
    said = bench.refused(bench.order(), reason)
    assert said.startswith(f"{NOT_TESTED}: a's own policy refuses this test: ")
    assert not KnownPeers(tmp_path).listed()  # nor is its key remembered


@pytest.mark.parametrize(
    "rules",
    [
        {"peers": ["b"]},
        {"peers": ["site:there"], "not_peers": ["site:here", "c"]},
        {"hours": "08:00-08:01", "days": ["fri"]},
        {"hours": "22:00-09:00", "days": ["thu"]},
        {"tests_an_hour": 1, "mb_an_hour": 1, "cpu_bp": 1},
    ],
    ids=str,
)
def test_what_it_allows_is_followed(tmp_path: Path, rules: dict[str, Any]) -> None:
    bench = Bench(tmp_path, rules=msgspec.convert(rules, OwnRules))
    assert bench.guard.admit(bench.order()).rule == "r1"


def test_a_test_that_is_refused_for_its_peer_is_not_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rules=OwnRules(tests_an_hour=1))
    KnownPeers(tmp_path).check("b", EVE.public_key, now_us=NOW_US)
    bench.refused(bench.order(), Reason.CHANGED)
    KnownPeers(tmp_path).forget("b")
    bench.guard.admit(bench.order())


def test_tests_bytes_and_cpu_are_counted_over_an_hour(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rules=OwnRules(tests_an_hour=2, mb_an_hour=1, cpu_bp=100))

    def again(minutes: float) -> wire.TestOrder:
        bench.later(60 * minutes)
        bench.connect(now_us=NOW_US + bench.monotonic_ns // 1_000)
        begin_us = NOW_US + bench.monotonic_ns // 1_000 + 1
        return bench.order(bench.grant(issued_us=begin_us, expires_us=begin_us + 65_000_000))

    bench.guard.admit(again(0))
    bench.own.ended(sent_bytes=700_000, cpu_us=1_000_000)
    bench.refused(again(10), Reason.OWN_BYTES)  # 0.7 MB are sent, and 0.4 may come
    bench.guard.admit(again(51))
    bench.own.ended(sent_bytes=1_000, cpu_us=20_000_000)
    bench.refused(again(1), Reason.OWN_CPU)  # 36 s an hour: 20 are taken, and another may take 20
    bench.own.ended(sent_bytes=1_000, cpu_us=1)
    bench.guard.admit(again(1))
    bench.refused(again(1), Reason.OWN_TESTS)
    bench.guard.admit(again(61))
