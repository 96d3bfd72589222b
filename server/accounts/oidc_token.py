"""What an OpenID Connect provider signs of a person, checked (OpenID Connect Core 1.0, section 3.1.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from server.errors import IdentityError

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "Ed25519", "EdDSA")
"""Signatures by a key that only the provider has: never "none", and none by the client's secret."""
LEEWAY_S: Final = 60
"""By which the two clocks may differ."""
LONGEST_NAME: Final = 128
MOST_GROUPS: Final = 1_000


def checked_claims(
    id_token: str, keys: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now_s: int
) -> dict[str, Any]:
    """Give what a token claims: signed by a key of this issuer, for us, for this login, not expired.

    Raises ``IdentityError``; ``UnknownKeyError`` where the signer's key is not among them.
    """
    try:
        token = jwt.decode(id_token, KeySet.import_key_set({"keys": list(keys["keys"])}), list(ALGORITHMS))
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise UnknownKeyError(
            f"the ID token is not signed by the provider: {error}", remedy=_REMEDY
        ) from error
    claims = CodeIDToken(
        token.claims,
        token.header,
        options={
            "iss": {"essential": True, "value": issuer},
            "aud": {"essential": True, "value": client_id},
            "exp": {"essential": True},
            "nonce": {"essential": True, "value": nonce},
        },
        params={"nonce": nonce, "client_id": client_id},
    )
    try:
        claims.validate(now=now_s, leeway=LEEWAY_S)
    except (JoseError, ValueError, TypeError) as error:
        raise IdentityError(f"the ID token does not hold: {error}", remedy=_REMEDY) from error
    return dict(claims)


class UnknownKeyError(IdentityError):
    """The token's signature is by no key that the provider has published, as far as we know them."""


def name_in(claims: Mapping[str, Any], claim: str) -> str:
    """Take the name for the audit log; the subject where that claim is missing. Raises ``IdentityError``."""
    name = claims.get(claim) or claims.get("sub")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise IdentityError(f"the ID token's {claim} is not a name", remedy="set oidc_name_claim to another")
    return name


def groups_in(claims: Mapping[str, Any], claim: str) -> list[str]:
    """Take the groups; none where the claim is missing or is no list of texts."""
    found = claims.get(claim, [])
    listed = [found] if isinstance(found, str) else found
    return (
        [group for group in listed if isinstance(group, str)][:MOST_GROUPS]
        if isinstance(listed, list)
        else []
    )


_REMEDY: Final = "check oidc_issuer and oidc_client_id, and that both hosts' clocks are right"
