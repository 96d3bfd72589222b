"""From a report to an alert to a receiver: one look after the other, over state on disk."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from analytics.measurement import Letter
from server.alerts.model import Event, Matcher, Notice, Severity
from server.alerts.receivers.config import Alertmanager, AlertsConfig, Webhook
from server.api.alert_door import AckAsk, SilenceAsk
from server.errors import AlertError
from tests.unit.alerts.parts import HOTEL_BAD, RULES, WELL, Parts, deliver, mend, parts, tick, worsen
from tests.unit.alerts.receivers import until, web
from tests.unit.web.fleet import FixtureCore

SECRET = "0123456789abcdef0123456789abcdef"


def hooked(url: str, folder: Path, **more: object) -> AlertsConfig:
    (folder / "secret").write_text(SECRET)
    hook = Webhook(url=url, secret_file=folder / "secret", **more)  # type: ignore[arg-type]  # as named
    return AlertsConfig(receivers={"oncall": hook})


def told(receiver) -> list[tuple[str, str]]:
    notices = [msgspec.json.decode(one.body, type=Notice) for one in receiver.taken]
    return [(one.event.value, one.alert.where) for one in notices]


def look(of: Parts) -> None:
    tick()
    of.desk.watcher.look()
    deliver(of)


def test_a_bad_uplink_is_one_alert_in_words_and_one_notice(tmp_path: Path) -> None:
    with web() as receiver, parts(tmp_path, config=hooked(receiver.url, tmp_path)) as of:
        look(of)
        assert told(receiver) == []
        worsen(of)
        for _ in range(3):
            look(of)
        (alert,) = of.desk.alerts(None, 10).open
        assert (alert.severity, alert.profile, alert.cannot) == (Severity.WARNING, "pacs", ["radiologist"])
        assert alert.text.endswith("The radiologist (hotel) cannot open a CT from the PACS.")
        assert {tuple(pair) for pair in alert.pairs} == set(HOTEL_BAD)
        mend(of)
        look(of)  # begins to be quiet
        look(of)
        assert told(receiver) == [("opened", alert.where), ("closed", alert.where)]
        found = of.desk.alerts(0, 10)
        assert found.open == []
        assert [one.id for one in found.past] == [alert.id]


def test_a_restart_neither_repeats_nor_loses_an_alert(tmp_path: Path) -> None:
    with web() as receiver:
        config = hooked(receiver.url, tmp_path)
        with parts(tmp_path, config=config) as of:
            worsen(of)
            of.desk.watcher.look()  # told of, but the server ends before it is delivered
        with parts(tmp_path, config=config) as of:
            worsen(of)
            look(of)
            look(of)
        with parts(tmp_path, config=config) as of:
            worsen(of)
            look(of)
            assert len(of.desk.alerts(None, 10).open) == 1
    assert [event for event, _ in told(receiver)] == ["opened"]


def test_silence_ack_and_the_end_of_a_silence(tmp_path: Path) -> None:
    with web() as receiver, parts(tmp_path, config=hooked(receiver.url, tmp_path)) as of:
        worsen(of)
        ask = SilenceAsk(matcher=Matcher(agent="radiologist"), until_us=2**60, note="moving")
        with pytest.raises(AlertError, match="90 days"):
            of.desk.silence(ask, actor="anna")
        soon = of.desk.alerts(None, 1).at_us + 60_000_000
        made = of.desk.silence(msgspec.structs.replace(ask, until_us=soon), actor="anna")
        look(of)
        (alert,) = of.desk.alerts(None, 10).open
        assert (alert.silence, told(receiver)) == (made.id, [])
        of.desk.unsilence(made.id, actor="anna")
        look(of)
        assert [event for event, _ in told(receiver)] == ["opened"]
        seen = of.desk.acknowledge(alert.id, AckAsk(note="provider called"), actor="anna")
        deliver(of)
        look(of)
        assert (seen.acked_by, seen.ack_note) == ("anna", "provider called")
        assert of.desk.alerts(None, 10).open[0].acked_by == "anna"
        assert [event for event, _ in told(receiver)] == ["opened", "acknowledged"]
        with pytest.raises(AlertError, match="a silence of everything"):
            of.desk.silence(SilenceAsk(matcher=Matcher(where="*"), until_us=soon), actor="anna")
        for call in (
            lambda: of.desk.unsilence("nobody", actor="anna"),
            lambda: of.desk.acknowledge("nobody", AckAsk(), actor="anna"),
        ):
            with pytest.raises(AlertError, match="nobody"):
                call()


def test_receivers_are_told_what_is_for_them(tmp_path: Path) -> None:
    with (
        web() as receiver,
        parts(tmp_path, config=hooked(receiver.url, tmp_path, least=Severity.CRITICAL)) as of,
    ):
        worsen(of)
        look(of)
        assert told(receiver) == []
        others = ("clinic", "home", "office-1", "office-2", "radiologist")
        gone = {pair: Letter.F for other in others for pair in (("pacs", other), (other, "pacs"))}
        of.core.letters = {**WELL, **gone}
        look(of)
        assert {event for event, _ in told(receiver)} == {"opened"}


def test_the_servers_own_troubles_raise_alerts(tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        look(of)
        of.own.refused[422] += 1
        look(of)
        (alert,) = of.desk.alerts(None, 10).open
        assert (alert.rule, alert.kind, alert.severity) == ("refused", "own", Severity.WARNING)
        assert "batches_refused is 1. Try: " in alert.text
        of.own.refused[401] += 5  # whoever knocks without a credential is no alert
        of.own.refused[503] += 5
        look(of)
        look(of)
        assert of.desk.alerts(None, 10).open == []


def test_agents_that_are_away_raise_an_alert_by_site(tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        of.core.fleet = [msgspec.structs.replace(m, online=m.site != "office") for m in of.core.fleet]
        look(of)
        assert [one.title for one in of.desk.alerts(None, 10).open] == ["office: 2 of 2 agents away"]


def test_it_runs_in_the_background_and_a_mistake_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.alerts.watcher.LOOK_S", 0.02)
    monkeypatch.setattr("server.alerts.watcher.REST", 0)

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    async def live(of: Parts, receiver) -> None:
        running = asyncio.create_task(of.desk.run())
        with monkeypatch.context() as patched:
            patched.setattr(FixtureCore, "overview", broken)
            await asyncio.to_thread(until, lambda: of.own.failures.look_failures, "a look breaks off")
        await asyncio.to_thread(worsen, of)
        await asyncio.to_thread(receiver.wait)
        running.cancel()
        await asyncio.wait([running])

    with web() as receiver, parts(tmp_path, config=hooked(receiver.url, tmp_path)) as of:
        asyncio.run(asyncio.wait_for(live(of, receiver), 60))
    assert told(receiver)[0][0] == Event.OPENED


def test_what_is_still_open_is_told_again_to_who_forgets(tmp_path: Path) -> None:
    with (
        web() as receiver,
        parts(tmp_path, config=AlertsConfig(receivers={"am": Alertmanager(url=receiver.url)})) as of,
    ):
        worsen(of)
        look(of)
        of.desk.watcher._repeat()
        deliver(of)
        assert len(receiver.taken) == 2
        assert receiver.taken[1].path == "/api/v2/alerts"


def test_the_rules_hold_their_time(tmp_path: Path) -> None:
    """With the rules as they are, the first look opens nothing."""
    with parts(tmp_path, rules=RULES) as of:
        worsen(of)
        look(of)
        assert of.desk.alerts(None, 10).open == []
        assert until(of.desk.watcher._book.live, "it is pending")
