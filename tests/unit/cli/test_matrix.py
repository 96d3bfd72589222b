"""``pathgrade matrix``: what fits, what is summed up, what is left out."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.errors import WireError
from analytics.letters import BAD
from analytics.measurement import Letter, Rung
from analytics.overview import PACKINGS, Metric
from server.api.packed import MAGIC, Head, unpacked
from server.pages import matrix_words as made
from tests.unit.cli.test_cli import pathgrade, words
from tests.unit.web.fleet import FixtureCore, serve
from tests.unit.web.test_terminal import EVIL, drawn

CODES = [ord(letter.value) for letter in Letter]


def head_of(sites: list[str]) -> Head:
    packing = PACKINGS[Metric.LETTER]
    return Head(
        profile="pacs",
        metric=Metric.LETTER,
        at_us=1,
        revision="r",
        agents=[f"agent-{number}" for number in range(len(sites))],
        sites=sorted(sites),
        rungs=[rung.value for rung in Rung],
        cell_bytes=packing.cell_bytes,
        unit=packing.unit,
        none=packing.none,
    )


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Head, bytes]:
    head = head_of(draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=12)))
    count = len(head.agents)
    cells = draw(st.lists(st.sampled_from([*CODES, 0x20]), min_size=count**2, max_size=count**2))
    for place in range(count):
        cells[place * count + place] = 0x20
    return head, bytes(cells)


@given(matrices())
def test_sites_have_the_bad_paths_of_their_agents_and_the_worst_letter(told: tuple[Head, bytes]) -> None:
    head, cells = told
    grid = made.of_sites(head, cells)
    bad = [code for code in cells if code in {ord(letter.value) for letter in BAD}]
    assert sum(cell.bad for row in grid.cells for cell in row if cell is not None) == len(bad)
    for row in grid.cells:
        assert all(cell is None or not cell.bad or cell.letter in BAD for cell in row)


@given(matrices(), st.integers(40, 120))
def test_what_is_drawn_fits_and_says_what_is_left_out(told: tuple[Head, bytes], width: int) -> None:
    head, cells = told
    for by_site in (None, True, False):
        lines = drawn(made.drawn(head, cells, width, by_site=by_site)).splitlines()
        grid_lines = lines[: lines.index("")]
        assert max(map(len, grid_lines)) <= width
        wanted = len(set(head.sites)) if by_site else len(head.agents)
        if by_site is not None and len(grid_lines) - 1 < wanted:
            assert "with fewer bad paths are left out" in lines[-1]


def test_a_thousand_agents_are_shown_by_site() -> None:
    head = head_of([f"site-{number % 40:02}" for number in range(1_000)])
    cells = bytearray(b"A" * 1_000_000)
    cells[1] = ord("F")
    lines = drawn(made.drawn(head, bytes(cells), 200)).splitlines()
    assert lines[1].startswith(" 1 site-00 F1")
    assert "1,000 agents, graded for pacs: 1 F, 999,999 A" in lines[-1]


@pytest.mark.parametrize("places", [300])
def test_as_many_sites_as_agents_are_cut_to_the_worst(places: int) -> None:
    head = head_of([f"s{number:03}" for number in range(places)])
    cells = bytearray(b"A" * places**2)
    cells[5 * places + 7] = ord("X")
    lines = drawn(made.drawn(head, bytes(cells), 80)).splitlines()
    assert any(" s005 " in line and "X1" in line for line in lines)
    assert f"{places - (lines.index('') - 1)} sites with fewer bad paths are left out" in lines[-1]


def test_as_people_run_it() -> None:
    with serve(FixtureCore()) as url:
        lines = [words(line) for line in pathgrade("matrix", url=url, columns=80).stdout.splitlines()]
        told = json.loads(pathgrade("matrix", "--json", "--profile", "pacs", url=url).stdout)
    assert lines[4] == "4 hotel radiologist D D D D D"
    assert lines[-1] == "row → column; 6 agents, graded for pacs: 10 D, 8 B, 12 A"
    assert told["rows"][told["agents"].index("radiologist")] == "DDD DD"


def test_names_are_harmless() -> None:
    head = head_of([EVIL, EVIL])
    assert "\x1b" not in drawn(made.drawn(head, b" AA ", 80))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PGM1",
        MAGIC + struct.pack("<I", 10) + b"{}",
        MAGIC + struct.pack("<I", 2**32 - 1) + b"x" * 50,
        b"PGM2" + struct.pack("<I", 2) + b"{}",
    ],
)
def test_what_is_no_matrix_is_one_clear_error(body: bytes) -> None:
    with pytest.raises(WireError):
        unpacked(body)
