"""Which source of sessions an agent takes, and what it says when it is not the best one."""

import logging
from contextlib import nullcontext
from typing import Any

import pytest

import ebpf.load
from agent.passive.source import opened
from ebpf.errors import BccMissingError, EbpfError

REFUSAL = BccMissingError("passive capture needs bcc", remedy="apt install python3-bpfcc")


class Hooked:
    """What an open monitor is to an agent's greeting."""

    hooks = ("a", "b", "c")


@pytest.fixture
def ebpf_works(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    asked: list[dict[str, object]] = []

    def open_monitor(**how: object) -> object:
        asked.append(how)
        return nullcontext(Hooked())

    monkeypatch.setattr(ebpf.load, "open_monitor", open_monitor)
    return asked


@pytest.fixture
def ebpf_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_monitor(**_how: object) -> object:
        raise REFUSAL

    monkeypatch.setattr(ebpf.load, "open_monitor", open_monitor)


@pytest.mark.parametrize("passive", ["auto", "ebpf"])
def test_ebpf_is_taken_where_it_works(place: Any, ebpf_works: list[dict[str, object]], passive: str) -> None:
    config = place.config(passive=passive)
    with opened(config) as found:
        assert isinstance(found.source, Hooked)
        assert found.told == "ebpf (3 hooks)"
    assert ebpf_works[0]["cache"] == config.cache_folder
    assert ebpf_works[0]["netns"]


def test_all_namespaces_are_watched_where_that_is_asked_for(
    place: Any, ebpf_works: list[dict[str, object]]
) -> None:
    with opened(place.config(passive="ebpf", namespaces="all")):
        assert ebpf_works[0]["netns"] is None


@pytest.mark.usefixtures("ebpf_fails")
def test_auto_falls_back_and_says_why_what_is_missed_and_what_to_do(
    place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), opened(place.config(passive="auto")) as found:
        assert found.source is not None
        assert found.source.source == "inet_diag"
        assert found.told == "inet_diag (polls every 1 s: misses short sessions)"
    (said,) = (record.getMessage() for record in caplog.records if "no eBPF" in record.getMessage())
    for part in ("polled every 1 s, which misses those that are shorter", str(REFUSAL), REFUSAL.remedy):
        assert part in said


@pytest.mark.usefixtures("ebpf_fails")
def test_where_ebpf_is_demanded_nothing_else_is_taken(place: Any) -> None:
    with pytest.raises(EbpfError) as caught, opened(place.config(passive="ebpf")):
        pass
    assert caught.value is REFUSAL


def test_off_is_off(place: Any, ebpf_works: list[dict[str, object]]) -> None:
    with opened(place.config(passive="off")) as found:
        assert (found.source, found.told) == (None, "off")
    assert ebpf_works == []
