"""Each kind of receiver, against the real thing on loopback; and what becomes of what does not arrive."""

import asyncio
import hashlib
import hmac
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.clock import HOUR_US
from server.alerts import book as books
from server.alerts.book import Book
from server.alerts.model import Alert, Event, Matcher, Notice, Phase, Severity
from server.alerts.receivers import courier as courier_module
from server.alerts.receivers.config import (
    Alertmanager,
    AlertsConfig,
    Email,
    Receiver,
    Slack,
    Webhook,
    load_receivers,
    of_nobody,
    read_secret,
)
from server.alerts.receivers.courier import Courier
from server.alerts.receivers.messages import FORGOTTEN_S
from server.alerts.receivers.retry import MOST_US, wait_us
from server.alerts.receivers.send import Sender
from server.alerts.receivers.signature import signature, verify
from server.errors import DeliveryError, SettingsError
from server.state import State
from tests.unit.alerts.receivers import alertmanager, free_port, smtp, until, web
from tests.unit.alerts.test_lifecycle import open_alert

SECRET = "a secret of sixteen letters and more"
LINK = "https://pathgrade.example.org"


def notice(event: Event = Event.OPENED, *, before: Severity | None = None, **changes: object) -> Notice:
    now = time.time_ns() // 1_000
    at = {"first_us": now, "since_us": now - 90_000_000, "opened_us": now}
    alert = msgspec.structs.replace(open_alert(), **{**at, **changes})
    return Notice(event=event, tenant="default", at_us=now, alert=alert, before=before)


def over(alert: Alert) -> Notice:
    now = time.time_ns() // 1_000
    closed = msgspec.structs.replace(alert, phase=Phase.CLOSED, closed_us=now, closed_why="gone")
    return Notice(event=Event.CLOSED, tenant="default", at_us=now, alert=closed)


def send(receiver: Receiver, *notices: Notice, delivery: str = "default-1") -> None:
    async def sending() -> None:
        await Sender("oncall", receiver, LINK).send(notices, delivery, int(time.time()))

    asyncio.run(sending())


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    return file


# --- webhook ------------------------------------------------------------------------------------------------


def test_a_webhook_is_told_in_json_and_can_tell_who_told_it(secret_file: Path) -> None:
    with web() as receiver:
        sent = notice()
        send(Webhook(url=f"{receiver.url}/hook", secret_file=secret_file), sent)
    (taken,) = receiver.taken
    assert taken.path == "/hook"
    assert taken.headers["content-type"] == "application/json"
    assert taken.headers["pathgrade-delivery"] == "default-1"
    assert msgspec.json.decode(taken.body, type=Notice) == sent
    header, now_s = taken.headers["pathgrade-signature"], int(time.time())
    assert verify(SECRET, header, taken.body, now_s)
    assert not verify(SECRET, header, taken.body + b" ", now_s)
    assert not verify("another secret altogether", header, taken.body, now_s)
    assert not verify(SECRET, header, taken.body, now_s + 301)  # replayed later


def test_the_signature_is_that_of_the_documentation() -> None:
    said = hmac.new(b"key", b"1795464000.{}", hashlib.sha256).hexdigest()
    assert signature("key", b"{}", 1_795_464_000) == f"t=1795464000,v1={said}"


@given(st.text(max_size=80) | st.from_regex(r"t=\d{1,12},v1=[0-9a-f]{64}", fullmatch=True))
def test_no_header_but_the_right_one_is_good(header: str) -> None:
    assert not verify(SECRET, header, b"{}", 1_795_464_000)


@pytest.mark.parametrize(
    ("status", "again"), [(500, True), (429, True), (404, True), (400, False), (413, False)]
)
def test_what_a_webhook_answers_decides_whether_it_is_tried_again(
    secret_file: Path, status: int, again: bool
) -> None:
    with web() as receiver:
        receiver.answers = [(status, {"Retry-After": "7"})]
        receiver.body = b"no\x1b[31m thanks " + b"x" * 5_000
        with pytest.raises(DeliveryError) as caught:
            send(Webhook(url=receiver.url, secret_file=secret_file), notice())
    assert (caught.value.again, caught.value.asked_s) == (again, 7)
    assert str(status) in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_redirect_is_not_followed(secret_file: Path) -> None:
    with web() as receiver:
        receiver.answers = [(307, {"Location": f"{receiver.url}/elsewhere"})]
        with pytest.raises(DeliveryError):
            send(Webhook(url=receiver.url, secret_file=secret_file), notice())
    assert len(receiver.taken) == 1


