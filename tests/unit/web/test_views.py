"""What a page shows, computed from a report."""

import msgspec

from analytics.measurement import Hop
from server.pages import views
from tests.unit.web.fleet import MEMBERS, FixtureCore, hops, row

HOTEL, PACS = MEMBERS[5], MEMBERS[4]


def test_bars_share_one_scale() -> None:
    view = views.report_view(FixtureCore().report("pacs"))
    longest = max(line.row.rtt_min_us or 0 for line in view.lines)

    for line in view.lines:
        assert line.bar is not None
        drawn = sum(segment.width for segment in line.bar.segments)
        assert drawn == (line.row.rtt_min_us or 0) * views.BAR_WIDTH // longest


def test_a_path_without_hops_has_no_bar() -> None:
    bare = msgspec.structs.replace(row(HOTEL, PACS, "pacs"), legs=[])
    assert views.leg_bar(bare, 1) is None


def test_hops_stand_in_their_legs() -> None:
    groups = views.hop_groups(row(HOTEL, PACS, "pacs"), hops(HOTEL, PACS))

    assert [(group.leg, [line.hop.ttl for line in group.lines]) for group in groups] == [
        ("radiologist's host", [1]),
        ("hotel access", [2]),
        ("transit", [3, 4]),
        ("hospital access", [5]),
        ("pacs' host", [6]),
    ]
    added = [line.added_us for group in groups for line in group.lines]
    assert added == [1_600, 212_500, 28_000, None, 4_100, 300]
    assert [line.hop.ttl for group in groups for line in group.lines if line.largest] == [2]


def test_a_router_slow_to_answer_adds_nothing() -> None:
    slow = [
        msgspec.structs.replace(hop, rtt_min_us=900_000) if hop.ttl == 3 else hop for hop in hops(HOTEL, PACS)
    ]
    lines = [line for group in views.hop_groups(row(HOTEL, PACS, "pacs"), slow) for line in group.lines]

    assert [line.hop.ttl for line in lines if line.largest] == [2]
    assert sum(line.added_us or 0 for line in lines) == row(HOTEL, PACS, "pacs").rtt_min_us


def test_hops_that_nobody_answered_for_are_one_group() -> None:
    silent = [
        Hop(tenant="default", cycle=0, test="t", src="radiologist", dst="pacs", ttl=ttl, sent=6)
        for ttl in (1, 2)
    ]
    (group,) = views.hop_groups(row(HOTEL, PACS, "pacs"), silent)

    assert (group.leg, len(group.lines)) == ("", 2)
    assert not any(line.largest for line in group.lines)


def test_a_person_is_shown_with_the_path_from_the_service() -> None:
    view = views.report_view(FixtureCore().report("pacs"))

    assert [(place.member.name, place.can) for place in view.workplaces][:2] == [
        ("radiologist", "cannot"),
        ("clinic", "can"),
    ]
    for place in view.workplaces:
        assert place.line is not None
        assert (place.line.row.src, place.line.row.dst) == ("pacs", place.member.name)


def test_a_person_not_measured_yet_is_shown_without_a_letter() -> None:
    report = FixtureCore().report("pacs")
    unmeasured = msgspec.structs.replace(report, paths=[])

    assert all(place.line is None for place in views.report_view(unmeasured).workplaces)


def test_the_matrix_gives_way_to_a_large_fleet() -> None:
    report = FixtureCore().report("pacs")
    assert views.report_view(report).matrix is not None
    large = msgspec.structs.replace(report, members=MEMBERS * 5)
    assert views.report_view(large).matrix is None


def test_an_end_that_does_not_see_the_largest_leg_marks_none_and_says_who_told() -> None:
    path = row(PACS, HOTEL, "pacs")
    near = views.hop_groups(path, hops(PACS, HOTEL)[:3])

    assert [group.leg for group in near] == ["pacs' host", "hospital access", "transit"]
    assert not any(line.largest for group in near for line in group.lines)
    told = views.told_elsewhere(path, near).replace("\N{NO-BREAK SPACE}", " ")
    assert told == "hotel access 212 ms, radiologist's host 1.6 ms"
