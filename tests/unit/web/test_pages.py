"""The pages, over real sockets: the words, the headers, and what happens to hostile text."""

import gzip
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import msgspec
import pytest

from analytics.measurement import Letter
from analytics.report import PathDetail, Report
from analytics.sla import month_of
from server.api.core import Status
from server.pages.sla import sla_view
from tests.unit.web.fleet import AT_US, DETAIL, HEADLINE, MEMBERS, FixtureCore, serve, with_label

PAGES = [
    "/",
    "/?profile=generic",
    "/paths/radiologist/pacs",
    "/paths/clinic/home?profile=generic",
    "/flows",
    "/diff",
    "/diff?before=2026-11-23T13:00Z&after=2026-11-23T20:00Z",
    "/sla?service=PACS&month=2026-11",
    "/nope",
]


@pytest.fixture(scope="module")
def site() -> Iterator[httpx.Client]:
    with serve(FixtureCore()) as url, httpx.Client(base_url=url) as client:
        yield client


class Words(HTMLParser):
    """The text of a page, and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.parts))


VOID = {"meta", "link", "input", "br"}


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_well_formed_and_strict(site: httpx.Client, path: str) -> None:
    answer = site.get(path)
    page = Words(answer.text)

    assert page.open == []
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for tag, attributes in page.tags:
        assert "style" not in attributes, f"inline style on {tag}"
        assert not any(name.startswith("on") for name in attributes), f"inline handler on {tag}"
        assert tag != "script" or attributes.get("src"), "inline script"
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), (
                f"{tag} leads away: {attributes[name]}"
            )


@pytest.mark.parametrize("path", PAGES)
def test_one_main_one_h1_and_all_assets_exist(site: httpx.Client, path: str) -> None:
    page = Words(site.get(path).text)
    tags = [tag for tag, _ in page.tags]

    assert tags.count("h1") == 1
    assert tags.count("main") == 1
    for tag, attributes in page.tags:
        link = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        if link:
            assert site.get(link).status_code == 200, link


def test_the_verdict_comes_first(site: httpx.Client) -> None:
    page = Words(site.get("/").text)
    body = page.text

    assert (
        body.index(HEADLINE)
        < body.index(DETAIL)
        < body.index("Who can and who cannot")
        < body.index("Paths, worst")
    )


def test_people_come_worst_first(site: httpx.Client) -> None:
    html = site.get("/").text
    places = re.findall(
        r'<li class="place place-(\w+)"[^>]*>.*?<a href="([^"]+)">([^<]+)</a>', html, re.DOTALL
    )

    assert places[0] == ("cannot", "/paths/pacs/radiologist?profile=pacs", "the radiologist")
    assert [can for can, _, _ in places] == ["cannot", "can", "can", "can", "can"]
    assert places[1][2] == "the clinic"


def test_every_path_is_listed_with_what_was_measured(site: httpx.Client) -> None:
    html = site.get("/").text
    rows = re.findall(r'<tr role="row" [^>]*class="row-\w+">(.*?)</tr>', html, re.DOTALL)
    worst = Words(f"<table><tr>{rows[2]}</tr></table>").text

    assert len(rows) == 30
    assert "pacs→ to radiologist hospital → hotel" in worst
    for shown in (
        "D, poor",
        "37 s",
        "247 ms",
        "248 ms",
        "there 0 %",
        "back 0.33 %",
        "direct · NAT",
        "≥ 94 Mbit/s",
    ):
        assert shown.replace(" ", "") in worst.replace("\N{NO-BREAK SPACE}", "").replace(" ", ""), shown
    assert "hotel access 212 ms" in worst.replace("\N{NO-BREAK SPACE}", " ")


def test_a_relay_is_never_called_direct(site: httpx.Client) -> None:
    html = site.get("/").text
    rows = re.findall(r'<tr role="row" [^>]*class="row-\w+">(.*?)</tr>', html, re.DOTALL)
    clinic = [row for row in rows if "/clinic" in row]

    assert len(clinic) == 10
    assert all("relay · UDP" in row and "direct" not in row for row in clinic)
    assert sum("relay" in row for row in rows) == 10


def test_a_leg_bar_says_in_words_what_it_draws(site: httpx.Client) -> None:
    html = site.get("/paths/radiologist/pacs").text
    label = re.search(r'aria-label="Where the time is: ([^"]+)"', html)

    assert label is not None
    assert label[1].replace("\N{NO-BREAK SPACE}", " ") == (
        "radiologist&#39;s host 1.6 ms, hotel access 212 ms, transit 28.0 ms, hospital access 4.1 ms,"
        " pacs&#39; host 0.30 ms"
    )
    widths = [int(width) for width in re.findall(r'width="(\d+)" height="10"><title>', html)]
    assert sum(widths[:5]) == 1000


def test_the_path_page_shows_both_directions_and_the_reason(site: httpx.Client) -> None:
    words = Words(site.get("/paths/radiologist/pacs").text).text.replace("\N{NO-BREAK SPACE}", " ")

    for shown in (
        "Hops, seen from radiologist",
        "Hops, seen from pacs",
        "The samples support 35 s to 40 s. Rule pacs.open.v1, rules 2026-11-01.",
        "Not LANother network",
        "Not IPv6no address",
        "no answer",
    ):
        assert shown in words, shown
    sessions = Words(site.get("/paths/radiologist/pacs/sessions").text).text
    assert "getscu[4121]" in sessions
    assert "Orthanc[877]" in sessions


def test_hostile_text_stays_text() -> None:
    label = "<script>alert(1)</script>\"'&"
    with serve(with_label(label)) as url:
        html = httpx.get(url).text

    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in html
    assert _scripts(html) == ["page.js", "live.js"]


def _scripts(html: str) -> list[str]:
    """Name the files of a page's scripts."""
    sources = [str(attributes["src"]) for tag, attributes in Words(html).tags if tag == "script"]
    return [source.removeprefix("/static/").partition("?")[0] for source in sources]


