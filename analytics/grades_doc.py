"""Writes ``docs/grades.md``, what a letter means: ``python -m analytics.grades_doc [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from analytics.grade import APART, FAILED, STALE, UNREACHABLE
from analytics.predict import LOSS_MATTERS, MODEL_ERROR_LOSSY_PERCENT, MODEL_ERROR_PERCENT
from analytics.rules.load import Profile, ResponseProfile, Rules, StudyProfile, limits_of, load_rules
from analytics.words import percent, span

TARGET: Final = Path("docs/grades.md")


def grades_text(rules: Rules) -> str:
    """The document."""
    profiles = [_profile(name, profile) for name, profile in rules.profiles.items()]
    return "\n".join([_introduction(rules), *profiles, _STUDY, _LEGS])


def _introduction(rules: Rules) -> str:
    samples = rules.samples
    return f"""\
# What a letter means

Generated from `analytics/rules/profiles.toml` (version {rules.version}) by `python -m
analytics.grades_doc`. Do not edit.

A grade is for one direction of one path and one application profile: for `pacs`, the path src -> dst
carries the images, so "can the radiologist open a CT" is the path PACS -> radiologist. Each grade names its
rule and the version of the rules, and can be recomputed from the facts at any time.

| letter | meaning |
|---|---|
| A, B, C | people can work |
| D, F | they cannot: D uncomfortably, F not at all |
| X | no way through: counted as F, said as "cannot connect" (`{UNREACHABLE}`) |
| ? | withheld: the samples do not support a letter. The reason says why |

A letter is withheld rather than guessed:

| when | rule |
|---|---|
| the last test is older than {span(rules.stale_after_s * 1_000_000)} | `{STALE}` |
| the test broke off, also before all rungs were tried | `{FAILED}` |
| fewer round trips than needed: {samples.rtt_p50_n} for a median, {samples.rtt_p95_n} for a 95th percentile \
| the profile's |
| an input is missing, unless what is known makes it D or F already | the profile's |
| the best and the worst outcome that the inputs support are {APART} letters apart or more | the profile's |

Of each input the interval counts, not the value alone: the quartiles of the round trip hold its true
median, the 90th and 99th percentile hold the true 95th (both at least 9 times in 10, binomial), and a loss
has its Wilson score interval at 90 %. Worse input never raises a letter.
"""


def _profile(name: str, profile: Profile) -> str:
    head = "| | A | B | C | D | F |\n|---|---|---|---|---|---|\n"
    rows = "".join(
        f"| {_KEYS[key]} | {' | '.join(f'<= {_LIMIT[key](most)}' for most in limits)} | more |\n"
        for key, limits in limits_of(profile).items()
    )
    about = f"## {name}: {profile.title}\n\n`{profile.rule}`. {profile.about}\n\n"
    return f"{about}{head}{rows}{_NOTES[type(profile)](profile)}"


_KEYS: Final[dict[str, str]] = {
    "most_ms": "time to open",
    "most_rtt_p95_us": "round trip, 95th percentile",
    "most_loss_bp": "loss, the worse direction",
}
_LIMIT: Final[dict[str, Callable[[int], str]]] = {
    "most_ms": lambda ms: span(1_000 * ms),
    "most_rtt_p95_us": span,
    "most_loss_bp": lambda bp: percent(bp / 10_000),
}


def _study_notes(profile: StudyProfile) -> str:
    study = profile.study
    megabytes = study.images * study.image_bytes / 1e6
    return (
        f"\nThe study: {study.images} images of {study.image_bytes:,} bytes ({megabytes:.0f} MB), "
        f"one after the other on one connection.\n"
    )


def _response_notes(profile: ResponseProfile) -> str:
    return "\nThe letter is the worse of the two.\n"


_NOTES: Final[dict[type, Callable[[Any], str]]] = {
    StudyProfile: _study_notes,
    ResponseProfile: _response_notes,
}

_STUDY: Final = f"""\
## How the time to open is predicted

Each image costs a round trip to ask for it, the server's own time, and its transfer: slow start (Kurose and
Ross), then no faster than the capacity, nor than the window that a loss allows (RFC 9438, section 5), which
begins to bind after 1/p segments (Cardwell, Savage, Anderson 2000).

- **What the network allows**, not what a given PACS makes of it. One that waits inside an image is slower:
  Debian's Orthanc, asked by getscu, stops twice an image for a delayed acknowledgement (Nagle), so an image
  costs 3 round trips and 70 ms more. Over 260 ms, 100 images took 87 s where the network alone allows 46 s.
  Learning this per PACS from its own sessions is planned.
- **Loss.** No loss in 300 probes counts as none; that excludes a loss above 0.9 %, not one of 0.2 %, which
  on a long path would matter to a sender with CUBIC. A loss that was seen counts with its interval.
- **The sender's TCP** is not known. The expected time is that under CUBIC, the default of Linux, Windows
  and macOS; the best case is the faster of CUBIC and BBR, the worst case the slower. So where a loss was
  seen on a long path the letter is often withheld, and the reason says that it depends on the sender's TCP.
- **The model's own error** widens the interval by {MODEL_ERROR_PERCENT} % each way, with a loss over \
{percent(LOSS_MATTERS)} by {MODEL_ERROR_LOSSY_PERCENT} %.
- **Capacity** known only as "at least" gives an upper bound of the time: its letter is given where it is C
  or better, or where an infinite capacity would not change it. Without a capacity only D
  or F can be given: where the round trips alone take that long.
"""

_LEGS: Final = """\
## What is blamed

A leg is named as the place where time is added only if it makes up at least half of the least round trip,
it and the legs next to it were measured, and latency is what the outcome waits for (not capacity, not
loss). Otherwise the verdict says what it does know, and no more.
"""


def main(arguments: Sequence[str]) -> None:
    """Write the document to the file named, or to its place in the tree."""
    target = Path(arguments[0]) if arguments else TARGET
    target.write_text(grades_text(load_rules()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
