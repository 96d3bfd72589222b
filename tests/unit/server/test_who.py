"""The decisions about who people are, without a server: passwords, pace, groups, proxies, CSRF."""

import base64

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY
from hypothesis import given
from hypothesis import strategies as st

from server.accounts.devices import device_of, new_device
from server.accounts.first import is_code, new_code
from server.accounts.lookup import FRESH_S, MOST, Lookup
from server.accounts.mapping import AmbiguousError, Grant, granted
from server.accounts.passwords import NOBODYS, Passwords, check_password
from server.accounts.proxies import Proxies, network, said_groups, said_name
from server.accounts.roles import SCOPES, Role, is_home
from server.accounts.throttle import PACES, Failures, Throttle, block_of, keys_of, wait_s
from server.api.access import Scope
from server.api.csrf import comes_from_elsewhere, csrf_key, csrf_token, is_csrf_token
from server.errors import DemandError, SettingsError
from server.pages.door import safe_path
from server.settings import Settings


@pytest.fixture(autouse=True)
def cheap_passwords() -> None:
    """Here they cost what they cost."""


CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def test_passwords_are_kept_as_rfc_9106_says_and_nobodys_costs_the_same() -> None:
    made = Passwords()
    kept = made.hash("correct horse battery")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert extract_parameters(kept) == extract_parameters(NOBODYS) == RFC_9106_LOW_MEMORY
    assert made.fits(kept, "correct horse battery")
    assert not made.fits(kept, "correct horse Battery")
    assert not made.fits(None, "the password of nobody")
    assert not made.fits("not a hash", "x")
    assert not made.is_outdated(kept)
    assert made.is_outdated(CHEAP.hash("x"))


def test_one_password_however_its_letters_are_composed() -> None:
    cheap = Passwords(CHEAP)
    assert cheap.fits(cheap.hash("Grüße aus Köln!!"), "Gru\u0308ße aus Ko\u0308ln!!")


@pytest.mark.parametrize("bad", ["", "elevenchars", "x" * 257, "abababababababab", "my name is ADA, hello"])
def test_passwords_that_are_guessed_are_refused(bad: str) -> None:
    with pytest.raises(DemandError):
        check_password(bad, "ada")


def test_who_fails_waits_longer_each_time_up_to_a_minute() -> None:
    pace = PACES["account"]
    waits = [wait_s(pace, Failures(count, 100.0), 100.0) for count in range(pace.free, pace.free + 8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert wait_s(pace, Failures(pace.free - 1, 100.0), 100.0) == 0
    assert wait_s(pace, Failures(pace.free + 9, 100.0), 161.0) == 0


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), st.booleans()), max_size=60))
def test_failures_take_bounded_memory_and_are_forgotten(tries: list[tuple[str, str, bool]]) -> None:
    throttle = Throttle(most_keys=10)
    for now_s, (name, address, right) in enumerate(tries):
        keys = keys_of(name, address, None)
        throttle.failed(keys, float(now_s))
        if right:
            throttle.succeeded(keys)
        assert len(throttle) <= 10
        assert 0 <= throttle.wait_s(keys, float(now_s)) <= 60
    assert all(throttle.wait_s(keys_of(name, where, None), 1e6) == 0 for name, where, _ in tries)


def test_a_stranger_does_not_keep_out_who_was_here_before() -> None:
    throttle = Throttle()
    for _ in range(50):
        throttle.failed(keys_of("ada", "192.0.2.1", None), 0.0)
    assert throttle.wait_s(keys_of("ada", "192.0.2.9", None), 0.0) == 60
    assert throttle.wait_s(keys_of("ada", "192.0.2.1", "device"), 0.0) == 0
    throttle.succeeded(keys_of("ada", "192.0.2.9", "device"))
    assert throttle.wait_s(keys_of("ada", "192.0.2.9", None), 0.0) == 60  # no new free tries for the guesser


def test_who_has_an_address_has_the_rest_of_its_network_too() -> None:
    assert block_of("2001:db8::1") == block_of("2001:db8::ffff") != block_of("2001:db8:0:1::1")
    assert block_of("::ffff:192.0.2.1") == block_of("192.0.2.1") != block_of("192.0.2.2")


def test_a_device_is_of_one_password() -> None:
    cookie = new_device("kept")
    assert device_of("kept", cookie) == cookie.partition(".")[0]
    for other in ("", None, "x", "x.y", "ü.ü", cookie + "0", "0" * 500):
        assert device_of("kept", other) is None
    assert device_of("another", cookie) is None


def test_the_code_may_be_typed_as_people_type() -> None:
    code = new_code()
    assert len(code.replace("-", "")) == 24  # 120 bits
    assert is_code(code, f" {code.lower().replace('-', ' ')} ")
    assert not is_code(code, "")
    assert not is_code(code, "é")


@given(st.binary(min_size=1), st.binary(min_size=1))
def test_a_token_of_a_page_is_of_one_session(key: bytes, other: bytes) -> None:
    token = csrf_token(key)
    assert is_csrf_token(key, token)
    assert csrf_token(key) != token  # another each time
    if key.rstrip(b"\0") != other.rstrip(b"\0"):  # HMAC pads short keys with zeros
        assert not is_csrf_token(other, token)


@given(st.text())
def test_anything_else_is_no_token(text: str) -> None:
    assert not is_csrf_token(csrf_key("session"), text)
    assert not is_csrf_token(csrf_key("session"), base64.urlsafe_b64encode(text.encode()).decode())