def test_hostile_questions_stay_text(site: httpx.Client) -> None:
    for path in (
        "/paths/%3Cscript%3E/pacs",
        "/%3Cscript%3E",
        "/flows?process=%22%3E%3Cscript%3E",
        "/?profile=%3Cb%3E",
    ):
        html = site.get(path).text
        assert html.count("<script") == len(_scripts(html)) == html.count('<script src="/static/'), path


def test_no_request_names_a_file_outside(site: httpx.Client) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/app.py", "/static/"):
        assert site.get(path).status_code == 404, path


def test_an_unknown_page_says_so_in_words(site: httpx.Client) -> None:
    answer = site.get("/nope")

    assert answer.status_code == 404
    assert "There is nothing at /nope. Try: the report is at /. To the report" in Words(answer.text).text


def test_an_unknown_agent_is_told_who_there_is(site: httpx.Client) -> None:
    answer = site.get("/paths/nobody/pacs")

    assert answer.status_code == 404
    words = Words(answer.text).text
    assert (
        "no agent is called 'nobody'. Try: one of: clinic, home, office-1, office-2, pacs, radiologist."
        in words
    )


def test_a_page_of_the_past_says_so_and_its_links_keep_the_moment(site: httpx.Client) -> None:
    html = site.get("/?profile=generic&at=2026-11-23T09:45").text

    assert "This page shows 2026-11-23 09:45:00 UTC, not now. Show now" in Words(html).text
    assert 'href="/?profile=generic">Show now</a>' in html
    assert 'href="/matrix?profile=generic&amp;at=2026-11-23T09%3A45%3A00Z"' in html
    assert _scripts(html) == ["page.js"]
    assert "http-equiv" not in html


def test_a_page_of_now_keeps_the_profile_and_offers_the_past(site: httpx.Client) -> None:
    html = site.get("/flows?agent=pacs&profile=generic").text

    assert 'href="/matrix?profile=generic"' in html
    assert 'href="/flows?agent=pacs&amp;profile=pacs"' in html
    assert '<input type="hidden" name="agent" value="pacs">' in html
    assert re.search(r'href="/flows\?agent=pacs&amp;profile=generic&amp;at=[^"]+">1 hour ago', html)
    assert 'data-events="/v1/events?profile=generic&amp;since=' in html
    assert 'href="/matrix">' in site.get("/").text  # nothing was chosen: nothing is kept


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("x", "at is no moment"),
        ("2199-01-01", "is yet to come"),
        ("9" * 30, "at is no moment"),
        ("x" * 41, "at: "),
    ],
)
def test_a_moment_that_is_none_is_said(site: httpx.Client, asked: str, said: str) -> None:
    answer = site.get("/", params={"at": asked})

    assert answer.status_code == 422
    assert said in Words(answer.text).text


