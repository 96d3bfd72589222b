"""Writes ``docs/grades.md``, what a letter means: ``python -m analytics.grades_doc [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from analytics.calibrate import LEAST_FETCHES
from analytics.fetches import ALIKE
from analytics.grade import FAILED, STALE, UNREACHABLE
from analytics.kinds.table import kind_of
from analytics.letters import APART
from analytics.limit_words import LIMITS
from analytics.passive import HOURS, MOST_GROUPS
from analytics.predict import LOSS_MATTERS, MODEL_ERROR_LOSSY_PERCENT, MODEL_ERROR_PERCENT
from analytics.rules.load import Exchange, Judged, Profile, Rules, limits_of, load_rules
from analytics.words import percent, span

TARGET: Final = Path("docs/grades.md")


def grades_text(rules: Rules) -> str:
    """The document."""
    profiles = [_profile(name, profile) for name, profile in rules.profiles.items()]
    parts = [_introduction(rules), *profiles, _fusion(rules), _applications(rules), _STUDY, _protocols(rules)]
    return "\n".join([*parts, _LEGS])


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
| the test broke off, also before all rungs were tried; or a policy does not allow it | `{FAILED}` |
| fewer round trips than needed: {samples.rtt_p50_n} for a median, {samples.rtt_p95_n} for a 95th percentile \
| the profile's |
| an input is missing, unless what is known makes it D or F already | the profile's |
| the best and the worst outcome that the inputs support are {APART} letters apart or more | the profile's |

Of each input the interval counts, not the value alone: the quartiles of the round trip hold its true
median, the 90th and 99th percentile hold the true 95th (both at least 9 times in 10, binomial), and a loss
has its Wilson score interval at 90 %. Worse input never raises a letter.
"""


def _profile(name: str, profile: Profile) -> str:
    about = f"## {name}: {profile.title}\n\n`{profile.rule}`. {profile.about}\n\n"
    return f"{about}{_limits(profile)}\n{kind_of(profile).notes(profile)}"


def _limits(rule: Judged) -> str:
    rows = (_limits_row(key, limits) for key, limits in limits_of(rule).items())
    return "".join(("| | A | B | C | D | F |\n|---|---|---|---|---|---|\n", *rows))


def _limits_row(key: str, limits: Sequence[int]) -> str:
    name, written = LIMITS[key]
    sign, beyond = ("<=", "more") if key.startswith("most_") else (">=", "less")
    return f"| {name} | {' | '.join(f'{sign} {written(limit)}' for limit in limits)} | {beyond} |\n"


def _applications(rules: Rules) -> str:
    rule = rules.applications
    return f"""\
## {rule.title}

`{rule.rule}`. {rule.about}
`pathgrade apps` lists them for each agent, by process or by destination (remote address, port of the service,
and who connected), with a letter for the last {HOURS} hours and one for each of them (UTC, the last one still
running, "·" = no session). At most the {MOST_GROUPS:,} with the most sessions are graded at once.

{_limits(rule)}
- **Round trip.** The kernel's smoothed round trip of each session that lasted 0.5 s or longer; a shorter one
  has little more than its handshake's. A session that is open for long counts once in each window of 10 s in
  which it did something. A median needs {rules.samples.rtt_p50_n} of them; its interval is that of the order
  statistics that hold the true one 9 times in 10. Histograms keep a median right to 3.2 %.
- **Segments sent again** are those that the peer did not have. What it reported as a duplicate (DSACK, RFC
  2883) was not lost: a timer fired too early, or segments overtook each other. The share has its Wilson
  score interval at 90 %. Only the sender knows it: a host that mostly receives sends few segments, and its
  letter is often withheld; the agent at the other end has it.
- **The sender's own losses.** One that fills a path overflows its own queue: 0.7 % were measured on clean
  links. Up to {percent(rule.most_retransmit_bp[0] / 10_000)} nothing is said; above, it may still be the
  sender's own doing.
- **X** is given where there were attempts and none succeeded. Attempts that fail beside sessions that succeed
  are counted, not graded: most are refused by the far end.
- **Where one input has too few samples** only D and F are given, if the other proves them.
- **Held up.** Of the time in which there was something to send, the kernel knows how long the peer's receive
  window held it up, and how long this host's send buffer. From {rule.held_up_percent} % on, of
  {span(rule.held_up_least_us)} or more, it stands beside the letter as "not the network"; the letter stays.
"""


