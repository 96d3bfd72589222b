from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.mesh.packet import (
    MOST_TOLD,
    MOST_WHY,
    PROBE_BYTES,
    RAW_BYTES,
    RAW_FIRST_BYTE,
    TOKEN_BYTES,
    Control,
    Counters,
    Done,
    Finished,
    Kind,
    PacketError,
    Probe,
    Raw,
    RawKind,
    SentStamp,
    Start,
    TrainComing,
    TrainResult,
    decode_message,
    decode_raw,
    encode_control,
    quoted_raw,
)
from analytics.measurement import CapacityTrust

u32 = st.integers(0, 2**32 - 1)
ns = st.integers(0, 2**63 - 1)
tokens = st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES)
stamps = st.builds(SentStamp, u32, ns)
probes = st.builds(
    Probe,
    st.sampled_from([Kind.REQUEST, Kind.REPLY]),
    st.integers(1, 2**32 - 1),
    ns,
    ns,
    st.integers(0, 255),
    st.tuples(stamps, stamps),
)
raws = st.one_of(
    st.builds(Raw, st.sampled_from([RawKind.HOP_PROBE, RawKind.HOP_REPLY]), tokens, u32, ns, ns),
    st.builds(Raw, st.just(RawKind.TRAIN), tokens, u32, length=st.integers(RAW_BYTES, 1400)),
)
counts = st.integers(0, 2**31)
bodies = st.one_of(
    st.builds(Start, tokens),
    st.builds(Finished, counts, st.lists(counts, max_size=MOST_TOLD)),
    st.builds(
        Counters,
        counts,
        counts,
        counts,
        st.lists(st.tuples(counts, ns), max_size=MOST_TOLD),
        st.none() | counts,
        st.lists(st.tuples(counts, counts), max_size=MOST_TOLD),
        st.none() | counts,
    ),
    st.builds(TrainComing, st.integers(0, 16), st.integers(2, 256), st.integers(RAW_BYTES, 1500)),
    st.builds(
        TrainResult,
        st.booleans(),
        counts,
        st.none() | counts,
        st.sampled_from(CapacityTrust),
        st.text(max_size=MOST_WHY),
        ns,
        ns,
    ),
    st.just(Done()),
)


@given(probes)
def test_a_probe_reads_back(probe: Probe) -> None:
    data = probe.encode()
    assert len(data) == PROBE_BYTES
    assert decode_message(data) == probe


@given(raws)
def test_a_raw_datagram_reads_back(raw: Raw) -> None:
    data = raw.encode()
    assert len(data) == raw.length
    assert data[0] >= RAW_FIRST_BYTE
    assert decode_raw(data) == raw


@given(st.integers(1, 2**31), bodies)
def test_a_control_message_reads_back(number: int, body: object) -> None:
    control = Control(number, body)  # type: ignore[arg-type]  # any of the union
    assert decode_message(encode_control(control)) == control


@given(probes, st.binary(max_size=80), st.integers(0, PROBE_BYTES))
def test_damage_gives_the_declared_error_or_another_packet(probe: Probe, noise: bytes, cut: int) -> None:
    data = probe.encode()[:cut] + noise
    for decode in (decode_message, decode_raw):
        with contextlib.suppress(PacketError):
            decode(data)


@given(st.integers(1, 2**31), bodies, st.binary(max_size=80), st.integers(0, 400))
def test_a_damaged_control_message_gives_the_declared_error_or_another_one(
    number: int, body: object, noise: bytes, cut: int
) -> None:
    data = encode_control(Control(number, body))[:cut] + noise  # type: ignore[arg-type]  # any of the union
    fitting = data[:2] + len(data).to_bytes(2, "big") + data[4:]
    for damaged in (data, fitting):
        with contextlib.suppress(PacketError):
            decode_message(damaged)


def test_the_longest_answer_fits_into_one_message() -> None:
    most = 2**31
    stamps_told = [(most, 2**63 - 1)] * MOST_TOLD
    full = Counters(most, most, most, stamps_told, most, [(most, most)] * MOST_TOLD, most)
    assert decode_message(encode_control(Control(most, full))) == Control(most, full)
    with pytest.raises(PacketError):
        decode_message(encode_control(Control(1, Finished(1, [1] * (MOST_TOLD + 1)))))


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("empty", b""),
        ("another version", b"\x02" + Probe(Kind.REQUEST, 1, 2).encode()[1:]),
        ("too short", Probe(Kind.REQUEST, 1, 2).encode()[:-1]),
        ("too long", Probe(Kind.REQUEST, 1, 2).encode() + b"\0"),
        ("unknown kind", b"\x01\x09" + Probe(Kind.REQUEST, 1, 2).encode()[2:]),
        ("sequence 0", Probe(Kind.REQUEST, 0, 2).encode()),
    ],
)
def test_refused(what: str, data: bytes) -> None:
    with pytest.raises(PacketError):
        decode_message(data)


@given(st.builds(Raw, st.just(RawKind.HOP_PROBE), tokens, u32))
def test_a_quoted_hop_probe_is_recognised_by_its_first_16_bytes(raw: Raw) -> None:
    data = raw.encode()
    assert quoted_raw(data[:16]) == (raw.token, raw.sequence)
    assert quoted_raw(data[:15]) is None
    assert quoted_raw(b"") is None
