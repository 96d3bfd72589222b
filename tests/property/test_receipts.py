"""Receipts: one encoding of a reading, made again from the store; one flipped bit anywhere is refused."""

from __future__ import annotations

import hashlib
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from analytics import receipts
from analytics.batch import COLUMNS, SCHEMA_VERSION, pack_batch
from analytics.errors import SealError
from analytics.measurement import Column, Reading
from analytics.receipts import (
    MOST_READING,
    check_seen,
    check_sent,
    columns_of,
    decode,
    encode,
    sign_seen,
    sign_sent,
)
from analytics.store.store import Store
from tests.unit.analytics.facts import put

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


def drawn(dice: random.Random, column: Column) -> Any:
    """A value that a column may hold, by its own description."""
    if column.nullable and dice.random() < 0.3:
        return None
    if column.kind == "int":
        least, most = column.ge or 0, column.le if column.le is not None else 2**62
        return dice.choice([least, most, dice.randint(least, min(most, 10_000))])
    if column.choices:
        return dice.choice(column.choices)
    text = (
        "pacs"
        if column.pattern
        else dice.choice(["", "h\u00e9llo \N{SNOWMAN}", "x" * (column.max_length or 1)])
    )
    return text[: column.max_length]


def made(seed: int) -> Reading:
    """A reading that says anything a reading may say: drawn by hand, for 56 strategies are slow."""
    dice = random.Random(seed)
    return msgspec.convert({column.name: drawn(dice, column) for column in COLUMNS["readings"]}, Reading)


READINGS = st.integers(0, 2**32).map(made)


@given(READINGS)
def test_a_reading_comes_back_as_it_went(reading: Reading) -> None:
    assert decode(encode(reading)) == (reading, SCHEMA_VERSION)


@given(READINGS, st.data())
def test_one_flipped_bit_anywhere_is_refused(reading: Reading, data: st.DataObject) -> None:
    body = encode(reading)
    for sign, check in ((sign_sent, check_sent), (sign_seen, check_seen)):
        signature = sign(body, KEY)
        whole = bytearray(signature + body)
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        whole[bit // 8] ^= 1 << bit % 8
        check(body, signature, PUBLIC)
        with pytest.raises(SealError):
            check(bytes(whole[64:]), bytes(whole[:64]), PUBLIC)


@given(READINGS)
def test_one_ends_signature_is_not_taken_for_the_others(reading: Reading) -> None:
    body = encode(reading)
    with pytest.raises(SealError):
        check_seen(body, sign_sent(body, KEY), PUBLIC)
    with pytest.raises(SealError):
        check_sent(body, sign_seen(body, KEY), PUBLIC)


@given(st.one_of(st.binary(max_size=600), st.binary(max_size=300).map(lambda tail: b"\0\3" + tail)))
def test_whatever_reads_is_written_the_same(noise: bytes) -> None:
    try:
        reading, layout = decode(noise)
    except SealError:
        return
    assert encode(reading, layout) == noise


@given(READINGS, st.binary(min_size=1, max_size=20), st.integers(1, 40))
def test_a_reading_has_one_encoding_only(reading: Reading, more: bytes, less: int) -> None:
    body = encode(reading)
    for wrong in (body + more, body[:-less]):
        with pytest.raises(SealError):
            decode(wrong)


@given(READINGS, st.data())
def test_any_flipped_bit_reads_as_something_else_or_not_at_all(reading: Reading, data: st.DataObject) -> None:
    body = bytearray(encode(reading))
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    try:
        changed, layout = decode(bytes(body))
    except SealError:
        return
    assert encode(changed, layout) == body
    assert changed != reading


def test_the_stored_row_gives_the_very_bytes_that_were_signed(tmp_path: Path) -> None:
    rows = [
        msgspec.structs.replace(made(n), tenant="default", test=f"t{n}", src="pacs", dst=f"d{n}")
        for n in range(200)
    ]
    signed = {reading.test: encode(reading) for reading in rows}
    with closing(Store.open(tmp_path)) as store:
        put(store, pack_batch(agent="pacs", boot="0123abcd", batch=1, tables={"readings": rows}))
        store.seal()
        stored = store.readings_latest("default")
    assert {reading.test: encode(reading) for reading in stored} == signed


@pytest.mark.parametrize("text", ["\N{SNOWMAN}" * 1000, "x" * 1000])
def test_what_is_too_long_to_be_signed_is_one_clear_error(text: str) -> None:
    long = {"rungs_failed": text, "error": text[:500], "local_candidate": text[:255]}
    reading = msgspec.structs.replace(made(1), **long)
    if text.isascii():
        assert len(encode(reading)) < MOST_READING // 2
        return
    with pytest.raises(SealError, match="at most"):
        encode(msgspec.structs.replace(reading, remote_candidate=text[:255]))


def test_layouts_stay_as_they_are() -> None:
    """What was signed must be checked by every later release: a layout's columns and order never change."""
    names = ",".join(column.name for column in columns_of(3))
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "19cec33b705243fa"


@pytest.mark.parametrize("layout", [0, 1, 2, SCHEMA_VERSION + 1, 65_535])
def test_a_layout_that_nobody_signed_is_refused(layout: int) -> None:
    with pytest.raises(SealError, match="layout"):
        decode(layout.to_bytes(2, "big") + bytes(100))


def test_signatures_are_written_one_way_only() -> None:
    text = receipts.signature_text(bytes(range(64)))
    assert receipts.signature_bytes(text) == bytes(range(64))
    for wrong in ("", text + "=", text[:-1], text + "\n", " " + text, text[:-1] + "B", "\N{SNOWMAN}" * 86):
        with pytest.raises(SealError):
            receipts.signature_bytes(wrong)