def _fusion(rules: Rules) -> str:
    rule, samples = rules.fusion, rules.samples
    return f"""\
## {rule.title}

`{rule.rule}`. {rule.about} The numbers are those of the last {span(rule.within_s * 1_000_000)}; the reason
of the grade, the path's page and `pathgrade paths --json` (`fused`) say who measured each, and what the
letter is by the probes alone.

- **Whose sessions.** Those between two agents' hosts, with a port that one of them offers as a service of
  the profile, or that was tagged (`pathgrade services`). An address is an agent's if the mesh reached that
  agent there, if it is on its interfaces alone and means the same at both ends, or if it is the public side
  of a NAT with this one agent behind it. Otherwise nothing is said.
- **Round trip.** The kernel's smoothed round trips of sessions that lasted 0.5 s, as many as the profile
  needs from probes (a median {samples.rtt_p50_n}, a 95th percentile {samples.rtt_p95_n}). Smoothing hides a
  tail: no percentile above the 75th is called better than the probes found it.
- **Loss.** Segments sent again that the peer did not have, of {samples.loss_n} or more, only in windows of
  10 s whose smoothed round trip was below {rule.queue_percent} % of the least one: above, they are lost to
  the sender's own queue.
- **Rate.** The greatest delivery rate, where the application did not limit it: in a window with a queue
  in which one session kept {rule.filled_percent} % of it up, that is what the path carries; in any other it
  is a lower bound, used where it is more than the probes found.
- **The sender's TCP** is that of the sessions, if it is CUBIC or BBR.
- **Another path** (`{rule.apart_rule}`). Least round trips that differ by more than {span(rule.apart_us)}
  and {rule.apart_percent} % are of two paths (a proxy, a VPN, several routes): both are told, and only the
  sessions' numbers count. So they do where the probes cannot connect and the application can.
- **Not the network.** From {rule.held_percent} % on, of {span(rule.held_least_us)} or more, the end is
  named that the sending time waited for: the receiver's window (`path.peer-window.v1`), the send buffer
  (`path.send-buffer.v1`); of sessions seen from open to close with {rule.transfer_bytes // 1_000_000} MB or
  more, the program that had nothing to send (`path.application.v1`): round trips that it waits for with
  nothing on the way are in that, so it is not said to be no matter of the network. The letter stays.
- **What a PACS takes for an image** (`{rule.learnt_rule}`): the time of whole fetches from it with nothing
  to send, less the handshakes, by image of the profile's size; of {rule.fetch_least_images} images or more,
  in the last {span(rule.fetch_within_s * 1_000_000)}, the middle of {LEAST_FETCHES} fetches or more. Where
  it grows with the round trip, as with a viewer that stalls, the round trips are told apart; it counts only
  for paths whose round trip is within a factor of {ALIKE} of those that were seen. A flow carries no request:
  a slow viewer counts as a slow PACS, and what a PACS waits for inside an image is not in it.
"""


_STUDY: Final = f"""\
## How the time to open is predicted

Each answer (an image, or all images of a series) costs a round trip to ask for it, the server's own time, and
its transfer: slow start (Kurose and Ross), then no faster than the capacity, nor than the window that a loss
allows. Slow start ends at the first loss, after 1/p segments (Cardwell, Savage, Anderson 2000); from there
the window of each connection falls towards that of RFC 9438, section 5. `analytics/predict.py` has the
formulas, `scripts/bench pacs` compares them with a real Orthanc.

- **The protocol** decides how many round trips an image costs: see the table below. Each profile names its
  own (`protocol = "..."`); a rules file of your own may add others under `[protocols.NAME]`.
- **Nagle.** Debian's Orthanc and getscu hold short segments back: an image costs 3 round trips and 40 ms
  instead of 1. `TCP_NODELAY=1` in the environment of both ends it. A profile for such a PACS says
  `c_get_nagle`.
- **The server's own time** between images is learnt per PACS from its own sessions (above); what it takes
  inside one is not.
- **The first image** is said beside the time; it never raises a letter.
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


def _protocols(rules: Rules) -> str:
    rows = "".join(_protocol_row(name, one) for name, one in rules.protocols.items())
    return f"""\
### Protocols

| protocol | | setup, round trips | answers | connections | short segments |
|---|---|---|---|---|---|
{rows}"""


def _protocol_row(name: str, one: Exchange) -> str:
    answers = "one for all images" if one.one_answer else "one an image"
    short = f"held back; {one.setup_stalls} in the setup" if one.nagle else "sent at once"
    return f"| `{name}` | {one.said} | {one.setup_round_trips} | {answers} | {one.connections} | {short} |\n"


_LEGS: Final = """\
## What is blamed

A leg is named as the place where time is added only if it makes up at least half of the least round trip,
it and the legs next to it were measured, and latency is what the outcome waits for (not capacity, not
loss). Otherwise the verdict says what it does know, and no more.

`pathgrade explain SRC DST` tells every step to a letter: the test, each input with its samples and interval,
the thresholds, the outcome at best and at worst, what is usual, and why a leg is named or none.

## Shared causes

One finding explains many bad paths by what they share: an agent's host, a site's uplink, the relay, the way
between two sites, or a region. A site says its region before the last dot of its name: `east.clinic-3` is in
`east`, `hospital` in none. Confidence is the odds against the other parts that would explain most of the
same paths; where one agent is all of its site, only hops can tell its host from the uplink.
"""


def main(arguments: Sequence[str]) -> None:
    """Write the document to the file named, or to its place in the tree."""
    target = Path(arguments[0]) if arguments else TARGET
    target.write_text(grades_text(load_rules()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
