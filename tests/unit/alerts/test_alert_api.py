"""Alerts over the API, by the command, and on the page; what is audited; and hostile text."""

import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import pytest

import pathgrade as command
from analytics.clock import now_us
from server.alerts.model import Matcher, ReceiverStatus, Silence
from server.alerts.receivers.config import AlertsConfig, Webhook
from server.api.alert_door import AlertList, SilenceAsk
from server.api.audits import AuditAsk
from tests.unit.alerts.parts import Parts, mend, parts, worsen
from tests.unit.alerts.receivers import Web, free_port, web
from tests.unit.alerts.test_watcher import look
from tests.unit.web.fleet import serve
from tests.unit.web.test_pages import Words

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Parts, str, Web]]:
    """A server with one open alert and two receivers, of which one is gone."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "secret").write_text(SECRET)
    with web() as hook:
        told = {
            "oncall": Webhook(url=hook.url, secret_file=folder / "secret"),
            "gone": Webhook(url=f"http://127.0.0.1:{free_port()}", secret_file=folder / "secret"),
        }
        with parts(folder, config=AlertsConfig(receivers=told)) as of:
            worsen(of)
            of.desk.watcher.look()
            with serve(of.core, alerts=of.desk, meter=of.meter) as url:
                yield of, url, hook


@pytest.fixture
def api(site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{site[1]}/v1/", trust_env=False) as client:
        yield client


class Done(NamedTuple):
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def pathgrade(site, *words: str) -> Done:
    """Run the command as its own ``main`` does, but in this process: ten starts would take long."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["pathgrade", "alerts", *words, "--url", site[1]])
        with pytest.raises(SystemExit) as caught:
            command.main()
    return Done(int(caught.value.code or 0), out.getvalue(), err.getvalue())


def audited(of: Parts) -> list[tuple[str, str, str]]:
    of.desk._audit._write(of.desk._audit._take())
    return [
        (row.action, row.subject, row.detail) for row in of.state.audits.look("default", AuditAsk(limit=50))
    ]


def test_open_alerts_are_listed_as_a_struct(api: httpx.Client) -> None:
    answer = api.get("alerts")
    assert answer.headers["cache-control"] == "no-store"
    found = msgspec.json.decode(answer.content, type=AlertList)
    assert [one.cannot for one in found.open] == [["radiologist"]]
    assert found.past == []
    assert found.looked_us is not None


@pytest.mark.parametrize("since", ["7d", "2026-11-25T00:00Z", "1", ""])
def test_since_is_a_moment(api: httpx.Client, since: str) -> None:
    assert api.get("alerts", params={"since": since}).status_code == 200


