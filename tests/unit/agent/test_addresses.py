"""The addresses that a host tells the server."""

from __future__ import annotations

import ipaddress

import ifaddr
import pytest

from agent.addresses import own_addresses, told
from analytics.wire import MAX_ADDRESSES, Hello, decode_from_agent, encode


def test_addresses_that_mean_nothing_elsewhere_are_not_told() -> None:
    found = [
        "127.0.0.1",
        "::1",
        "fe80::1%eth0",
        "169.254.3.4",
        "10.0.0.9",
        "10.0.0.10",
        "2001:db8::1",
        "10.0.0.9",
    ]
    assert told(found) == ["10.0.0.9", "10.0.0.10", "2001:db8::1"]


def test_a_host_of_many_containers_tells_no_more_than_the_message_holds() -> None:
    many = told(f"10.{at >> 8}.{at & 255}.1" for at in range(1000))
    assert len(many) == MAX_ADDRESSES
    hello = Hello(version="1", boot="b", addresses=many)
    assert decode_from_agent(encode(hello)) == hello


def test_this_host_tells_its_own() -> None:
    for text in own_addresses():
        assert not ipaddress.ip_address(text).is_loopback


def test_a_kernel_that_does_not_say_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(ifaddr, "get_adapters", refuse)
    assert own_addresses() == []
