"""The pages of agents, services, audit and settings, and their forms, over real sockets."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.report import Member
from analytics.wire import Dependence, NatReport
from server.api.agent_info import Listener
from server.api.controls import Reach
from server.api.doors import MeshAsk
from server.api.problem import ProblemError
from server.pages.agents_view import Wanted, Which, listed
from server.pages.control import BudgetForm, budget_of, changes, own
from server.pages.nat_words import nat_sentences, nat_short
from server.pages.pieces import piece_of
from server.pages.services import untagged
from server.settings import Settings
from server.settings_told import HIDDEN, settings_told
from server.vitals import Told, vitals_of
from tests.unit.web.desk import FixtureDesk
from tests.unit.web.fleet import AT_US, HEALTH, MEMBERS, FixtureCore, info_of, serve
from tests.unit.web.test_pages import Words

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Site:
    client: httpx.Client
    desk: FixtureDesk

    def words(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return Words(answer.text).text


@pytest.fixture
def site() -> Iterator[Site]:
    desk = FixtureDesk()
    with serve(FixtureCore(), desk) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Site(client, desk)


def test_the_agents_are_listed_filtered_and_say_what_is_in_front_of_them(site: Site) -> None:
    words = site.words("/agents")
    assert "6 of 6 agents are online. Active tests are switched off on 1 agent." in words
    assert "NAT, one port for all peers" in words
    assert "tests off" in words
    assert "radiologist" not in site.words("/agents?which=off")
    assert "clinic" in site.words("/agents?which=off")
    assert "No agent fits." in site.words("/agents?q=nowhere")
    assert "3rd floor" in site.words("/agents?q=floor+hotel&tag=radiology&site=hotel")


def test_an_agents_page_has_cost_nat_control_paths_and_processes(site: Site) -> None:
    words = site.words("/agents/radiologist")
    for part in (
        "0.43 %",
        "62.9 MB",
        "5.0 MB/h (set for the site)",
        "Its NAT keeps one public port for all peers",
        "carrier-grade",
        "They are on. The agent says that they are on.",
        "From radiologist",
        "To radiologist",
    ):
        assert part in words.replace("\N{NO-BREAK SPACE}", " "), part
    assert "The agent has not yet said that they are off." in site.words("/agents/clinic")
    assert "getscu" in site.words("/agents/radiologist/processes")
    assert "<html" not in site.client.get("/agents/radiologist/processes?part=true").text
    past = site.words("/agents/radiologist?at=2026-11-23T09:45")
    assert "those of now" in past
    assert "Switch tests off" not in past
    assert site.client.get("/agents/nobody").status_code == 404


def test_hundreds_of_agents_come_in_pieces() -> None:
    fleet = [Member(name=f"a{number:03}", site=f"s{number % 7}") for number in range(250)]
    with (
        serve(FixtureCore(fleet=fleet, measured=False)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        first = client.get("/agents").text
        assert first.count('<tr role="row" data-key') == 100
        assert "1 to 100 of 250" in first
        assert 'href="/agents?start=100" rel="next"' in first
        last = client.get("/agents?start=200").text
        assert last.count('<tr role="row" data-key') == 50
        assert 'rel="next"' not in last
        assert client.get("/settings").status_code == 200


def test_services_say_who_cannot(site: Site) -> None:
    words = site.words("/services")
    assert "1 of 1 service has users who cannot work." in words.replace("\N{NO-BREAK SPACE}", " ")
    assert "radiologist (D)" in words
    assert "offered by the agent" in words
    seen = [
        Listener(agent="pacs", port=port, process="Orthanc", clients=2, sessions=9, seen_us=1)
        for port in (4242, 8042)
    ]
    assert [one.port for one in untagged(seen, MEMBERS)] == [8042]


def test_the_audit_page_leaves_tests_out_and_pages_on(site: Site) -> None:
    words = site.words("/audit")
    assert "mesh=off" in words
    assert "cycle=" not in words
    page = site.client.get("/audit?tests=true").text
    assert page.count('<tr role="row" data-key') == 100
    assert 'href="/audit?tests=true&amp;before=21" rel="next"' in page
    assert "Nothing fits." in site.words("/audit?actor=eve")
    assert (
        'href="/v1/audit.csv?actor=ada&amp;tests=false&amp;limit=5000"'
        in site.client.get("/audit?actor=ada").text
    )


def test_the_settings_page_tells_values_sources_and_no_secret(site: Site) -> None:
    words = site.words("/settings")
    assert "Active tests are off on 1 of 6 agents." in words
    assert "cycle_s 60 From" in words or "cycle_s 60" in words
    told = settings_told(
        Settings.load(data="/d", lake_catalog="postgres:host=h password='a b' user=u", lake_data="s3://b/p"),
        {"PATHGRADE_DATA": "/d"},
    )
    by_name = {one.name: one for one in told}
    assert by_name["data"].source == "PATHGRADE_DATA"
    assert by_name["lake_data"].source == "argument"
    assert by_name["threads"].source == "default"
    assert by_name["lake_catalog"].value == f"postgres:host=h password=({HIDDEN}) user=u"
    assert by_name["cycle_s"].about == "From the start of one cycle to the start of the next."


# --- forms -----------------------------------------------------------------------------------------------


def send(site: Site, path: str, **fields: str) -> httpx.Response:
    return site.client.post(path, data=fields)


def test_forms_do_what_they_say_and_lead_back(site: Site) -> None:
    answer = send(
        site,
        "/control/switch",
        reach="site",
        name="hotel",
        on="false",
        back="/agents/radiologist?profile=pacs",
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/agents/radiologist?profile=pacs")
    assert ("site", "hotel") in {(off.reach, off.name) for off in site.desk.control.off}
    send(site, "/control/switch", reach="site", name="hotel", on="true")
    assert ("site", "hotel") not in {(off.reach, off.name) for off in site.desk.control.off}

    send(site, "/control/tags", agent="pacs", tags=" a ,b  c,, a")
    assert site.desk.control.tagged == {"pacs": {"a", "b c"}}
    send(site, "/control/tags", agent="pacs", tags="b c")
    assert site.desk.control.tagged == {"pacs": {"b c"}}

    send(site, "/control/budget", reach="agent", name="pacs", cpu_percent="0,5", mb_per_hour="")
    (of_pacs,) = [one for one in site.desk.control.own if one.reach is Reach.AGENT]
    assert (of_pacs.cpu_bp, of_pacs.bytes_per_hour) == (50, None)

    send(
        site, "/control/service", agent="pacs", port="8042", name="DICOMweb", profile="pacs", back="/services"
    )
    assert (site.desk.tags[0].port, site.desk.tags[0].name) == (8042, "DICOMweb")


def test_a_test_now_starts_and_its_page_tells_how_far_it_is(site: Site) -> None:
    answer = send(site, "/control/run", src="radiologist", dst="pacs")
    assert answer.headers["location"] == "/paths/radiologist/pacs?run=5d1f"
    assert site.desk.asked == [MeshAsk(src="radiologist", dst="pacs")]
    page = site.client.get("/paths/radiologist/pacs?run=5d1f").text
    assert "Testing both directions: 0 of 1" in page
    assert '<meta http-equiv="refresh" content="2">' in page
    assert "Done in 1.7 s." in site.words("/paths/radiologist/pacs?run=5d1f")


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/control/switch", {"reach": "site", "name": "nobody", "on": "false"}, 409),
        ("/control/switch", {"reach": "planet", "on": "false"}, 422),
        ("/control/switch", {"reach": "fleet"}, 422),
        ("/control/budget", {"reach": "fleet", "cpu_percent": "much"}, 422),
        ("/control/budget", {"reach": "fleet", "cpu_percent": "nan"}, 422),
        ("/control/budget", {"reach": "fleet", "mb_per_hour": "0.01"}, 422),
        ("/control/tags", {"agent": "pacs", "tags": "x" * 41}, 422),
        ("/control/service", {"agent": "pacs", "port": "99999", "name": "x"}, 422),
        ("/control/run", {"src": "pacs", "dst": "pacs"}, 409),
        ("/control/revoke", {"agent": "nobody"}, 409),
        ("/control/revoke", {"back": "/"}, 422),
    ],
)
def test_what_does_not_fit_is_a_page_that_says_so(
    site: Site, path: str, fields: dict[str, str], status: int
) -> None:
    answer = send(site, path, **fields)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h1" in answer.text


@given(st.text(max_size=60))
def test_no_form_leads_to_another_site(back: str) -> None:
    to = own(back)
    assert to.startswith("/")
    assert not to.startswith(("//", "/\\"))
    assert to.isascii()
    assert "\n" not in to


def test_budgets_and_tags_are_read_in_peoples_units() -> None:
    asked = budget_of(BudgetForm(reach=Reach.FLEET, cpu_percent="0.8", mb_per_hour="36"))
    assert (asked.name, asked.cpu_bp, asked.bytes_per_hour) == (None, 80, 36_000_000)
    with pytest.raises(ProblemError):
        budget_of(BudgetForm(reach=Reach.FLEET, cpu_percent="101"))
    told = changes(["old", "kept"], "kept, new")
    assert (told.add, told.remove) == (["new"], ["old"])


# --- words and rates: pure --------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", [*Dependence])
@pytest.mark.parametrize("filtering", [*Dependence])
def test_every_nat_has_words(mapping: Dependence, filtering: Dependence) -> None:
    nat = NatReport(udp=True, mapping=mapping, filtering=filtering, hairpin=True, cgnat=True, lifetime_s=30)
    assert nat_short(nat)
    assert all(sentence.endswith(".") for sentence in nat_sentences(nat))
    assert nat_short(NatReport(udp=False)) == "UDP blocked"
    assert nat_short(None) == ""


def test_rates_are_of_all_that_is_remembered_and_unknown_where_they_cannot_be_told() -> None:
    before = msgspec.structs.replace(HEALTH, cpu_us=0, bytes_sent=None)
    later = msgspec.structs.replace(HEALTH, cpu_us=600_000, bytes_sent=5_000)
    told = vitals_of([Told(AT_US, before), Told(AT_US + 60_000_000, later)])
    assert told is not None
    assert (told.over_s, told.cpu_bp, told.bytes_per_hour) == (60, 100, None)
    once = vitals_of([Told(AT_US, later)])
    assert once is not None
    assert (once.over_s, once.cpu_bp, once.bytes_per_hour) == (0, None, None)
    again = vitals_of([Told(AT_US, later), Told(AT_US + 1, before)])  # it began anew
    assert again is not None
    assert again.cpu_bp is None
    assert vitals_of([]) is None


@given(st.integers(0, 300), st.integers(0, 400), st.integers(1, 50))
def test_pieces_are_the_whole_list_and_lead_to_each_other(of: int, start: int, size: int) -> None:
    piece = piece_of(range(of), start, size)
    assert list(piece.rows) == list(range(of))[piece.start : piece.start + size]
    assert (piece.before is None) is (piece.start == 0)
    assert (piece.after is None) is (piece.start + size >= of)
    seen: list[int] = []
    at: int | None = 0
    while at is not None:
        part = piece_of(range(of), at, size)
        seen += part.rows
        at = part.after
    assert seen == list(range(of))


def test_agents_that_are_away_come_first() -> None:
    agents = [info_of(member) for member in MEMBERS]
    agents[4] = msgspec.structs.replace(agents[4], online=False)
    assert listed(agents, Wanted())[0].name == "pacs"
    assert [agent.name for agent in listed(agents, Wanted(which=Which.AWAY))] == ["pacs"]