def test_what_does_not_fit_is_a_problem(api: httpx.Client) -> None:
    nothing = {"content": b"{}", "headers": {"Content-Type": "application/json"}}
    for answer, status in (
        (api.get("alerts", params={"since": "whenever"}), 422),
        (api.post("alerts/nobody/ack", **nothing), 404),
        (api.post("alerts/nobody/ack", content=b"{}"), 415),
        (api.post("alerts/nobody/ack", content=b'{"by": 1}', headers=nothing["headers"]), 422),
        (api.post("silences", **nothing), 422),
        (api.delete("silences/nobody"), 404),
        (api.post("alerts/receivers/nobody/test", **nothing), 404),
    ):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_silence_is_made_listed_ended_and_audited(site, api: httpx.Client) -> None:
    ask = SilenceAsk(matcher=Matcher(where="hotel"), until_us=now_us() + 60_000_000, by="anna", note="moving")
    answer = api.post(
        "silences", content=msgspec.json.encode(ask), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201
    made = msgspec.json.decode(answer.content, type=Silence)
    assert [one["id"] for one in api.get("silences").json()] == [made.id]
    assert api.delete(f"silences/{made.id}").status_code == 204
    assert api.get("silences").json() == []
    assert ("silence", made.id, "where='hotel' note='moving'") in audited(site[0])
    assert ("unsilence", made.id, "") in audited(site[0])


def test_the_command_lists_acknowledges_silences_and_tests(site) -> None:
    of, _, hook = site
    listed = pathgrade(site)
    assert listed.returncode == 0, listed.stderr
    (alert,) = of.desk.alerts(None, 10).open
    assert alert.id in listed.stdout
    assert "cannot open a CT from the PACS" in " ".join(listed.stdout.split())
    seen = pathgrade(site, "ack", alert.id[:5], "--note", "provider called", "--by", "anna")
    assert seen.stdout == f"seen by anna: {alert.title} ({alert.id})\n"
    assert "Seen by anna: provider called" in " ".join(pathgrade(site).stdout.split())
    quiet = pathgrade(site, "silence", "--id", alert.id, "--for", "30m", "--json")
    made = json.loads(quiet.stdout)
    assert made["matcher"] == {"id": alert.id}
    assert pathgrade(site, "unsilence", made["id"]).stdout == f"ended: silence {made['id']}\n"
    good, bad = pathgrade(site, "test", "oncall"), pathgrade(site, "test", "gone")
    assert (good.returncode, bad.returncode) == (0, 69)
    assert good.stdout.startswith("delivered to oncall in ")
    assert bad.stdout.startswith("not delivered: tell gone: ")
    assert json.loads(hook.taken[-1].body)["event"] == "test"
    told = pathgrade(site, "receivers", "--json")
    found = msgspec.json.decode(told.stdout, type=list[ReceiverStatus])
    assert [(one.name, one.kind, one.least) for one in found] == [
        ("oncall", "webhook", "warning"),
        ("gone", "webhook", "warning"),
    ]
    assert {action for action, _, _ in audited(of)} >= {"ack", "silence", "unsilence", "alert-test"}


def test_the_command_says_what_is_wrong(site) -> None:
    for words, code, said in (
        (("ack", "nobody"), 65, "no open alert is called 'nobody'"),
        (("test", "nobody"), 65, "no receiver is called 'nobody'"),
        (("silence", "--for", "1h"), 65, "a silence of everything"),
        (("silence", "--where", "x", "--for", "soon"), 2, "is not a time"),
    ):
        done = pathgrade(site, *words)
        assert done.returncode == code, done.stderr
        assert said in done.stderr


def test_the_page_has_the_words_and_no_script_of_others(site) -> None:
    of, url, _ = site
    answer = httpx.get(f"{url}/alerts", trust_env=False)
    page = Words(answer.text)
    (alert,) = of.desk.alerts(None, 10).open
    assert "1 alert is open." in page.text
    assert alert.text in page.text
    assert alert.id in page.text
    assert "Who is told" in page.text
    assert "oncall" in page.text
    assert not any("style" in attributes or "onclick" in attributes for _, attributes in page.tags)
    assert page.open == []


def test_the_page_acknowledges_and_silences_without_a_script(tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        worsen(of)
        look(of)
        (alert,) = of.desk.alerts(None, 10).open
        with serve(of.core, alerts=of.desk) as url, httpx.Client(base_url=url, trust_env=False) as browser:
            forms = re.findall(r'action="(/[^"]+)"', browser.get("/alerts").text)
            assert {f"/alerts/{alert.id}/ack", f"/alerts/{alert.id}/silence"} <= set(forms)
            seen = browser.post(
                f"/alerts/{alert.id}/ack", data={"note": "called", "back": "/alerts?since=1d"}
            )
            assert (seen.status_code, seen.headers["location"]) == (303, "/alerts?since=1d")
            away = browser.post(f"/alerts/{alert.id}/silence", data={"span": "2h", "back": "//evil.example"})
            assert (away.status_code, away.headers["location"]) == (303, "/")
            (silence,) = of.desk.silences()
            assert abs(silence.until_us - now_us() - 7_200_000_000) < 60_000_000
            assert of.desk.alerts(None, 10).open[0].ack_note == "called"
            assert f"/silences/{silence.id}/end" in browser.get("/alerts").text
            assert browser.post(f"/silences/{silence.id}/end", data={"back": "/alerts"}).status_code == 303
            assert of.desk.silences() == []
            assert browser.post(f"/alerts/{alert.id}/silence", data={"span": "9y"}).status_code == 422
            assert browser.post("/alerts/nobody/ack", data={"note": ""}).status_code == 404


def test_hostile_text_is_text(site, tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        evil = "<script>alert(1)</script>"
        of.core.fleet = [
            msgspec.structs.replace(m, label=evil) if m.name == "radiologist" else m for m in of.core.fleet
        ]
        worsen(of)
        look(of)
        with serve(of.core, alerts=of.desk) as url:
            answer = httpx.get(f"{url}/alerts", trust_env=False)
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text


def test_the_page_at_a_past_moment_is_of_then(tmp_path: Path) -> None:
    with parts(tmp_path) as of:
        look(of)
        before_us = now_us()
        worsen(of)
        look(of)
        (alert,) = of.desk.alerts(None, 10).open
        during_us = now_us()
        mend(of)
        look(of)
        look(of)
        assert of.desk.alerts(None, 10).open == []
        assert [one.id for one in of.desk.alerts(0, 10, at_us=during_us).open] == [alert.id]
        assert of.desk.alerts(0, 10, at_us=before_us).open == []
        with serve(of.core, alerts=of.desk) as url:
            then = httpx.get(f"{url}/alerts", params={"at": str(during_us)}, trust_env=False)
            now = httpx.get(f"{url}/alerts", trust_env=False)
            answer = httpx.get(f"{url}/v1/alerts", params={"at": str(during_us)}, trust_env=False)
    assert "1 alert was open." in Words(then.text).text
    assert "No alert is open." in Words(now.text).text
    assert alert.text in Words(now.text).text  # under what is over
    assert len(answer.json()["open"]) == 1