@pytest.mark.parametrize(
    ("core", "said"),
    [
        (FixtureCore(fleet=[]), "Enrol the first agent"),
        (FixtureCore(fleet=MEMBERS[:1], measured=False), "One agent is here; a path needs two"),
        (FixtureCore(measured=False, cycle_running=True), "0 of 30 paths measured."),
    ],
    ids=["no agents", "one agent", "no cycle"],
)
def test_empty_states_say_what_to_do(core: FixtureCore, said: str) -> None:
    with serve(core) as url:
        page = Words(httpx.get(url).text)

    assert said in page.text
    assert page.open == []


def test_the_page_is_small(site: httpx.Client) -> None:
    """150 kB, compressed as it travels, for everything that a first visit loads."""
    html = site.get("/").text
    assets = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', html))
    parts = [html.encode(), *(site.get(link).content for link in assets)]

    assert sum(len(gzip.compress(part)) for part in parts) < 150_000


def test_applications_are_above_the_flows_worst_first(site: httpx.Client) -> None:
    html = site.get("/flows").text
    body = Words(html).text
    places = [
        body.index(told) for told in ("Processes, worst first", "Destinations, worst first", "Sessions, ")
    ]
    assert places == sorted(places)
    tables = re.findall(r'<table class="list applications".*?</table>', html, re.DOTALL)
    assert len(tables) == 2
    first = Words(tables[0]).text
    assert first.index("D, poor") < first.index("getscu") < first.index("Orthanc")
    for told in (
        "258 ms",
        "2.6 %",
        "920 + 11 failed",
        "of the sending time waited for the peer's receive window",
    ):
        assert told in first
    assert "pathgrade" not in first
    assert "to 198.51.100.66 port 4242" in Words(tables[1]).text


def test_each_hour_is_a_letter_with_its_time(site: httpx.Client) -> None:
    html = site.get("/flows").text
    strip = re.search(r'<span class="hours".*?</span>\s*</span>', html, re.DOTALL)
    assert strip is not None
    assert 'aria-label="Hour by hour: 23 h D, 1 h no session"' in strip[0]
    assert 'title="21:00 UTC: D, poor">D<' in strip[0]
    assert 'title="00:00 UTC: no session">·<' in strip[0]
    assert strip[0].count('class="hour ') == 24


def test_applications_are_not_shown_where_one_process_is_asked_for(site: httpx.Client) -> None:
    assert "Processes, worst" not in Words(site.get("/flows?process=getscu").text).text
    assert "Processes, worst" not in Words(site.get("/flows?remote=198.51.100.66").text).text
    only = Words(site.get("/flows?agent=radiologist").text).text
    assert "Processes, worst" in only
    assert "Orthanc" not in only


def test_the_agents_own_applications_are_shown_when_asked_for(site: httpx.Client) -> None:
    html = site.get("/flows?own=1").text
    (processes, _) = re.findall(r'<table class="list applications".*?</table>', html, re.DOTALL)
    assert "pathgrade" in Words(processes).text


def test_filters_of_the_flows_page(site: httpx.Client) -> None:
    assert "getscu" not in Words(site.get("/flows?agent=pacs").text).text
    assert "Nothing fits." in Words(site.get("/flows?process=nobody").text).text
    assert "getscu" in Words(site.get("/flows?agent=&process=&remote=").text).text


def test_the_agents_own_sessions_are_left_out_unless_asked_for(site: httpx.Client) -> None:
    assert "198.51.100.130" not in Words(site.get("/flows").text).text
    assert "198.51.100.130" in Words(site.get("/flows?own=1").text).text
    assert "198.51.100.130" in Words(site.get("/flows?process=pathgrade").text).text


