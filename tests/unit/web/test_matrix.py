"""The packed matrix over real sockets, its layout, and what the page shows beside its picture."""

import gzip
import struct
from collections.abc import Iterator

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.measurement import Letter
from analytics.overview import PACKINGS, MatrixCells, Metric, SitePaths
from server.api.matrix import Kept, tag_of
from server.api.packed import MAGIC, Head, packed
from server.pages import matrix_view
from tests.unit.web.fleet import AT_US, MEMBERS, FixtureCore, serve


def unpacked(body: bytes) -> tuple[Head, bytes]:
    assert body[:4] == MAGIC
    (length,) = struct.unpack_from("<I", body, 4)
    assert length % 4 == 0
    return msgspec.json.decode(body[8 : 8 + length], type=Head), body[8 + length :]


@pytest.fixture(scope="module")
def site() -> Iterator[httpx.Client]:
    with serve(FixtureCore()) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("metric", Metric)
def test_cells_are_those_of_the_report(site: httpx.Client, metric: Metric) -> None:
    head, cells = unpacked(site.get("/v1/matrix", params={"profile": "pacs", "metric": metric}).content)
    told = FixtureCore().matrix("pacs", metric)

    assert head.metric is metric
    assert head.agents == told.agents
    assert head.sites == ["clinic", "home", "hospital", "hotel", "office", "office"]
    assert (head.cell_bytes, head.none, head.unit) == (
        told.packing.cell_bytes,
        told.packing.none,
        told.packing.unit,
    )
    assert cells == told.cells
    assert len(cells) == len(MEMBERS) ** 2 * head.cell_bytes


def test_what_is_known_is_not_sent_again(site: httpx.Client) -> None:
    first = site.get("/v1/matrix?profile=pacs")
    again = site.get("/v1/matrix?profile=pacs", headers={"If-None-Match": first.headers["etag"]})
    other = site.get("/v1/matrix?profile=pacs&metric=rtt", headers={"If-None-Match": first.headers["etag"]})

    assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]
    assert first.headers["content-encoding"] == "gzip"


def test_whoever_takes_no_gzip_is_sent_the_same_plain(site: httpx.Client) -> None:
    plain = site.get("/v1/matrix", headers={"Accept-Encoding": "identity"})

    assert "content-encoding" not in plain.headers
    assert plain.content == site.get("/v1/matrix").content


@pytest.mark.parametrize(
    ("query", "status"),
    [("metric=colour", 422), ("profile=nope", 404), ("at=x", 422), ("at=2026-11-23T09:45Z", 200)],
)
def test_a_wrong_question_is_a_problem(site: httpx.Client, query: str, status: int) -> None:
    assert site.get(f"/v1/matrix?{query}").status_code == status


@given(st.lists(st.text(max_size=20), min_size=0, max_size=6), st.sampled_from(Metric))
def test_any_matrix_can_be_read_back(names: list[str], metric: Metric) -> None:
    packing = PACKINGS[metric]
    cells = bytes(range(256))[: len(names) ** 2] * packing.cell_bytes
    told = MatrixCells(
        profile="pacs",
        metric=metric,
        at_us=AT_US,
        revision="r",
        agents=names,
        sites=names,
        rungs=[],
        packing=packing,
        cells=cells,
    )
    head, read = unpacked(packed(told))
    assert (head.agents, read) == (names, cells)


def test_a_name_is_another_for_another_tenant_and_for_older_ages() -> None:
    known = tag_of("a", "pacs", Metric.AGE, "r", AT_US, past=False)
    assert known != tag_of("b", "pacs", Metric.AGE, "r", AT_US, past=False)
    assert known != tag_of("a", "pacs", Metric.AGE, "r", AT_US + 60_000_000, past=False)
    letters = tag_of("a", "pacs", Metric.LETTER, "r", AT_US, past=False)
    assert letters == tag_of("a", "pacs", Metric.LETTER, "r", AT_US + 60_000_000, past=False)


def test_the_one_that_nobody_asked_for_longest_goes_first() -> None:
    kept = Kept(most=2)
    kept.put("a", b"1")
    kept.put("b", b"2")
    assert kept.get("a") == b"1"
    kept.put("c", b"3")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (b"1", None, b"3")


@given(st.sampled_from([metric for metric in Metric if metric is not Metric.LETTER]), st.integers(0, 2**32))
def test_a_step_is_what_the_legend_says(metric: Metric, value: int) -> None:
    step, most = matrix_view.step_of(metric, value), matrix_view.MOST[metric]
    assert 0 <= step <= len(most)
    assert step == len(most) or value <= most[step]
    assert step == 0 or value > most[step - 1]
    assert len(matrix_view.legend(metric)) == 7


def test_every_letter_has_a_step_and_the_worst_has_the_last() -> None:
    steps = {letter: matrix_view.step_of(Metric.LETTER, ord(letter.value)) for letter in Letter}
    assert sorted(steps.values()) == list(range(7))
    assert max(steps, key=lambda letter: steps[letter]) is Letter.UNREACHABLE
    assert min(steps, key=lambda letter: steps[letter]) is Letter.UNKNOWN


def test_sites_with_bad_paths_come_into_the_table_first() -> None:
    pairs = [
        SitePaths(
            src_site=f"s{i:03d}", dst_site="hub", paths=4, cannot=40 - i, unknown=0, rungs={}, rtt_p50_us=1
        )
        for i in range(40)
    ]
    made = matrix_view.site_table(pairs)
    assert len(made.sites) == matrix_view.SITES_MOST
    assert made.left_out == 11
    assert "s000" in made.sites
    assert "s039" not in made.sites


def test_the_page_works_without_its_script(site: httpx.Client) -> None:
    html = site.get("/matrix?metric=rtt&profile=pacs").text
    assert 'href="/paths/pacs/radiologist?profile=pacs" aria-label="pacs to radiologist: 247' in html
    assert html.count('class="self"') == 6
    assert len(gzip.compress(html.encode())) < 20_000


def test_a_cell_says_its_path(site: httpx.Client) -> None:
    told = site.get("/matrix/cell?src=pacs&dst=radiologist&profile=pacs")
    assert "<b>pacs to radiologist: D, 37" in told.text
    assert site.get("/matrix/cell?src=pacs&dst=pacs").status_code == 404
    assert site.get("/matrix/cell?src=pacs&dst=%3Cb%3E").status_code == 404
