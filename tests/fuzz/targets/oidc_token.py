"""ID tokens of an OpenID Connect provider: signed by the target, or as they come."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc._rfc8037.jws_eddsa import EdDSAAlgorithm
from joserfc.jwk import OKPKey
from shaped import Taken, chosen, either
from signers import Signer

from analytics.errors import UNREADABLE
from server.accounts.oidc_token import checked_claims, groups_in, name_in
from server.errors import IdentityError

ALLOWED = (IdentityError,)
SHORT_RUNS = 120
NOW_S = 1_764_000_000
KEY = Signer(bytes(range(32)))
CHECK = EdDSAAlgorithm.verify


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


KEYS = {
    "keys": [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": "k",
            "x": _base64(KEY.public).decode(),
        }
    ]
}
HEAD = b'{"alg":"EdDSA","kid":"k"}'


def target(data: bytes) -> object:
    EdDSAAlgorithm.verify = _holds
    try:
        return either(data, _claims, _signed, _token, _keys)
    finally:
        EdDSAAlgorithm.verify = CHECK


def _holds(self: EdDSAAlgorithm, message: bytes, signature: bytes, key: OKPKey) -> bool:
    """As ``signers.known``, for a library's own check."""
    found = key.get_op_key("verify")
    is_ours = isinstance(found, Ed25519PublicKey) and found.public_bytes_raw() == KEY.public
    return (is_ours and signature == KEY.sign(message)) or CHECK(self, message, signature, key)


def _claims(body: bytes) -> None:
    _checked(_made(HEAD, body))


def _signed(data: bytes) -> None:
    taken = Taken(data)
    _checked(_made(taken.some(), taken.rest()))


def _token(data: bytes) -> None:
    _checked(data)


def _keys(data: bytes) -> None:
    """What a provider publishes as its keys."""
    try:
        keys = msgspec.json.decode(data)
    except UNREADABLE:
        return
    if isinstance(keys, list) and all(isinstance(key, dict) for key in keys):
        _checked(_made(HEAD, _good()), {"keys": keys})


def _checked(token: bytes, keys=KEYS) -> None:
    claims = checked_claims(
        token.decode("latin-1"), keys, issuer="https://id", client_id="pathgrade", nonce="n", now_s=NOW_S
    )
    assert claims["iss"] == "https://id"
    assert claims["nonce"] == "n"
    assert name_in(claims, "name")
    assert all(isinstance(group, str) for group in groups_in(claims, "groups"))


def _made(head: bytes, body: bytes) -> bytes:
    signed = _base64(head) + b"." + _base64(body)
    return signed + b"." + _base64(KEY.sign(signed))


def _good(**more: object) -> bytes:
    claims = {
        "iss": "https://id",
        "aud": "pathgrade",
        "sub": "1",
        "exp": NOW_S + 60,
        "iat": NOW_S,
        "nonce": "n",
    }
    return msgspec.json.encode(claims | {"name": "ada", "groups": ["a", "b"]} | more)


def seeds() -> Iterator[bytes]:
    yield chosen(0, _good())
    yield chosen(0, _good(aud=["pathgrade", "x"], azp="pathgrade", groups="one"))
    yield chosen(0, b"[]")
    yield chosen(1, bytes([len(HEAD)]) + HEAD + _good())
    yield chosen(2, _made(HEAD, _good()))
    yield chosen(2, _base64(b'{"alg":"none"}') + b"." + _base64(_good()) + b".")
    yield chosen(3, msgspec.json.encode(KEYS["keys"]))
