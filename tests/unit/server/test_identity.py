"""Who is let in at the agents' listener, over real sockets: certificates that hold, and those that do not."""

import asyncio
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agent import tls
from agent.identity import Identity, create
from analytics import wire
from analytics.channel import EnrolToken, tls_1_3
from analytics.trust import check_authority
from server import authority as authorities
from server import hub, keepers, listeners
from server.accounts.tokens import create_access_token
from server.agent_tls import read
from server.authority import Authority
from server.database import connect
from server.errors import DemandError, StateError
from server.metrics.own import readings
from server.settings import Settings
from server.state import FILE_NAME, create_token, enrolled_agents, revoke_agent
from tests.unit.server.browsers import account, browser
from tests.unit.server.enrolling import Member, enrolment, nobodys
from tests.unit.server.test_ingest import batch, check_problem
from tests.unit.server.test_signalling import connected, hear, raw

Run = Callable[[Callable[[Any], Any]], None]
A, B, EVE = create("a"), create("b"), create("a")


def counted(site: Any) -> dict[str, float | None]:
    realm = site.running.realms.of("default")
    told = readings(realm.meter._own)
    names = ("agent_handshakes_failed", "agents_refused", "agents_revoked_refused")
    return {name: told[name] for name in (*names, "enrolments_refused", "renewals_refused")}


def showing(data: Path, identity: Identity, certificate: bytes) -> ssl.SSLContext:
    context = nobodys(data)
    identity.identity_key.present(context, certificate)
    return context


async def post(site: Any, context: ssl.SSLContext, path: str = "/v1/batches", **asked: Any) -> httpx.Response:
    url = f"https://{site.running.agents}"
    async with httpx.AsyncClient(base_url=url, verify=context, trust_env=False, timeout=30) as client:
        return await client.post(path, **({"content": batch()} | asked))


# --- what is made ---------------------------------------------------------------------------------------


