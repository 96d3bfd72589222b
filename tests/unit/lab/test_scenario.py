import pytest
from lab.errors import ScenarioError
from lab.scenario import FOLDER, Line, load

SITE = """
[[sites]]
name = "{name}"
nat = "ordinary"
lan = "{lan}"
agents = [{{ name = "{agent}" }}]
[sites.uplink]
up = {{ delay_ms = 1 }}
down = {{ delay_ms = 1 }}
[sites.backbone]
up = {{}}
down = {{}}
"""


def write(tmp_path, text):
    path = tmp_path / "scenario.toml"
    path.write_text('title = "t"\n' + text)
    return path


def one_site(name="a", agent="a1", lan="10.0.0.0/24"):
    return SITE.format(name=name, agent=agent, lan=lan)


def test_every_scenario_that_is_shipped_holds():
    paths = list(FOLDER.glob("*.toml"))
    assert paths
    for path in paths:
        load(path)


def test_the_radiologist_scenario_is_the_one_of_the_demo():
    scenario = load(FOLDER / "radiologist.toml")
    assert [site.name for site in scenario.sites] == ["hospital", "hotel", "home", "clinic", "office"]
    assert len(scenario.agents()) == 6


def test_units_of_a_file_become_units_of_a_cable():
    line = Line(delay_ms=1.5, jitter_ms=0.25, loss_percent=0.3, rate_mbit=12, queue_ms=40)
    assert line.settings.delay_us == 1_500
    assert line.settings.jitter_us == 250
    assert line.settings.loss_ppm == 3_000
    assert line.settings.rate_kbps == 12_000
    assert line.settings.queue_us == 40_000


def test_every_mistake_is_said_at_once(tmp_path):
    text = (
        one_site()
        + one_site(lan="10.0.0.5/24")
        + '[[fetches]]\nagent = "nobody"\nwith = "curl"\nimages = 1\n'
        + '[[faults]]\nat_s = 1\nlink = "a-downlink"\n'
    )
    with pytest.raises(ScenarioError) as caught:
        load(write(tmp_path, text))
    assert caught.value.mistakes == (
        "site 'a' is there 2 times",
        "agent 'a1' is there 2 times",
        "site 'a': lan: 10.0.0.5/24 has host bits set",
        "fetch: there is no agent 'nobody'",
        "there are fetches, but no [pacs] to fetch from",
        "fault at 1.0 s: there is no link 'a-downlink'",
        "fault at 1.0 s: changes nothing",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "sites"),
        ("sites = 3", "sites"),
        (one_site().replace("ordinary", "carrier"), "nat"),
        (one_site().replace("delay_ms", "delay"), "delay"),
        (one_site(agent="a1\\n"), "regex"),
        (one_site().replace("delay_ms = 1", "delay_ms = -1"), ">= 0"),
        (one_site(lan="10.0.0.0/29"), "too small"),
        ("title = ", "invalid"),
    ],
)
def test_a_bad_file_is_one_error_that_names_the_place(tmp_path, text, says):
    with pytest.raises(ScenarioError, match=r"scenario\.toml") as caught:
        load(write(tmp_path, text))
    assert says.lower() in str(caught.value).lower()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml")
