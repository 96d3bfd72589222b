import msgspec
import pytest
from lab.plan import make_plan
from lab.scenario import FOLDER, LineSettings, Nat, load
from lab.truth import make_truth

WORST_PAIR = ("pacs", "radiologist")


@pytest.fixture(scope="module")
def scenario():
    return load(FOLDER / "radiologist.toml")


@pytest.fixture(scope="module")
def plan(scenario):
    return make_plan(scenario, "unit")


@pytest.fixture(scope="module")
def truth(plan):
    return make_truth(plan)


def test_six_agents_make_thirty_directed_paths(truth):
    assert len(truth.paths) == 30


def test_legs_sum_to_the_least_round_trip(truth):
    for path in truth.paths:
        assert sum(path.legs.values()) == path.rtt_base_us


def test_a_round_trip_is_the_same_from_both_ends_and_losses_change_places(truth):
    for path in truth.paths:
        back = truth.path(path.dst, path.src)
        assert path.rtt_base_us == back.rtt_base_us
        assert path.rtt_median_us == back.rtt_median_us
        assert (path.loss_ppm, path.loss_back_ppm) == (back.loss_back_ppm, back.loss_ppm)


def test_the_hotel_is_bad_because_of_its_uplink_and_nobody_else_is(truth):
    path = truth.path(*WORST_PAIR)
    assert path.largest_leg == "destination-access"
    assert 255_000 < path.rtt_median_us < 265_000
    assert 210_000 < path.legs["destination-access"] < 214_000
    others = [one for one in truth.paths if "hotel" not in (one.src_site, one.dst_site)]
    assert all(one.rtt_median_us < 60_000 for one in others)


def test_only_the_clinic_needs_the_relay(truth):
    for path in truth.paths:
        assert path.relayed == ("clinic" in (path.src, path.dst))
        assert path.rungs == (["relay-udp"] if path.relayed else path.rungs)


def test_desks_of_one_office_meet_on_their_lan(truth):
    path = truth.path("office-1", "office-2")
    assert path.rungs == ["lan"]
    assert path.rtt_base_us == 0
    assert path.hops == ["10.1.0.11"]


def test_hops_in_order(truth):
    assert truth.path("radiologist", "pacs").hops == [
        "192.168.7.1",
        "203.0.113.5",
        "198.51.100.6",
        "198.51.100.1",
        "203.0.113.2",
        "10.20.0.10",
    ]
    assert truth.path("radiologist", "clinic").hops[-1] == "198.51.100.134"


def test_the_rate_of_a_path_is_that_of_its_narrowest_cable(truth):
    path = truth.path("radiologist", "pacs")
    assert (path.rate_kbps, path.rate_back_kbps) == (12_000, 25_000)


def test_losses_of_cables_multiply(plan, truth):
    settings = {link: (LineSettings(loss_ppm=100_000), LineSettings()) for link in plan.links}
    path = make_truth(plan, settings).path("radiologist", "pacs")
    assert path.loss_ppm == 190_000  # two cables up at 10 %: 1 - 0.9 * 0.9
    assert path.loss_back_ppm == 190_000
    assert truth.path("radiologist", "pacs").loss_ppm == 3_000


def test_jitter_moves_the_median_by_as_much_as_half_normals_do(plan):
    still = make_truth(plan, {link: (LineSettings(), LineSettings()) for link in plan.links})
    jitter = LineSettings(jitter_us=1_000)
    moved = make_truth(plan, dict.fromkeys(plan.links, (jitter, jitter)))
    by_us = moved.path(*WORST_PAIR).rtt_median_us - still.path(*WORST_PAIR).rtt_median_us
    mean_us = 8 * 1_000 * (2 / 3.141592653589793) ** 0.5
    assert mean_us * 0.97 < by_us < mean_us  # a little below the mean: the sum leans to the right


def test_two_open_sites_meet_as_hosts_and_symmetric_meets_open_directly(scenario):
    nats = (Nat.NONE, Nat.NONE, Nat.SYMMETRIC, Nat.SYMMETRIC, Nat.ORDINARY)
    sites = [msgspec.structs.replace(site, nat=nat) for site, nat in zip(scenario.sites, nats, strict=True)]
    truth = make_truth(make_plan(msgspec.structs.replace(scenario, sites=sites), "unit"))
    assert truth.path("pacs", "radiologist").rungs == ["lan", "srflx"]
    assert not truth.path("pacs", "home").relayed
    assert truth.path("home", "clinic").relayed
    assert truth.path("clinic", "office-1").relayed