def test_the_authority_is_made_once_by_whoever_is_first_and_kept_private(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from server.authority import Authority as A\n"
    program += "print(A.open(Path(sys.argv[1])).pin)"
    makers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    pins = {maker.communicate(timeout=60)[0].strip() for maker in makers}
    assert pins == {Authority.open(tmp_path).pin}
    assert [path.name for path in tmp_path.iterdir()] == [authorities.FILE_NAME]
    assert stat.S_IMODE((tmp_path / authorities.FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["others may read it", "nonsense"])
def test_an_authority_that_cannot_be_used_is_one_clear_error(tmp_path: Path, what: str) -> None:
    path = tmp_path / authorities.FILE_NAME
    Authority.open(tmp_path)
    if what == "nonsense":
        path.write_bytes(b"nonsense")
    else:
        path.chmod(0o640)
    with pytest.raises(StateError, match=f"use {path}: ") as caught:
        Authority.open(tmp_path)
    assert caught.value.remedy


def test_a_certificate_names_tenant_agent_and_key_and_nothing_of_it_is_secret() -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    made = authorities.create().agent_certificate(
        "north", "pacs", A.public_key, life=timedelta(hours=24), now=now
    )
    shown = read(made)
    assert (shown.tenant, shown.name, shown.key) == ("north", "pacs", A.public_key)
    assert shown.until_us - shown.since_us == 25 * 3_600_000_000  # from an hour before
    assert len(made) < 600


# --- the listener ---------------------------------------------------------------------------------------


async def told_in_the_clear(host: str, port: int, said: bytes) -> bytes:
    """What somebody hears who speaks something else than TLS."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(said)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_it_speaks_tls_1_3_and_nothing_else(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        older = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        older.check_hostname, older.verify_mode = False, ssl.CERT_NONE
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        at = site.running.agents
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(at.host, at.port, ssl=older)
        assert await told_in_the_clear(at.host, at.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        assert counted(site)["agent_handshakes_failed"] == 2
        _, encrypted = await asyncio.open_connection(at.host, at.port, ssl=tls.unproven())
        assert encrypted.get_extra_info("ssl_object").version() == "TLSv1.3"
        encrypted.close()

    with_server(scenario)


def test_who_connects_and_says_nothing_is_let_go(with_server: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before the handshake, nor in the middle of it."""
    monkeypatch.setattr(listeners, "HANDSHAKE_S", 0.2)

    async def scenario(site: Any) -> None:
        at = site.running.agents
        begun = b"\x16\x03\x01\x02\x00\x01"  # of a ClientHello that never ends
        heard = await asyncio.gather(
            *(told_in_the_clear(at.host, at.port, said) for said in (b"", begun) for _ in range(20))
        )
        assert heard == [b""] * 40

    with_server(scenario)


def test_whose_certificates_to_take_is_told_to_anybody_and_vouched_for(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        member = await site.enrol("a", identity=A)
        answer = await site.agents.get("/v1/authority")
        told = msgspec.json.decode(answer.content, type=wire.AuthorityReply)
        token = EnrolToken.parse(await asyncio.to_thread(create_token, site.settings.data, 1, 60))
        tls.check_pin(told.certificate, token.pin)
        check_authority(told.certificate, told.signature, member.reply.server_key)

    with_server(scenario)


# --- attacks --------------------------------------------------------------------------------------------


def test_certificates_that_do_not_hold_let_nobody_in(with_server: Run) -> None:
    """Another authority's, another name's, another tenant's, one over another key, one that is over."""

    async def scenario(site: Any) -> None:
        await site.enrol("a", identity=A)
        await site.enrol("b", identity=B)
        data, now, day = site.settings.data, datetime.now(UTC), timedelta(days=1)
        own, theirs = Authority.open(data), authorities.create()

        def made(by: Authority, tenant: str, name: str, identity: Identity, when: datetime = now) -> bytes:
            return by.agent_certificate(tenant, name, identity.public_key, life=day, now=when)

        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await post(site, showing(data, A, made(theirs, "default", "a", A)))
        assert counted(site)["agent_handshakes_failed"] == 1
        refusals = {
            "another agent's name": (B, made(own, "default", "a", B), "no agent 'a' with this key"),
            "another tenant's": (A, made(own, "north", "a", A), "no agent 'a' with this key"),
            "nobody's": (EVE, made(own, "default", "a", EVE), "no agent 'a' with this key"),
            "over": (A, made(own, "default", "a", A, now - 2 * day), "not in force"),
            "not yet": (A, made(own, "default", "a", A, now + 2 * day), "not in force"),
        }
        for what, (identity, certificate, words) in refusals.items():
            answer = await post(site, showing(data, identity, certificate))
            check_problem(answer, 401, words)
            assert answer.json()["remedy"], what
        assert counted(site)["agents_refused"] == len(refusals)
        mine = showing(data, A, made(own, "default", "a", A))
        check_problem(await post(site, mine, content=batch(agent="b")), 403, "the certificate is a's")
        assert (await site.report.get("/v1/status")).json()["rows"]["flows"] == 0

    with_server(scenario)


def test_the_servers_certificate_is_made_anew_each_day_and_when_its_clock_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day = 86_400.0
    clock = iter([0.0, 60.0, day, day + 60, 20_000 * day, 20_000 * day + 60, 19_000 * day])
    made: list[int] = []
    monkeypatch.setattr(authorities, "LOOK_S", 0)
    monkeypatch.setattr(authorities, "present_own", lambda *_: made.append(looks))
    looks = -1

    def wall_s() -> float:
        nonlocal looks
        looks += 1
        found = next(clock, None)
        if found is None:
            raise TimeoutError
        return found

    context = tls_1_3(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(TimeoutError):
        asyncio.run(authorities.keep_presenting(authorities.create(), context, wall_s=wall_s))
    assert made == [2, 4, 6]


def test_an_agent_cannot_pose_as_the_server(tmp_path: Path) -> None:
    """Its certificate is by the same authority, but for clients."""
    own = Authority.open(tmp_path)
    certificate = own.agent_certificate(
        "default", "a", A.public_key, life=timedelta(days=1), now=datetime.now(UTC)
    )
    server = tls_1_3(ssl.PROTOCOL_TLS_SERVER)
    A.identity_key.present(server, certificate)

    async def scenario() -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=server) as listening:
            port = listening.sockets[0].getsockname()[1]
            with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
                await asyncio.open_connection("127.0.0.1", port, ssl=tls.proven(own.der))

    asyncio.run(scenario())


def test_a_token_that_was_used_is_of_no_use_to_who_stole_it(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        token = await asyncio.to_thread(create_token, site.settings.data, 1, 60)
        first = await site.agents.post("/v1/enrol", json=enrolment(token, "a", identity=A))
        assert first.status_code == 200
        for name, words in (("b", "all 1 seats"), ("a", "belongs to another agent")):
            stolen = await site.agents.post("/v1/enrol", json=enrolment(token, name))
            assert stolen.status_code in (401, 409)
            assert words in stolen.json()["detail"]
        assert counted(site)["enrolments_refused"] == 2
        rows = (await site.report.get("/v1/agents")).json()
        assert [row["name"] for row in rows] == ["a"]

    with_server(scenario)


async def renewal(
    site: Any, identity: Identity, *, tenant: str = "default", **changes: Any
) -> httpx.Response:
    answer = await site.agents.get("/v1/renewal")
    challenge = msgspec.json.decode(answer.content, type=wire.ChallengeReply).challenge
    asked = wire.RenewalRequest(
        tenant=tenant,
        name=identity.name,
        challenge=challenge,
        signature=identity.identity_key.sign(wire.renewal_claim(tenant, identity.name, challenge)),
    )
    asked = msgspec.structs.replace(asked, **changes)
    return await site.agents.post("/v1/renewal", content=msgspec.json.encode(asked))  # type: ignore[no-any-return]


def test_a_certificate_is_renewed_for_who_holds_the_key_and_for_nobody_else(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.enrol("a", identity=A)
        answer = await renewal(site, A)
        assert answer.status_code == 200
        reply = msgspec.json.decode(answer.content, type=wire.RenewalReply)
        shown = read(reply.certificate)
        assert (shown.name, shown.key, reply.life_s) == ("a", A.public_key, site.settings.certificate_s)
        context = showing(site.settings.data, A, reply.certificate)
        assert (await post(site, context, content=batch(agent="a"))).status_code == 200
        attacks = {
            "another key": await renewal(site, EVE),
            "an unknown agent": await renewal(site, B),
            "another tenant": await renewal(site, A, tenant="north"),
            "a challenge of its own": await renewal(site, A, challenge=bytes(56)),
            "no challenge": await renewal(site, A, challenge=b""),
            "no signature": await renewal(site, A, signature=b""),
        }
        for what, refused in attacks.items():
            assert refused.status_code == (503 if "challenge" in what else 401), what  # 503: later, anew
            assert refused.json()["remedy"], what
        assert counted(site)["renewals_refused"] == len(attacks)
        check_problem(await site.agents.post("/v1/renewal", content=b"{}"), 400, "not a renewal")

    with_server(scenario)


def test_a_challenge_is_answered_at_once_or_not_at_all(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.renewal.CHALLENGE_US", 0)

    async def scenario(site: Any) -> None:
        await site.enrol("a", identity=A)
        check_problem(await renewal(site, A), 503, "not of now")  # it knows the agent well

    with_server(scenario)


def test_a_revoked_agent_is_out_at_once_and_stays_out(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "KEPT_OUT_S", 0.05)

    async def scenario(site: Any) -> None:
        a, b = await site.enrol("a", "s1", identity=A), await site.enrol("b", "s2", identity=B)
        data = site.settings.data
        async with connected(site, a) as lost, connected(site, b) as peer:
            order = await hear(peer)
            assert isinstance(order, wire.TestOrder)
            assert isinstance(await hear(lost), wire.TestOrder)
            await asyncio.to_thread(revoke_agent, data, "a", by="the command line")
            cancel = await hear(peer)
            assert isinstance(cancel, wire.TestCancel)
            assert "revoked" in cancel.why
            with pytest.raises(ConnectionClosed) as closed:
                await hear(lost)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == hub.REVOKED
        check_problem(await site.send(a, batch(agent="a")), 401, "agent 'a' was revoked")
        check_problem(await renewal(site, A), 401, "agent 'a' was revoked")
        with pytest.raises(InvalidStatus) as refused:
            async with raw(site, a):
                pass
        assert refused.value.response.status_code == 401
        with pytest.raises(AssertionError, match="was revoked"):
            await site.enrol("a", identity=A)
        assert counted(site) == {
            "agent_handshakes_failed": 0,
            "agents_refused": 0,
            "agents_revoked_refused": 2,
            "enrolments_refused": 1,
            "renewals_refused": 1,
        }
        assert (await site.send(b, batch(agent="b"))).status_code == 200
        (row,) = [one for one in (await site.report.get("/v1/audit")).json() if one["action"] == "revoke"]
        assert (row["actor"], row["subject"]) == ("the command line", "a")
        assert [one.name for one in enrolled_agents(data) if one.revoked_us] == ["a"]
        await comes_back(site, data)

    with_server(scenario)


def test_an_admin_revokes_over_the_api_and_nobody_else_does(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        a = await site.enrol("a", identity=A)
        token = await asyncio.to_thread(create_access_token, site.settings.data, "op", scope="operate")
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await site.report.delete("/v1/agents/a", headers=bearer)).status_code == 403
        assert (await site.report.delete("/v1/agents/nobody")).status_code == 404
        assert (await site.send(a, batch(agent="a"))).status_code == 200
        assert (await site.report.delete("/v1/agents/a")).status_code == 204
        check_problem(await site.send(a, batch(agent="a", number=1)), 401, "was revoked")
        assert (await site.report.get("/v1/agents/a")).json()["revoked"] is True
        assert "Revoked: it is let in no more" in (await site.report.get("/agents/a")).text
        (row,) = [one for one in (await site.report.get("/v1/audit")).json() if one["action"] == "revoke"]
        assert (row["actor"], row["subject"]) == (site.actor, "a")

    with_server(scenario)


def test_an_admin_revokes_on_the_page_after_a_second_look_and_an_operator_is_not_offered_it(
    with_server: Run,
) -> None:
    async def scenario(site: Any) -> None:
        a = await site.enrol("a", identity=A)
        for name, role in (("ada", "admin"), ("ben", "operator")):
            await account(site, name, role)
        async with browser(site) as ada, browser(site) as ben:
            await ada.log_in("ada")
            await ben.log_in("ben")
            for path in ("/agents", "/agents/a"):
                assert "/agents/a/revoke" in (await ada.get(path)).text
                assert "/agents/a/revoke" not in (await ben.get(path)).text
            assert (await ben.get("/agents/a/revoke")).status_code == 403
            assert (await ben.send("/control/revoke", agent="a")).status_code == 403
            asked = (await ada.get("/agents/a/revoke")).text
            assert f"disconnected within {keepers.KEPT_OUT_S:.0f} s" in asked
            assert (await site.send(a, batch(agent="a"))).status_code == 200  # looking does nothing
            assert (await ada.client.post("/control/revoke", data={"agent": "a"})).status_code == 403  # CSRF
            done = await ada.send("/control/revoke", page="/agents/a/revoke", agent="a", back="/agents/a")
            assert (done.status_code, done.headers["location"]) == (303, "/agents/a")
            check_problem(await site.send(a, batch(agent="a", number=1)), 401, "was revoked")
            assert "/agents/a/revoke" not in (await ada.get("/agents/a")).text
            assert "is revoked already" in (await ada.get("/agents/a/revoke")).text
        (row,) = [one for one in (await site.report.get("/v1/audit")).json() if one["action"] == "revoke"]
        assert (row["actor"], row["subject"]) == ("ada", "a")

    with_server(scenario)


async def comes_back(site: Any, data: Path) -> None:
    """With a token that replaces it, and with the keys that it has then."""
    token = await asyncio.to_thread(create_token, data, 1, 60, replaces="a")
    answer = await site.agents.post("/v1/enrol", json=enrolment(token, "a", identity=EVE))
    assert answer.status_code == 200
    reply = msgspec.json.decode(answer.content, type=wire.EnrolReply)
    back = Member("a", "default", EVE, reply, showing(data, EVE, reply.certificate))
    assert (await site.send(back, batch(agent="a"))).status_code == 200
    assert not any(one.revoked_us for one in enrolled_agents(data))


def test_it_stays_revoked_when_the_server_starts_anew(settings: Settings, with_server: Run) -> None:
    async def first(site: Any) -> None:
        await site.enrol("a", identity=A)

    async def second(site: Any) -> None:
        check_problem(await renewal(site, A), 401, "was revoked")

    with_server(first)
    revoke_agent(settings.data, "a", by="me")
    with_server(second)
    with pytest.raises(DemandError, match="no agent of default is called 'nobody'"):
        revoke_agent(settings.data, "nobody", by="me")


def test_who_was_replaced_is_disconnected(with_server: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "KEPT_OUT_S", 0.05)

    async def scenario(site: Any) -> None:
        a = await site.enrol("a", identity=A)
        async with connected(site, a) as socket:
            await comes_back(site, site.settings.data)
            with pytest.raises(ConnectionClosed):
                await hear(socket)
        check_problem(await site.send(a, batch(agent="a")), 401, "no agent 'a' with this key")

    with_server(scenario)


def test_who_was_replaced_before_it_said_hello_does_not_take_the_place_of_who_did(with_server: Run) -> None:
    async def scenario(site: Any) -> None:
        async with raw(site, await site.enrol("a", identity=A)) as socket:
            await comes_back(site, site.settings.data)
            await socket.send(wire.encode(wire.Hello(version="1", boot="b", mesh=False)))
            with pytest.raises(ConnectionClosed) as closed:
                await hear(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == hub.REVOKED

    with_server(scenario)


def test_a_connection_ends_with_its_certificate_unless_that_is_renewed(
    with_server: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "KEPT_OUT_S", 0.05)

    async def scenario(site: Any) -> None:
        await site.enrol("a", identity=A)
        await site.enrol("b", identity=B)
        data = site.settings.data
        for identity, is_renewed in ((A, True), (B, False)):
            life, now = timedelta(seconds=3), datetime.now(UTC)
            soon = Authority.open(data).agent_certificate(
                "default", identity.name, identity.public_key, life=life, now=now
            )
            reply = wire.EnrolReply(
                agent=identity.name, tenant="default", certificate=soon, life_s=3, server_key=b""
            )
            context = showing(data, identity, soon)
            member = Member(identity.name, "default", identity, reply, context)
            site.running.realms.of("default").core._state._certified.clear()
            async with connected(site, member) as socket:
                if is_renewed:
                    assert (await renewal(site, identity)).status_code == 200
                    await asyncio.sleep(3.5)
                    await socket.send("{}")
                    assert isinstance(await hear(socket), wire.Notice)
                else:
                    with pytest.raises(ConnectionClosed) as closed:
                        await hear(socket)
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == hub.OVER

    with_server(scenario)


def test_an_old_connection_is_asked_to_come_again(with_server: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.credentials.STALE_FROM", 0.0)

    async def scenario(site: Any) -> None:
        answer = await site.send(await site.enrol("pacs"), batch())
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")

    with_server(scenario)


# --- a folder of before -----------------------------------------------------------------------------------


def test_a_state_of_before_certificates_is_taken_over_without_its_secrets(tmp_path: Path) -> None:
    engine = connect(tmp_path / FILE_NAME)
    with closing(engine.raw_connection()) as connection:
        for line in OF_BEFORE.split(";"):
            connection.execute(line)
        connection.commit()
    engine.dispose()
    (agent,) = enrolled_agents(tmp_path)
    assert (agent.name, agent.site, agent.seen_us, agent.revoked_us) == ("pacs", "hospital", 9, None)
    assert b"0123456789abcdef" not in (tmp_path / FILE_NAME).read_bytes()
    assert enrolled_agents(tmp_path) == [agent]


OF_BEFORE = """
DROP TABLE agents;
CREATE TABLE agents (tenant TEXT NOT NULL, name TEXT NOT NULL, site TEXT NOT NULL, label TEXT NOT NULL,
 services TEXT NOT NULL, fingerprint TEXT NOT NULL, secret_hash TEXT NOT NULL, token_hash TEXT NOT NULL,
 enrolled_us BIGINT NOT NULL, seen_us BIGINT NOT NULL, PRIMARY KEY (tenant, name), UNIQUE (secret_hash),
 FOREIGN KEY(tenant) REFERENCES tenants (name));
INSERT INTO agents VALUES ('default', 'pacs', 'hospital', '', '[]', 'AB', '0123456789abcdef', 'x', 7, 9);
UPDATE state_version SET version = 1"""