@pytest.mark.parametrize(
    ("headers", "own", "elsewhere"),
    [
        ({"host": "a:1"}, None, False),
        ({"host": "a:1", "origin": "http://a:1"}, None, False),
        ({"host": "a:1", "origin": "https://a:1"}, None, False),
        ({"host": "a:1", "origin": "http://b:1"}, None, True),
        ({"host": "a:1", "origin": "http://a:2"}, None, True),
        ({"host": "a:1", "origin": "null"}, None, True),
        ({"host": "a:1", "origin": "https://p.example"}, "https://p.example", False),
        ({"origin": "null"}, "https://p.example", True),
        ({"origin": "null"}, None, True),
        ({"host": "a:1", "sec-fetch-site": "same-origin", "origin": "https://p"}, None, False),
        ({"host": "a:1", "sec-fetch-site": "cross-site"}, None, True),
        ({"host": "a:1", "sec-fetch-site": "same-site", "origin": "http://a:1"}, None, True),
    ],
)
def test_where_a_request_says_that_it_comes_from(
    headers: dict[str, str], own: str | None, elsewhere: bool
) -> None:
    assert comes_from_elsewhere(headers, own=own) is elsewhere


GRANTS = [
    Grant.parse(text) for text in ("ops=operator", "it=viewer", "n=admin@north", "msp=viewer@*", "*=viewer")
]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], ("*", "viewer", "default")),
        (["ops", "it"], ("ops", "operator", "default")),
        (["n"], ("n", "admin", "north")),
        (["msp", "n", "ops"], ("msp", "viewer", "*")),
    ],
)
def test_groups_give_one_role_in_one_place(groups: list[str], expected: tuple[str, str, str]) -> None:
    found = granted(GRANTS, groups)
    assert found is not None
    assert (found.group, found.role, found.home) == expected


def test_groups_of_two_tenants_are_ambiguous_and_no_group_is_nothing() -> None:
    with pytest.raises(AmbiguousError, match="default, north"):
        granted(GRANTS, ["n", "it"])
    assert granted(GRANTS[:2], ["other"]) is None


@pytest.mark.parametrize("text", ["", "=viewer", "a=", "a=root", "a=viewer@", "a=viewer@North", "a"])
def test_a_mapping_that_does_not_read_is_refused(text: str) -> None:
    if text == "a=viewer@":
        assert Grant.parse(text).home == "default"
        return
    with pytest.raises(ValueError, match="GROUP=ROLE"):
        Grant.parse(text)


def test_only_a_listed_proxy_says_where_somebody_is() -> None:
    proxies = Proxies((network("192.0.2.0/24"), network("2001:db8::/32")))
    said = {"x-forwarded-for": "203.0.113.9, 198.51.100.7, 192.0.2.5", "x-forwarded-proto": "https"}
    assert proxies.client("192.0.2.1", said) == "198.51.100.7"  # what stands before may be made up
    assert proxies.client("::ffff:192.0.2.1", said) == "198.51.100.7"
    assert proxies.client("198.51.100.1", said) == "198.51.100.1"
    assert proxies.client("192.0.2.1", {}) == "192.0.2.1"
    assert proxies.speaks_tls("2001:db8::1", said)
    assert not proxies.speaks_tls("2001:db9::1", said)
    assert not proxies.has("nonsense")


def test_a_name_in_a_header_is_fit_for_the_audit_log() -> None:
    assert said_name({"u": " ben "}, "u") == "ben"
    for bad in ("", "  ", "a\x00b", "x" * 129):
        assert said_name({"u": bad}, "u") is None
    assert said_groups({"g": "a, b|c,,"}, "g") == ["a", "b", "c"]


def test_each_role_has_what_the_one_before_has() -> None:
    viewer, operator, admin = (SCOPES[role] for role in Role)
    assert viewer < operator < admin
    assert Scope.SELF not in admin
    assert is_home("*")
    assert not is_home("**")


def test_what_was_looked_up_counts_for_a_second_and_no_longer_than_a_change() -> None:
    now_s, asked = [0.0], []

    def find(key: str) -> str | None:
        asked.append(key)
        return None if key == "none" else key

    lookup = Lookup(find, clock=lambda: now_s[0])
    assert [lookup("a"), lookup("a"), lookup("none"), lookup("none")] == ["a", "a", None, None]
    assert asked == ["a", "none", "none"]
    now_s[0] = FRESH_S
    lookup("a")
    lookup.forget()
    lookup("a")
    assert asked == ["a", "none", "none", "a", "a"]
    for number in range(MOST + 10):
        lookup(str(number))
    assert len(lookup._found) <= MOST


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/flows?own=1", "/flows?own=1"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("/a\nb", "/"),
        ("evil", "/"),
        ("", "/"),
    ],
)
def test_after_a_login_nobody_is_sent_elsewhere(path: str, safe: str) -> None:
    assert safe_path(path) == safe


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"proxy_roles": "a=root"}, "GROUP=ROLE"),
        ({"proxies": "10.0.0.1/8"}, "host bits"),
        ({"public_url": "pathgrade.example.org"}, "https://HOST"),
        ({"oidc_issuer": "http://login.example.org"}, "not https"),
        ({"session_hours": 0}, "session_hours"),
    ],
)
def test_settings_that_do_not_hold_are_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Settings.load(data="/nowhere", **given)


def test_a_provider_needs_its_other_settings() -> None:
    made = Settings.load(data="/nowhere", oidc_issuer="https://login.example.org", oidc_client_id="pathgrade")
    with pytest.raises(SettingsError, match="public_url"):
        made.oidc_client()