def test_nobody_there_and_no_answer_are_errors_within_the_limit(secret_file: Path) -> None:
    with pytest.raises(DeliveryError, match="tell oncall"):
        send(Webhook(url=f"http://127.0.0.1:{free_port()}", secret_file=secret_file), notice())
    with web() as receiver:
        receiver.slow_s = 2.0
        with pytest.raises(DeliveryError, match=r"no answer within 0.2 s|Timeout"):
            send(Webhook(url=receiver.url, secret_file=secret_file, timeout_s=0.2), notice())


# --- Alertmanager -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory):
    with alertmanager(tmp_path_factory.mktemp("am")) as url:
        yield url


def listed(url: str, **labels: str) -> list[dict[str, object]]:
    asked = [("filter", f'{name}="{value}"') for name, value in labels.items()]
    answer = httpx.get(f"{url}/api/v2/alerts", params=asked, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()
    return found


def test_the_real_alertmanager_takes_an_alert_and_its_end(manager: str) -> None:
    to = Alertmanager(url=manager, labels={"team": "network"})
    sent = notice()
    send(to, sent)
    (found,) = until(lambda: listed(manager, alert_id=sent.alert.id), "it is listed")
    assert found["labels"] == {
        "alertname": "PathgradeCause",
        "alert_id": sent.alert.id,
        "tenant": "default",
        "kind": "uplink",
        "where": "hotel",
        "profile": "pacs",
        "severity": "warning",
        "team": "network",
    }
    assert found["annotations"]["summary"] == "The hotel's uplink"
    assert found["generatorURL"] == f"{LINK}/alerts#{sent.alert.id}"
    assert found["status"]["state"] in {"active", "unprocessed"}
    send(to, over(sent.alert))
    until(lambda: not listed(manager, alert_id=sent.alert.id), "it is over")


def test_a_rise_ends_the_milder_one_in_the_real_alertmanager(manager: str) -> None:
    to = Alertmanager(url=manager)
    first = notice(id="rising000000")
    send(to, first)
    send(to, notice(Event.WORSE, before=Severity.WARNING, id="rising000000", severity=Severity.CRITICAL))
    until(
        lambda: (
            [one["labels"]["severity"] for one in listed(manager, alert_id="rising000000")] == ["critical"]
        ),
        "only the critical one is active",
    )


def test_what_is_still_open_is_told_again_in_one_request(manager: str) -> None:
    to = Alertmanager(url=manager)
    many = [notice(Event.STILL, id=f"still{at:07}") for at in range(3)]
    send(to, *many)
    for one in many:
        (found,) = until(lambda one=one: listed(manager, alert_id=one.alert.id), "it is listed")
        assert found["endsAt"] > found["updatedAt"]
    assert FORGOTTEN_S == 240


# --- Slack, mail --------------------------------------------------------------------------------------------


def test_slack_is_sent_text_that_is_no_markup(tmp_path: Path) -> None:
    with web() as receiver:
        url_file = tmp_path / "slack"
        url_file.write_text(f"{receiver.url}/services/T0/B0/xyz")
        send(Slack(url_file=url_file), notice(title="<!channel> & co"))
    told = msgspec.json.decode(receiver.taken[0].body)
    assert receiver.taken[0].path == "/services/T0/B0/xyz"
    assert told["text"] == "pathgrade warning: &lt;!channel&gt; &amp; co (pacs)"
    assert told["attachments"][0]["title_link"].startswith(LINK)
    assert "It is slow." in told["attachments"][0]["text"]


def test_a_failing_slack_does_not_tell_its_secret_url(tmp_path: Path) -> None:
    url_file = tmp_path / "slack"
    url_file.write_text(f"http://127.0.0.1:{free_port()}/services/secret")
    with pytest.raises(DeliveryError) as caught:
        send(Slack(url_file=url_file), notice())
    assert "secret" not in str(caught.value)


def mailer(port: int, **changes: object) -> Email:
    given = {"sender": "pathgrade@example.org", "to": ["anna@example.org"], **changes}
    return Email(host="127.0.0.1", port=port, **given)


def test_a_mail_arrives_and_its_end_is_in_the_same_thread() -> None:
    with smtp() as box:
        first = notice(title="The hotel's\nuplink")
        send(mailer(box.port), first)
        send(mailer(box.port), over(first.alert), delivery="default-2")
    opened, closed = box.mails
    assert opened["Subject"] == "[pathgrade] warning: The hotel's uplink (pacs)"
    assert opened["Auto-Submitted"] == "auto-generated"
    assert closed["Subject"].startswith("[pathgrade] over: warning: The hotel's uplink")
    assert closed["In-Reply-To"] == opened["Message-ID"]
    text = opened.get_payload(decode=True).decode()
    assert "It is slow." in text
    assert f"{LINK}/alerts#" in text


def test_what_cannot_be_written_as_the_protocol_has_it_is_a_failure_not_an_end(tmp_path: Path) -> None:
    for receiver in (
        msgspec.structs.replace(mailer(1), host="a" * 70),  # no label of a name is so long
        Webhook(url=f"http://{'a' * 70}.example/", secret_file=_secret(tmp_path)),
        Webhook(url="http://xn--/", secret_file=_secret(tmp_path)),
    ):
        with pytest.raises(DeliveryError):
            send(receiver, notice())


def _secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("s" * 32)
    return path


def test_a_mistake_of_ours_ends_no_courier(book: Book, secret_file: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(courier_module, "LOOK_S", 0.01)
    courier = Courier(book, Sender("hook", Webhook(url="http://127.0.0.1:1", secret_file=secret_file), ""))
    looks = asyncio.Semaphore(0)

    async def fails() -> float:
        looks.release()
        raise KeyError

    async def whole() -> None:
        monkeypatch.setattr(courier, "once", fails)
        running = asyncio.create_task(courier.run())
        async with asyncio.timeout(60):
            for _ in range(3):
                await looks.acquire()
        running.cancel()

    asyncio.run(whole())


def test_a_server_without_tls_gets_no_mail_where_tls_is_asked_for() -> None:
    with smtp() as box, pytest.raises(DeliveryError, match="STARTTLS"):
        send(mailer(box.port, starttls=True), notice())
    assert box.mails == []


@pytest.mark.parametrize(("said", "again"), [("550 no such mailbox", False), ("451 later", True)])
def test_what_the_mail_server_says_decides_whether_it_is_tried_again(said: str, again: bool) -> None:
    with smtp() as box:
        box.refuses = said
        with pytest.raises(DeliveryError) as caught:
            send(mailer(box.port), notice())
    assert caught.value.again is again
    assert said in str(caught.value)


# --- the queue ----------------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path):
    with closing(State.open(tmp_path / "data")) as state:
        yield Book(state, "default")


class Clock:
    def __init__(self) -> None:
        self.us = time.time_ns() // 1_000

    def __call__(self) -> int:
        return self.us


def run(courier: Courier) -> float:
    return asyncio.run(courier.once())


@pytest.fixture
def hook(secret_file: Path, book: Book):
    """A webhook, its courier, and the courier's clock."""
    with web() as receiver:
        clock = Clock()
        sender = Sender("oncall", Webhook(url=receiver.url, secret_file=secret_file), LINK)

        async def make() -> Courier:
            return Courier(book, sender, clock=clock, chance=lambda: 0.0)

        yield receiver, asyncio.run(make()), clock


def put(book: Book, *events: Event, at_us: int) -> None:
    book.save([], notices=[("oncall", notice(event)) for event in events], at_us=at_us)


def events(receiver) -> list[str]:
    return [msgspec.json.decode(one.body)["event"] for one in receiver.taken]


def test_notices_arrive_in_order_and_are_forgotten(book: Book, hook) -> None:
    receiver, courier, clock = hook
    put(book, Event.OPENED, Event.WORSE, Event.CLOSED, at_us=clock())
    run(courier)
    assert events(receiver) == ["opened", "worse", "closed"]
    assert book.waiting() == {}
    assert courier.status(0).sent == 3


def test_a_failure_is_tried_again_and_nothing_overtakes_it(book: Book, hook) -> None:
    receiver, courier, clock = hook
    receiver.answers = [(503, {})]
    put(book, Event.OPENED, Event.CLOSED, at_us=clock())
    wait_s = run(courier)
    assert 0 < wait_s <= 2
    assert events(receiver) == ["opened"]
    assert courier.status(2).last_error.startswith("tell oncall: 503")
    run(courier)
    assert events(receiver) == ["opened"]  # not due yet
    clock.us += int(wait_s * 1e6) + 1
    run(courier)
    assert events(receiver) == ["opened", "opened", "closed"]
    assert courier.status(0).last_error == ""
    first, second = (one.headers["pathgrade-delivery"] for one in receiver.taken[:2])
    assert first == second  # the receiver can tell that it is the same


def test_what_is_refused_or_too_old_is_dropped_and_counted(book: Book, hook) -> None:
    receiver, courier, clock = hook
    receiver.answers = [(400, {}), (503, {})]
    put(book, Event.OPENED, at_us=clock())
    put(book, Event.CLOSED, at_us=clock() - 24 * HOUR_US)
    run(courier)
    assert book.waiting() == {}
    assert (courier.tally.refused, courier.tally.given_up) == (1, 1)


def test_a_restart_goes_on_where_it_was(tmp_path: Path, secret_file: Path) -> None:
    with closing(State.open(tmp_path / "data")) as state:
        put(Book(state, "default"), Event.OPENED, at_us=1)
    with web() as receiver, closing(State.open(tmp_path / "data")) as state:
        sender = Sender("oncall", Webhook(url=receiver.url, secret_file=secret_file), LINK)

        async def deliver() -> None:
            await Courier(Book(state, "default"), sender).once()

        asyncio.run(deliver())
        asyncio.run(deliver())
    assert events(receiver) == ["opened"]


def test_the_queue_is_bounded_the_newest_stay(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MOST_WAITING", 3)
    dropped = book.save([], notices=[("oncall", notice(id=str(at))) for at in range(5)], at_us=1)
    assert dropped == 2
    assert book.waiting()["oncall"].notices == 3
    found = book.next("oncall")
    assert found is not None
    assert found[1].notice.alert.id == "2"


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    from server.database import TENANTS

    with closing(State.open(tmp_path / "data")) as state:
        with state.transaction() as connection:
            connection.execute(TENANTS.insert().values(name="other"))
        ours, theirs = Book(state, "default"), Book(state, "other")
        put(ours, Event.OPENED, at_us=1)
        ours.save([notice().alert], at_us=1)
        assert (theirs.live(), theirs.next("oncall"), theirs.waiting()) == ([], None, {})
        assert theirs.past(0, 10, until_us=2**60) == []


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.integers(0, 10**6) | st.none())
def test_waiting_grows_is_bounded_and_by_chance(tries: int, chance: float, asked_s: int | None) -> None:
    wait = wait_us(tries, chance, asked_s=asked_s)
    assert 1_000_000 <= wait <= MOST_US
    assert wait_us(tries + 1, chance, asked_s=asked_s) >= wait
    assert wait >= min(MOST_US, (asked_s or 0) * 1_000_000)


# --- the file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[receivers.a]\nkind = 'pigeon'", "Invalid value 'pigeon'"),
        (
            "[receivers.a]\nkind='webhook'\nurl = 'ftp://x'\nsecret_file = 'SECRET'",
            "'ftp://x' is not a URL",
        ),
        ("[receivers.a]\nkind='webhook'\nurl = 'http://x'\nsecret_file = '/nowhere'", "No such file"),
        ("[receivers.a]\nkind='webhook'\nurl = 'http://x'\nsecret_file = 'SHORT'", "at least 16"),
        ("[receivers.'a b']\nkind='alertmanager'\nurl = 'http://x'", "not a name"),
        (
            "[receivers.a]\nkind='alertmanager'\nurl = 'http://x'\nlabels = { 'a-b' = 'c' }",
            "'a-b' is not a label",
        ),
        ("[receivers.a]\nkind='email'\nhost='x'\nsender = 'me'\nto = ['a@b']", "'me' is not an address"),
        (
            "[receivers.a]\nkind='email'\nhost='x'\nsender = 'm@x'\nto = ['a@b']\nuser = 'u'",
            "go together",
        ),
        (
            "[receivers.a]\nkind='email'\nhost='x'\nsender = 'm@x'\nto = ['a@b']\nuser = 'u'\n"
            "password_file = 'SECRET'",
            "unencrypted",
        ),
        ("[receivers.a]\nkind = 'slack'\nurl_file = 'SHORT'", "what it holds is not a URL"),
        ("link = 'x'", "is not a URL"),
        ("nonsense", "Expected '='"),
    ],
)
def test_a_file_that_does_not_hold_is_one_error(
    tmp_path: Path, secret_file: Path, text: str, words: str
) -> None:
    (tmp_path / "short").write_text("short")
    file = tmp_path / "alerts.toml"
    file.write_text(text.replace("SECRET", str(secret_file)).replace("SHORT", str(tmp_path / "short")))
    with pytest.raises(SettingsError) as caught:
        load_receivers(file)
    assert words in str(caught.value)
    assert caught.value.remedy
    assert "short" not in str(caught.value).replace(str(tmp_path / "short"), "")


def test_receivers_take_what_is_for_them() -> None:
    to = Alertmanager(url="http://x", least=Severity.CRITICAL, match=Matcher(profile="pacs"))
    assert not to.wants(notice().alert)
    assert to.wants(notice(severity=Severity.CRITICAL).alert)
    assert not to.wants(notice(severity=Severity.CRITICAL, profile="ehr").alert)


def test_a_receiver_of_no_tenant_is_named() -> None:
    told = {"a": Alertmanager(url="http://x"), "b": Alertmanager(url="http://x", tenant="nroth")}
    said = of_nobody(AlertsConfig(receivers=told), ["default", "north"])
    assert said == ["receiver b is told of nothing: no tenant is called 'nroth'"]


def test_a_secret_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not text"):
        read_secret(file)
    file.write_text("x" * 5_000)
    with pytest.raises(SettingsError, match="not one line"):
        read_secret(file)
