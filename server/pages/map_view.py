"""What the map of sites shows: sites with their agents, and who reaches whom by which rung. Pure.

READ FIRST: ``map_view``. Up to ``SITES_MOST`` sites are drawn one by one. Of a larger fleet, those with the
most bad paths are, and the rest stand together as one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from analytics.measurement import Letter, Rung
from analytics.overview import MatrixCells, SitePaths
from analytics.paths import WORST_FIRST
from analytics.shapes import Member
from server.pages import text
from server.pages.map_layout import (
    NARROW,
    WIDE,
    Box,
    Curve,
    Point,
    Size,
    boxes,
    direct,
    middle_of,
    named,
    through,
)

SITES_MOST: Final = 12
LETTERS_ALL: Final = 7
"""Up to so many sites, each line has its letter; beyond, those that are not good."""
GOOD: Final = frozenset({Letter.A, Letter.B})

SEVERITY: Final = {letter.value: len(WORST_FIRST) - rank for rank, letter in enumerate(WORST_FIRST)}
_RANKS: Final = bytes(SEVERITY.get(chr(code), 0) for code in range(256))
_LETTER_OF: Final = {rank: Letter(letter) for letter, rank in SEVERITY.items()}

STYLE: Final[Mapping[Rung, str]] = {
    Rung.LAN: "lan",
    Rung.IPV6: "ipv6",
    Rung.SRFLX: "punched",
    Rung.RELAY_UDP: "relay",
    Rung.RELAY_TCP: "relay",
    Rung.RELAY_TLS: "relay",
    Rung.NONE: "none",
}
STYLE_WORDS: Final = {
    "lan": "same network",
    "ipv6": "direct, IPv6",
    "punched": "direct through NAT",
    "relay": "through the relay",
    "none": "no way through",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One site, or the rest of them."""

    key: str
    title: str
    agents: list[Member]
    sites: int = 1

    @property
    def online(self) -> int:
        """Agents that are connected."""
        return sum(member.online for member in self.agents)


