"""What the threat model and the review say is proven: every test and file that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CLAIMS = ("docs/threats.md", "docs/review.md")
_TEST = re.compile(r"`((?:unit|lab|kernel|property|fuzz|browser)/[\w/]+\.py)(?:::(\w+))?`")
_LINK = re.compile(r"\]\(([\w./-]+\.(?:md|json))(?:#[\w-]+)?\)")


@pytest.mark.parametrize("document", CLAIMS)
def test_each_proof_is_a_test_that_is_there(document: str) -> None:
    named = _TEST.findall((ROOT / document).read_text())
    assert len(named) > 15
    for file, test in named:
        path = ROOT / "tests" / file
        assert path.exists(), f"{document} names {file}"
        if test:
            assert re.search(rf"def {test}\(", path.read_text()), f"{document} names {file}::{test}"


@pytest.mark.parametrize("document", CLAIMS)
def test_each_document_that_is_named_is_there(document: str) -> None:
    for link in _LINK.findall((ROOT / document).read_text()):
        assert ((ROOT / document).parent / link).exists(), f"{document} links to {link}"