def test_an_unreachable_path_says_why() -> None:
    core = FixtureCore(letters={("pacs", "radiologist"): Letter.UNREACHABLE})
    with serve(core) as url:
        overview = Words(httpx.get(url).text).text
        path = Words(httpx.get(f"{url}/paths/pacs/radiologist").text).text

    assert "X, cannot connect" in overview
    assert "no way through" in overview
    assert "Cannot connect: no rung of the ladder got through." in path
    assert "Not server reflexiveno answer" in path
    assert "hospital to hotel, not connected." in path


def test_a_path_that_the_budget_put_off_says_so_beside_its_age() -> None:
    class Waiting(FixtureCore):
        def report(self, profile: str, at_us: int | None = None) -> Report:
            made = super().report(profile, at_us)
            rows = [msgspec.structs.replace(row, put_off=True, age_s=720) for row in made.paths]
            return msgspec.structs.replace(made, paths=rows)

        def status(self) -> Status:
            return msgspec.structs.replace(super().status(), paths_put_off=30, cycles_for_all=8)

    with serve(Waiting()) as url:
        text = " ".join(Words(httpx.get(url).text).parts)
    assert text.count("12\N{NO-BREAK SPACE}min: budget") == 30
    assert "30 wait for a later cycle: the agents' budget sees all within 40\N{NO-BREAK SPACE}min" in text


def test_a_watched_path_says_since_when_and_the_list_how_many_are_not_watched() -> None:
    class Watched(FixtureCore):
        def detail(
            self, src: str, dst: str, profile: str, at_us: int | None = None, *, sessions: bool = True
        ) -> PathDetail | None:
            made = super().detail(src, dst, profile)
            assert made is not None
            row = msgspec.structs.replace(made.forward, watched=True, letter_since_us=1_000_000)
            return msgspec.structs.replace(made, forward=row)

        def status(self) -> Status:
            return msgspec.structs.replace(super().status(), paths_watched=4, paths_not_watched=10)

    with serve(Watched()) as url:
        path = " ".join(Words(httpx.get(f"{url}/paths/pacs/radiologist").text).parts)
        report = " ".join(Words(httpx.get(url).text).parts)
    assert "Tested between cycles, too: " in path
    assert " since 1970-01-01 00:00:01 UTC." in path
    assert "10 that matter or changed are not watched between cycles" in report


def test_two_moments_are_compared_by_a_form_without_javascript(site: httpx.Client) -> None:
    form = Words(site.get("/diff").text)
    assert [attributes.get("name") for tag, attributes in form.tags if tag == "input"] == ["before", "after"]
    page = Words(site.get("/diff?before=2026-11-23T13:00&after=2026-11-23T20:00").text)
    assert "10 paths are worse; 1 workplace can no longer work; 1 cause appeared." in page.text
    assert "New cause The hotel's uplink explains 10 of 10 bad paths" in page.text
    assert [
        attributes.get("value")
        for tag, attributes in page.tags
        if attributes.get("name") in {"before", "after"}
    ] == ["2026-11-23T13:00", "2026-11-23T20:00"]
    refused = site.get("/diff?before=never")
    assert (refused.status_code, "before is no moment" in refused.text) == (422, True)


def test_the_sla_page_has_what_a_customer_is_owed(site: httpx.Client) -> None:
    page = Words(site.get("/sla?service=PACS&month=2026-11").text)
    for words in (
        "PACS on pacs, port 4242 · graded for pacs · November 2026 until 2026-11-23 20:00:00 UTC",
        "People could work with the PACS 99.18\N{NO-BREAK SPACE}% of the time",
        "the customer's · 1 incident",
        "The hotel's uplink explains 10 of 10 bad paths",
        "unknown: never good",
        "ed25519:",
    ):
        assert re.sub(r"\s+", " ", words) in page.text, words
    assert "2026-10" in page.text  # the month before
    assert site.get("/sla?service=EHR").status_code == 404


def test_a_month_of_which_little_is_known_has_no_share_in_its_headline() -> None:
    core = FixtureCore()
    service = next(one for member in core.members() for one in member.services)
    month = month_of("2026-11")
    assert month is not None
    told = msgspec.structs.replace(core.sla(service, month), unknown_bp=9_999, could_bp=1)
    assert sla_view(told, AT_US).headline == (
        "Too little is known to say how much of the time people could work with the PACS: "
        "99.99\N{NO-BREAK SPACE}% is not."
    )
