import pytest
from lab.check import FlowClaim, check_flows, check_legs, check_paths, check_verdict, plausible_loss
from lab.plan import make_plan
from lab.scenario import FOLDER, load
from lab.truth import make_truth


@pytest.fixture(scope="module")
def truth():
    return make_truth(make_plan(load(FOLDER / "radiologist.toml"), "unit"))


def row_of(path):
    """The row that a perfect measurement of a path would give."""
    return {
        "src": path.src,
        "dst": path.dst,
        "grade": {"letter": "D" if path.dst == "radiologist" else "A"},
        "rung": path.rungs[0],
        "rungs_failed": "",
        "error": "",
        "rtt_p50_us": path.rtt_median_us,
        "rtt_min_us": path.rtt_base_us,
        "sent": 300,
        "received": 300,
        "loss_bp": 0,
        "loss_back_bp": 0,
        "legs": [{"kind": kind, "rtt_us": us} for kind, us in path.legs.items()],
    }


@pytest.fixture
def rows(truth):
    return [row_of(path) for path in truth.paths]


def row(rows, src, dst):
    return next(one for one in rows if (one["src"], one["dst"]) == (src, dst))


def test_a_perfect_report_agrees(truth, rows):
    assert check_paths(truth, rows) == []
    assert check_legs(truth, rows) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rung": "srflx"}, "rung srflx, the lab allows relay-udp"),
        ({"grade": {"letter": "E"}}, "'E' is no letter"),
        ({"rtt_p50_us": None}, "no round trip"),
        ({"loss_bp": None}, "loss is not known in both directions"),
        ({"received": 280}, "20 of 300 lost, truth 0.00 %"),
    ],
)
def test_what_does_not_agree_is_said(truth, rows, change, says):
    row(rows, "home", "clinic").update(change)
    (said,) = check_paths(truth, rows)
    assert said.startswith("home -> clinic: ")
    assert says in said


def test_a_direct_round_trip_may_be_off_by_a_millisecond_or_two_percent(truth, rows):
    near, far = row(rows, "home", "pacs"), row(rows, "radiologist", "pacs")
    near["rtt_p50_us"] += 999
    far["rtt_p50_us"] += 5_000
    assert check_paths(truth, rows) == []
    near["rtt_p50_us"] += 2
    far["rtt_p50_us"] += 300
    assert len(check_paths(truth, rows)) == 2


def test_a_missing_and_an_invented_path_are_said(truth, rows):
    row(rows, "home", "pacs")["dst"] = "nobody"
    assert check_paths(truth, rows) == ["home -> nobody: not a path of the lab", "home -> pacs: missing"]


def test_legs_that_do_not_sum_or_are_elsewhere_are_said(truth, rows):
    legs = {leg["kind"]: leg for leg in row(rows, "radiologist", "pacs")["legs"]}
    legs["source-access"]["rtt_us"] -= 10_000
    assert any("legs sum to" in said for said in check_legs(truth, rows))
    legs["transit"]["rtt_us"] += 10_000
    said = check_legs(truth, rows)
    assert len(said) == 2
    assert "leg source-access" in said[0]


VERDICT = {
    "headline": "4 of 5 workplaces can open a CT from the PACS right now.",
    "details": [
        "The radiologist (hotel) cannot read comfortably (D). "
        "212 of 260 ms is added between the hotel's gateway and its provider."
    ],
    "cannot": ["radiologist"],
}


def test_a_verdict_that_names_the_worst_and_its_leg_agrees(truth, rows):
    assert check_verdict(truth, {"verdict": VERDICT, "paths": rows}, "pacs") == []


def test_a_verdict_that_blames_elsewhere_is_said(truth, rows):
    wrong = {**VERDICT, "details": ["The radiologist (hotel): 212 ms is added in transit."]}
    said = check_verdict(truth, {"verdict": wrong, "paths": rows}, "pacs")
    assert [one.split(":")[0] for one in said] == [
        "verdict does not say 'gateway'",
        "verdict does not say 'provider'",
    ]


def test_a_verdict_that_counts_other_people_than_the_grades_is_said(truth, rows):
    report = {"verdict": {**VERDICT, "cannot": ["home"]}, "paths": rows}
    assert len(check_verdict(truth, report, "pacs")) == 2


FLOW = {"process": "getscu", "direction": "out", "service_port": 4242, "srtt_us": 261_000}
CLAIM = FlowClaim("radiologist", "getscu", "out", 4242, [255_000, 262_000])


def test_a_passive_row_that_agrees_with_tcp_info():
    assert check_flows([CLAIM], {"radiologist": [FLOW]}) == []


@pytest.mark.parametrize(
    ("flows", "says"),
    [
        ([], "no passive row"),
        ([{**FLOW, "process": "curl"}], "no passive row"),
        ([{**FLOW, "direction": "in"}], "no passive row"),
        ([{**FLOW, "srtt_us": None}], "no passive row has an srtt"),
        ([{**FLOW, "srtt_us": 400_000}], "srtt ['400.0 ms'], TCP_INFO 255.0 ms to 262.0 ms"),
    ],
)
def test_a_passive_row_that_is_not_so(flows, says):
    assert check_flows([CLAIM], {"radiologist": flows}) == [f"radiologist: getscu port 4242: {says}"]


@pytest.mark.parametrize(
    ("lost", "rate", "plausible"),
    [
        (0, 0.0, True),
        (1, 0.0, False),
        (0, 0.003, True),
        (6, 0.003, True),
        (12, 0.003, False),
        (0, 0.1, False),
    ],
)
def test_losses_that_chance_explains(lost, rate, plausible):
    assert plausible_loss(lost, 300, rate) is plausible