@dataclass(slots=True)
class Link:
    """All paths between two sites, or within one, both directions together."""

    a: str
    b: str
    paths: int = 0
    bad: int = 0
    unknown: int = 0
    rungs: Counter[Rung] = field(default_factory=Counter)
    rtts_us: list[int] = field(default_factory=list)
    letter: Letter | None = None  # the worst; None where sites stand together
    worst: tuple[str, str] | None = None  # the path that has it

    @property
    def styles(self) -> list[str]:
        """How its lines are drawn, one for each kind of way, the most used first."""
        count: Counter[str] = Counter()
        for rung, paths in self.rungs.items():
            count[STYLE[rung]] += paths
        return [style for style, _ in count.most_common()]

    @property
    def mark(self) -> Letter:
        """The letter it is drawn in; of sites that stand together, whether any path is bad."""
        return self.letter or (Letter.D if self.bad else Letter.UNKNOWN if self.unknown else Letter.B)

    @property
    def rtt_us(self) -> int | None:
        """Median of the directions' medians, the upper of two."""
        return sorted(self.rtts_us)[len(self.rtts_us) // 2] if self.rtts_us else None

    @property
    def by(self) -> str:
        """Say by which rungs: '3 direct · NAT, 1 relay · UDP'."""
        return ", ".join(f"{paths:,} {text.RUNG_SHORT[rung]}" for rung, paths in self.rungs.most_common())


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a drawing."""

    link: Link
    style: str
    curve: Curve
    letter_at: Point | None  # where its letter stands; None: it has none
    words: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture of the map."""

    size: Size
    named: int  # agents of each site that are named
    boxes: list[tuple[Site, Box, Link | None]]  # with the paths within the site
    lines: list[Line]  # the worst last: on top
    relay: Point | None


@dataclass(frozen=True, slots=True)
class MapView:
    """The page ``/map``."""

    sites: list[Site]
    links: list[Link]  # between sites, worst first
    within: list[Link]
    drawings: list[Drawing]
    styles: list[str]  # that are drawn
    together: int  # sites that stand as one
    words: str


def map_view(members: Sequence[Member], pairs: Sequence[SitePaths], cells: MatrixCells) -> MapView:
    """Lay the map out; ``pairs`` come with most bad paths first."""
    sites = _sites(members, pairs)
    found = _links(pairs, {name: site.key for site in sites for name in _names(site)})
    for link in found:
        _set_worst(link, cells)
    within = [link for link in found if link.a == link.b]
    between = [link for link in found if link.a != link.b]
    between.sort(key=lambda link: (-SEVERITY[link.mark.value], -link.bad, link.a, link.b))
    return MapView(
        sites=sites,
        links=between,
        within=within,
        drawings=[_drawing(sites, between, within, size) for size in (WIDE, NARROW)],
        styles=[style for style in STYLE_WORDS if any(style in link.styles for link in between)],
        together=sum(site.sites for site in sites if site.sites > 1),
        words=_words(sites, between),
    )


def _sites(members: Sequence[Member], pairs: Sequence[SitePaths]) -> list[Site]:
    by_name: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        by_name[member.site].append(member)
    if len(by_name) <= SITES_MOST:
        return [Site(name, name, by_name[name]) for name in sorted(by_name)]
    bad: Counter[str] = Counter()
    for pair in pairs:
        bad[pair.src_site] += pair.cannot
        bad[pair.dst_site] += pair.cannot
    ranked = sorted(by_name, key=lambda name: (-bad[name], name))
    shown, rest = sorted(ranked[: SITES_MOST - 1]), sorted(ranked[SITES_MOST - 1 :])
    together = Site("", f"{len(rest)} other sites", [m for name in rest for m in by_name[name]], len(rest))
    return [*(Site(name, name, by_name[name]) for name in shown), together]


def _names(site: Site) -> set[str]:
    return {member.site for member in site.agents}


def _links(pairs: Iterable[SitePaths], key_of: Mapping[str, str]) -> list[Link]:
    links: dict[tuple[str, str], Link] = {}
    for pair in pairs:
        if pair.src_site not in key_of or pair.dst_site not in key_of:
            continue  # of an agent that has gone since
        a, b = sorted((key_of[pair.src_site], key_of[pair.dst_site]))
        link = links.setdefault((a, b), Link(a, b))
        link.paths += pair.paths
        link.bad += pair.cannot
        link.unknown += pair.unknown
        link.rungs.update({Rung(rung): paths for rung, paths in pair.rungs.items()})
        if pair.rtt_p50_us is not None:
            link.rtts_us.append(pair.rtt_p50_us)
    return list(links.values())


def _set_worst(link: Link, cells: MatrixCells) -> None:
    """Find the worst letter between two sites, and a path that has it. Agents stand by site in a matrix."""
    if not link.a or not link.b:
        return
    count = len(cells.agents)
    best = 0
    for src, dst in dict.fromkeys(((link.a, link.b), (link.b, link.a))):
        rows, columns = _span(cells, src), _span(cells, dst)
        for row in rows:
            ranks = cells.cells[row * count + columns.start : row * count + columns.stop].translate(_RANKS)
            most = max(ranks, default=0)
            if most > best:
                best = most
                link.worst = cells.agents[row], cells.agents[columns.start + ranks.index(most)]
    link.letter = _LETTER_OF.get(best)


def _span(cells: MatrixCells, site: str) -> range:
    if site not in cells.sites:
        return range(0)
    first = cells.sites.index(site)
    return range(first, first + cells.sites.count(site))


def _drawing(sites: Sequence[Site], links: Sequence[Link], within: Sequence[Link], size: Size) -> Drawing:
    placed = dict(zip((site.key for site in sites), boxes([len(s.agents) for s in sites], size), strict=True))
    inside = {link.a: link for link in within}
    relayed_by = Counter(site for link in links if "relay" in link.styles for site in (link.a, link.b))
    lines = [
        _line(
            link,
            style,
            placed,
            size,
            letters=len(sites) <= LETTERS_ALL or link.mark not in GOOD,
            share=_share(style, relayed_by[link.a] - relayed_by[link.b]),
        )
        for link in reversed(links)
        for style in link.styles
    ]
    relayed = any(line.style == "relay" for line in lines)
    return Drawing(
        size=size,
        named=named(len(sites), size),
        boxes=[(site, placed[site.key], inside.get(site.key)) for site in sites],
        lines=lines,
        relay=middle_of(size) if relayed else None,
    )


def _line(
    link: Link, style: str, placed: Mapping[str, Box], size: Size, *, letters: bool, share: float
) -> Line:
    bent = through if style == "relay" else direct
    curve = bent(placed[link.a].at, placed[link.b].at, size)
    return Line(
        link=link,
        style=style,
        curve=curve,
        letter_at=curve.along(share) if letters and link.letter and style == link.styles[0] else None,
        words=f"{_title(link.a)} and {_title(link.b)}: {_state(link)}, {link.by}",
    )


def _share(style: str, more_at_start: int) -> float:
    """Where on a way its letter stands: of one through the relay, nearer the end with fewer such."""
    if style != "relay":
        return 0.5
    return 0.28 if more_at_start < 0 else 0.72


def _title(key: str) -> str:
    return key or "the other sites"


def _state(link: Link) -> str:
    return link.letter.value if link.letter else f"{link.bad:,} of {link.paths:,} paths bad"


def _words(sites: Sequence[Site], links: Sequence[Link]) -> str:
    """Say the picture in a sentence or two."""
    count = sum(site.sites for site in sites)
    relayed = sum(link.styles[:1] == ["relay"] for link in links)
    bad = [link for link in links if link.bad and link.letter]
    told = f"{text.plural(count, 'site')}, {text.plural(len(links), 'pair')} of them with measured paths"
    if any(site.sites > 1 for site in sites):
        told = f"{count:,} sites; the {len(sites) - 1} with most bad paths stand alone"
    told += f"; {relayed} mostly through the relay" if relayed else ""
    if not bad:
        return f"{told}. None of them has a bad path."
    worst = "; ".join(f"{_title(link.a)} and {_title(link.b)}: {link.mark.value}" for link in bad[:3])
    return f"{told}. {len(bad)} have bad paths: {worst}{' and others' if len(bad) > 3 else ''}."
