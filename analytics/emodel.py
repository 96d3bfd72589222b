"""The E-model: how good a conversation can be over a path (ITU-T G.107, narrowband). Pure.

``R = Ro - Is - Id - Ie,eff + A`` of the recommendation's equation 7-1, with all of its terms: the shortcut of
Cole and Rosenbluth for the delay is 9 points too pessimistic at 500 ms. Letters are the recommendation's;
milliseconds and decibels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """What a codec does to speech (ITU-T G.113 appendix I)."""

    impairment: float = 0.0  # Ie, without loss
    robustness: float = 4.3  # Bpl, to loss


G711 = Codec(robustness=25.1)
"""G.711 with loss concealment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """One direction of a conversation; the defaults are those of G.107 table 2."""

    delay_ms: float = 0.0  # Ta, mouth to ear
    loss_percent: float = 0.0  # Ppl
    burst_ratio: float = 1.0  # BurstR: mean length of a run of losses, to that of random loss
    codec: Codec = Codec()
    slr: float = 8.0
    rlr: float = 2.0
    stmr: float = 15.0
    dr: float = 3.0
    ds: float = 3.0
    telr: float = 65.0
    wepl: float = 110.0
    qdu: float = 1.0
    nc: float = -70.0
    nfor: float = -64.0
    ps: float = 35.0
    pr: float = 35.0
    advantage: float = 0.0  # A


def rating(talk: Talk) -> float:
    """The transmission rating factor R; 93.2 with all defaults."""
    noise = _noise(talk)
    ro = _ratio(talk, noise)
    ist = _sidetone(talk)
    impairments = _loudness(talk, noise) + ist + _quantising(talk, ro)
    delay = _talker_echo(talk, noise, ist) + _listener_echo(talk, ro) + _too_late(talk.delay_ms)
    return ro - impairments - delay - effective_impairment(talk) + talk.advantage


class ConstantTerms(NamedTuple):
    """The terms of R that depend on neither delay nor loss."""

    ro: float  # basic signal-to-noise ratio
    loudness: float  # Iolr
    quantising: float  # Iq
    echo_noise: float  # Roe (7-21)


def constant_terms(talk: Talk) -> ConstantTerms:
    """Compute them once, for an engine that rates a million paths."""
    noise = _noise(talk)
    ro = _ratio(talk, noise)
    return ConstantTerms(ro, _loudness(talk, noise), _quantising(talk, ro), _echo_noise(talk, noise))


def effective_impairment(talk: Talk) -> float:
    """Ie,eff: what codec and loss take (equation 7-29)."""
    if not talk.loss_percent:
        return talk.codec.impairment
    effect = talk.loss_percent / (talk.loss_percent / talk.burst_ratio + talk.codec.robustness)
    return talk.codec.impairment + (95 - talk.codec.impairment) * effect


def mos(r: float) -> float:
    """Mean opinion score, 1 to 4.5, of a rating (equation B-4)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6


def good_or_better(r: float) -> float:
    """Share of people, 0..1, who would call it good (equation B-2)."""
    return _normal((r - 60) / 16)


def poor_or_worse(r: float) -> float:
    """Share of people, 0..1, who would call it poor (equation B-3)."""
    return _normal((45 - r) / 16)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _ratio(talk: Talk, noise: float) -> float:
    """Ro (7-2)."""
    return 15 - 1.5 * (talk.slr + noise)


def _noise(talk: Talk) -> float:
    """No: circuit noise, room noise at both sides, noise floor, as a sum of powers (7-3 to 7-7)."""
    olr, listener = talk.slr + talk.rlr, talk.stmr + talk.dr
    send_side = talk.ps - talk.slr - talk.ds - 100 + 0.004 * (talk.ps - olr - talk.ds - 14) ** 2
    room = talk.pr + 10 * math.log10(1 + 10 ** ((10 - listener) / 10))
    receive_side = talk.rlr - 121 + room + 0.008 * (room - 35) ** 2
    floor = talk.nfor + talk.rlr
    return 10 * math.log10(sum(10 ** (one / 10) for one in (talk.nc, send_side, receive_side, floor)))


def _loudness(talk: Talk, noise: float) -> float:
    """Iolr: a connection that is too loud (7-9, 7-10)."""
    x = talk.slr + talk.rlr + 0.2 * (64 + noise - talk.rlr)
    return 20 * (_root(x / 8, 8) - x / 8)


def _sidetone(talk: Talk) -> float:
    """Ist: a sidetone that is not at its best (7-11, 7-12); T is the delay of the echo."""
    heard = 10 ** (-talk.stmr / 10) + math.exp(-talk.delay_ms / 4) * 10 ** (-talk.telr / 10)
    stmr = -10 * math.log10(heard)
    return (
        12 * _root((stmr - 13) / 6, 8)
        - 28 * _root((stmr + 1) / 19.4, 35)
        - 13 * _root((stmr - 3) / 33, 13)
        + 29
    )


def _quantising(talk: Talk, ro: float) -> float:
    """Iq: distortion by quantising (7-13 to 7-17)."""
    q = 37 - 15 * math.log10(talk.qdu)
    g = 1.07 + 0.258 * q + 0.0602 * q * q
    y, z = (ro - 100) / 15 + 46 / 8.4 - g / 9, 46 / 30 - g / 40
    return 15 * math.log10(1 + math.pow(10, y) + math.pow(10, z))


def _talker_echo(talk: Talk, noise: float, ist: float) -> float:
    """Idte (7-19 to 7-23)."""
    t = talk.delay_ms
    terv = talk.telr - 40 * math.log10((1 + t / 10) / (1 + t / 150)) + 6 * math.exp(-0.3 * t * t)
    if talk.stmr < 9:
        terv += ist / 2
    roe, re = _echo_noise(talk, noise), 80 + 2.5 * (terv - 14)
    idte = ((roe - re) / 2 + math.sqrt((roe - re) ** 2 / 4 + 100) - 1) * (1 - math.exp(-t))
    return math.hypot(idte, ist) if talk.stmr > 20 else idte


def _echo_noise(talk: Talk, noise: float) -> float:
    return -1.5 * (noise - talk.rlr)


def _listener_echo(talk: Talk, ro: float) -> float:
    """Idle (7-24, 7-25); the round trip of the four-wire loop is twice the delay."""
    rle = 10.5 * (talk.wepl + 7) * math.pow(2 * talk.delay_ms + 1, -0.25)
    return (ro - rle) / 2 + math.sqrt((ro - rle) ** 2 / 4 + 169)


def _too_late(delay_ms: float) -> float:
    """Idd: people talk into each other (7-27, 7-28)."""
    if delay_ms <= 100:
        return 0.0
    x = math.log2(delay_ms / 100)
    return 25 * (_root(x, 6) - 3 * _root(x / 3, 6) + 2)


def _root(x: float, n: int) -> float:
    """(1 + x^n)^(1/n), which the recommendation bends its lines with."""
    return math.pow(1 + math.pow(x, n), 1 / n)
