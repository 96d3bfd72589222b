"""Who signed a reading, in sentences: for the page of a path. Pure."""

from __future__ import annotations

from typing import Final

from server.pages import text
from server.proofs import Proof
from server.receipts import SMALL_FLEET, Unsigned

REFUSED: Final = "refused: "
WHY_NOT: Final = {
    "not-connected": "the two were not connected, so there was nobody to ask",
    "not-asked-for": "it was not asked for",
    "broke-off": "the test broke off",
    "peer-silent": "{dst} left, or did not answer",
    "peer-too-old": "{dst} runs an agent of before, which does not sign",
    "signature": "what {dst} sent back is not by the key that {src} knows it by",
}
"""What src says of dst (``docs/receipts.md``)."""
WHY_NONE: Final = {
    Unsigned.OFF: "receipts are switched off in the server's settings",
    Unsigned.LARGE: (
        f"above {SMALL_FLEET} agents only tests with a service at an end are signed (setting receipts: auto)"
    ),
    Unsigned.NOT_HERE: (
        "{src} has sent no receipt of it: an agent of before does not sign, and old receipts are let go of"
    ),
}


def says(proof: Proof) -> str:
    """Say who signed, and where somebody did not, why, as far as it is known."""
    names = {"src": proof.src, "dst": proof.dst}
    if proof.unsigned is not None:
        return f"Not signed: {WHY_NONE[proof.unsigned].format(**names)}."
    if proof.false:
        return f"What was signed does not hold ({proof.false}): the reading is not as its agents sent it."
    if proof.ends == 2:  # all of them
        return f"Signed by both: {proof.src}, which measured, and {proof.dst}, which saw the same."
    return f"Signed by {proof.src} alone: {_why_not(proof.why_not).format(**names)}."


def when(proof: Proof) -> str:
    """Say when it was tested and signed."""
    tested = f"Tested {text.clock(proof.tested_us)}"
    if proof.signed_us is None:
        return f"{tested}."
    return f"{tested}, signed {text.clock(proof.signed_us)} by {proof.src}'s clock."


def commands(proof: Proof) -> list[str]:
    """Name the commands that fetch this test's receipt, and check it without the server."""
    since, until = (text.iso(at_s * 1_000_000) for at_s in (proof.cycle, proof.cycle + 1))
    which = f"--src {proof.src} --dst {proof.dst} --since {since} --until {until}"
    return [
        f"pathgrade receipt export {which} receipt.jsonl",
        "pathgrade receipt verify receipt.jsonl --anchors anchors.toml",
    ]


def _why_not(told: str) -> str:
    if told.startswith(REFUSED):
        return "{dst} refused, as it saw something else (" + _plain(told.removeprefix(REFUSED)) + ")"
    return WHY_NOT.get(told) or (_plain(told) or "it is not said why")


def _plain(told: str) -> str:
    """An agent's own words are no format."""
    return told.replace("{", "{{").replace("}", "}}")
