"""Texts in settings, arguments and the environment: addresses, URLs, networks, roles, the lake's place."""

from __future__ import annotations

from collections.abc import Iterator

from shaped import Taken, chosen, either

from agent.mesh.servers import relay_rung
from analytics.errors import LakeSetupError
from analytics.store.lake_place import Bucket, LakePlace, connection_of
from server.accounts.mapping import AmbiguousError, Grant, granted
from server.accounts.proxies import network
from server.accounts.settings import _issuer
from server.errors import SettingsError
from server.metrics.push import _check
from server.settings import Address, _plan, _turn_url

ALLOWED = (ValueError, LakeSetupError, SettingsError, AmbiguousError)
"""pydantic makes a ValueError a line that names the setting."""


def target(data: bytes) -> object:
    return either(
        data, *(lambda body, read=read: read(body.decode("utf-8", "replace")) for read in WAYS), _lake, _roles
    )


def _address(text: str) -> None:
    found = Address.parse(text)
    assert Address.parse(str(found)) == found
    assert 0 <= found.port < 65_536


def _endpoint(text: str) -> None:
    Bucket.from_environment(
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": text}
    )


WAYS = (_address, Grant.parse, network, _turn_url, _issuer, _check, _endpoint, relay_rung, _plan)


def _lake(data: bytes) -> None:
    taken = Taken(data)
    connection_of(LakePlace.parse(taken.text(), taken.text()))


def _roles(data: bytes) -> None:
    grants, _, groups = data.decode("utf-8", "replace").partition("\n")
    granted([Grant.parse(one) for one in grants.split(",")], groups.split(","))


def seeds() -> Iterator[bytes]:
    texts = (
        "[::1]:8440",
        "netops=operator@north",
        "192.0.2.0/24",
        "turn:h:3478?transport=tcp",
        "https://id/x",
        "http://127.0.0.1:4318/v1/metrics",
        "https://s3.example.org",
        "turns:h:5349",
        '{"probes":300}',
    )
    for way, text in enumerate(texts):
        yield chosen(way, text.encode())
    catalog, place = b"ducklake:postgres:host=h dbname=d user=u", b"s3://bucket/prefix"
    yield chosen(len(texts), bytes([len(catalog)]) + catalog + bytes([len(place)]) + place)
    yield chosen(len(texts) + 1, b"a=viewer,*=admin@*,b=operator@north\na,b")
