"""Faults that fuzzing found, each with the input that showed it, and what is said of it now."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.datastructures import Headers

from agent import credential, identity
from agent.config import Config, load
from agent.enrol import problem_in
from agent.errors import ConfigError, FolderError, IdentityError, LocalAnswerError, SignallingError
from agent.local import Head, _line
from agent.mesh.ladder import parse_candidate, unfit
from agent.mesh.peers import KnownPeers, load_anchors
from agent.passive.inetdiag import sockets
from agent.passive.procfs import read_process, sessions_opened
from analytics.errors import ExportError, RulesError, SealError, WireError
from analytics.measurement import Rung
from analytics.receipt_file import read_anchors
from analytics.rules.load import load_rules
from analytics.store.seal import UnreadableError, read_footer
from analytics.store.spool import decode_segment
from analytics.trust import SMALL_ORDER, check_statement, unseal
from ebpf.btf import Btf
from ebpf.errors import BtfError, LayoutError
from server.alerts.receivers.config import load_receivers
from server.api.client import _read
from server.api.connection import good
from server.api.csrf import comes_from_elsewhere
from server.api.packed import unpacked
from server.api.sla_shapes import SlaKey
from server.backup_plan import read_manifest
from server.errors import BackupError, RefusedError, SettingsError
from server.metrics.push import _check

NOT_UTF8 = b'{"title":"\xff"}'
DEEP = b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
UNREAD = pytest.mark.parametrize("body", [NOT_UTF8, DEEP], ids=["not UTF-8", "nested deep"])
REQUEST = httpx.Request("GET", "http://127.0.0.1:8080/v1/overview")


@pytest.mark.parametrize("origin", ["http://[", "http://[::1U:8080", "//["])
def test_an_origin_that_is_no_url_is_another_site(origin: str) -> None:
    """It raised, so that anybody could have a change answered with 500."""
    assert comes_from_elsewhere(Headers({"origin": origin, "host": "[::1]:8080"}))


@UNREAD
def test_an_answer_that_does_not_read_is_said_by_the_command(body: bytes) -> None:
    with pytest.raises(RefusedError, match="not the answer"):
        _read(httpx.Response(200, content=body, request=REQUEST), SlaKey)
    with pytest.raises(RefusedError, match="422"):
        good(httpx.Response(422, content=body, request=REQUEST))
    assert problem_in(httpx.Response(422, content=body, request=REQUEST)).title == "HTTP 422"
    with pytest.raises(WireError, match="read a matrix"):
        unpacked(b"PGM1" + struct.pack("<I", len(body)) + body)
    with pytest.raises(LocalAnswerError):
        _line(io.BytesIO(body.replace(b"title", b"error")[:4000] + b"\n"), Head, Path("agent.sock"))


@UNREAD
def test_a_file_of_the_agent_that_does_not_read_is_said(body: bytes, tmp_path: Path) -> None:
    (tmp_path / credential.FILE_NAME).write_bytes(body)
    (tmp_path / credential.FILE_NAME).chmod(0o600)
    with pytest.raises(FolderError, match="credential"):
        credential.read(Config(server="https://h", name="pacs", site="s", data=tmp_path))
    (tmp_path / "peers.json").write_bytes(body)
    with pytest.raises(FolderError, match="damaged"):
        KnownPeers(tmp_path).listed()


def test_toml_nested_deep_is_a_fault_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(b"a = " + b"[" * 5_000)
    for read, error in ((load, ConfigError), (load_anchors, ConfigError), (load_receivers, SettingsError)):
        with pytest.raises(error):
            read(file)
    with pytest.raises(RulesError):
        load_rules(own=file)
    with pytest.raises(SealError):
        read_anchors(file.read_bytes())


@pytest.mark.parametrize(
    "line",
    [
        "x y udp 1 192.0.2.1 1 typ host",
        "x 1 udp z 192.0.2.1 1 typ host",
        "x 1 udp 1 192.0.2.1 1 typ host generation g",
        "x 1 udp 1 192.0.2.1 1 typ srflx rport r rport 1",
        "x 1 udp -1 192.0.2.1 1 typ host",
    ],
)
def test_a_peers_candidate_with_a_number_that_is_none_is_refused(line: str) -> None:
    """It was taken, and aioice raised in the middle of the climb."""
    with pytest.raises(SignallingError, match="candidate"):
        parse_candidate(line)


def test_a_rung_that_no_order_should_have_is_passed_over() -> None:
    assert "no way to connect" in unfit(Rung.NONE, [], [])


def test_a_url_with_half_a_bracket_is_said_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "receivers.toml").write_text('[receivers.a]\nkind = "alertmanager"\nurl = "http://["\n')
    with pytest.raises(SettingsError, match=r"receivers\.a"):
        load_receivers(tmp_path / "receivers.toml")
    with pytest.raises(SettingsError, match="otlp_url"):
        _check("http://[")


def test_the_kernels_errno_may_be_any_number() -> None:
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -(2**31))
    with pytest.raises(OSError, match="Unknown error 4095"):
        sockets(lambda _question: [refusal])


def test_proc_that_tells_less_than_it_should_is_no_key_error(tmp_path: Path) -> None:
    (tmp_path / "thread-self/net").mkdir(parents=True)
    (tmp_path / "thread-self/net/snmp").write_text("Tcp: RtoMin\nTcp: 200\n")
    with pytest.raises(ValueError, match="ActiveOpens"):
        sessions_opened(proc=tmp_path)
    (tmp_path / "42").mkdir()
    (tmp_path / "42/stat").write_text("42 curl " + "1 " * 30)
    (tmp_path / "42/status").write_text("Uid:\t0\t0\t0\t0\n")
    assert read_process(42, proc=tmp_path) is None


def test_an_identity_that_asks_for_a_password_or_names_nobody_is_damaged(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    made = identity.create("pacs")
    locked = made.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    (tmp_path / identity.FILE_NAME).write_bytes(locked)
    (tmp_path / identity.FILE_NAME).chmod(0o600)
    with pytest.raises(IdentityError, match="damaged"):
        identity.read(tmp_path)


@pytest.mark.parametrize(
    "payload", [b"short", b"\xff" * 40, b"not LZ4 at all" + struct.pack("<QHI", 1, 2, 900)]
)
def test_a_frame_whose_checksum_is_right_and_nothing_else_is_damage(payload: bytes) -> None:
    header = b"PGSPOOL\n" + (2).to_bytes(4, "little") + bytes(4)
    frame = b"PGFZ" + struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    content = decode_segment(header + frame)
    assert (content.frames, content.torn_bytes) == ([], len(frame))


def test_types_that_are_made_of_themselves_are_no_endless_loop() -> None:
    names = b"\0sock\0x\0"
    typedef = struct.pack("<III", 0, 8 << 24, 1)  # 1: typedef of 1
    holder = struct.pack("<III", 1, 4 << 24 | 1, 8) + struct.pack("<III", 6, 1, 0)
    types = typedef + holder
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names))
    with pytest.raises(BtfError, match="made of itself"):
        Btf(header + types + names).field("sock", "x")


def test_a_struct_of_two_of_the_next_and_so_on_is_searched_once() -> None:
    """Forty deep there are 2**40 ways through them, none of which has the member."""
    names = b"\0sock\0"
    types = b"".join(
        struct.pack("<III", 1 if number == 1 else 0, 4 << 24 | 2, 8)
        + struct.pack("<III", 0, number + 1, 0) * 2
        for number in range(1, 41)
    )
    types += struct.pack("<III", 0, 4 << 24, 0)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names))
    with pytest.raises(LayoutError, match="no field"):
        Btf(header + types + names).field("sock", "x")


def test_a_signed_document_that_does_not_read_is_said(tmp_path: Path) -> None:
    from shaped import chosen
    from targets.signed_report import target

    for body in (NOT_UTF8, DEEP):
        with pytest.raises((SealError, ExportError), match="no report"):
            target(chosen(0, body))


@pytest.mark.parametrize("text", ["1764000000000000\x1f", "\x1c2026-11-25\x1d", "\x1f09:45"])
def test_a_moment_between_separators_is_read_or_refused(text: str) -> None:
    """``str.strip`` takes these off, ``int`` does not: the query was answered with 500."""
    from analytics.moments import moment_us

    assert moment_us(text, 1_764_000_000_000_000) is not None


@pytest.mark.parametrize("key", sorted(SMALL_ORDER))
@pytest.mark.parametrize("sign", [0, 0x80])
def test_a_key_of_small_order_proves_nothing(key: bytes, sign: int) -> None:
    """With it, a signature of zeros and one held over about every eighth body."""
    weak = key[:-1] + bytes([key[-1] | sign])
    for body in (bytes([n]) * 21 for n in range(40)):
        with pytest.raises(SealError):
            unseal(body + (b"\1" + bytes(31)) + bytes(32), weak)
        with pytest.raises(SealError):
            check_statement(body, (b"\1" + bytes(31)) + bytes(32), weak)


def test_where_a_router_stands_is_not_known_from_a_short_address() -> None:
    from targets.error_queue import target

    target(b"\0" + struct.pack("<IBBBBII", 113, 2, 11, 0, 0, 0, 0) + b"\1\x04\2\0\0\0")


def test_an_audit_file_with_numbers_that_no_row_has_or_no_utf8_is_said() -> None:
    from targets.audit_file import PUBLIC, _lines, file_of, verified

    lines = _lines()
    late = lines[1].replace(b'"at_us":1764000000000001', b'"at_us":9223372036854775808')
    for line in (late, b'{"type":"row","actor":"\xff"}'):
        with pytest.raises(SealError, match="no pathgrade-audit 1 file"):
            verified(file_of(b"\n".join((lines[0], line, *lines[2:])), "audit"), PUBLIC)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE])
def test_a_backup_holds_files_of_its_own_and_nothing_else(kind: bytes) -> None:
    """A link to nothing was a ``KeyError``; a sparse file would have filled the disk with zeroes."""
    from targets.backup import _tar, packed

    with pytest.raises(BackupError, match="backup"):
        _tar(packed([("state.sqlite", kind, b"")]))


@UNREAD
def test_a_manifest_that_does_not_read_is_said(body: bytes) -> None:
    with pytest.raises(BackupError, match="manifest"):
        read_manifest(body.replace(b"title", b"format"))


@UNREAD
def test_a_switch_on_the_host_that_does_not_read_is_off(body: bytes, tmp_path: Path) -> None:
    """Not being UTF-8, it ended the look at the switch, and tests went on."""
    from agent.local_switch import MESH

    (tmp_path / MESH.file_name).write_bytes(body.replace(b"title", b"by"))
    off = MESH.read(tmp_path)
    assert off is not None
    assert "damaged" in off.note


def test_a_certificate_of_no_version_is_no_servers_and_no_agents() -> None:
    """cryptography has an error of its own for it, which is no ``ValueError``."""
    from agent import tls
    from agent.errors import ServerSilentError
    from analytics.errors import MessageError
    from server import authority
    from server.agent_tls import read

    der = bytearray(authority.create().der)
    at = der.index(b"\xa0\x03\x02\x01\x02")  # [0] INTEGER 2: version 3
    der[at + 4] = 6
    with pytest.raises(ServerSilentError, match="does not read"):
        tls.check_pin(bytes(der), "pin")
    with pytest.raises(MessageError, match="does not read"):
        read(bytes(der))


def test_a_file_that_says_two_types_of_a_column_is_unreadable_and_ends_no_server(tmp_path: Path) -> None:
    """One byte of its footer was another: pyarrow ended the process, at each start of the server."""
    from targets.parquet_footer import PATH, _file

    path = tmp_path / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(_with_two_types(_file(), "received_us"))
    with pytest.raises(UnreadableError, match="a column of UNKNOWN that is INT64"):
        read_footer(path)


def _with_two_types(whole: bytes, name: str) -> bytes:
    """Change the byte of a footer that is the type of a column's values."""
    for at in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole) - 8):
        changed = whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]
        try:
            told = pq.ParquetFile(pa.BufferReader(changed)).metadata
            column = told.schema.names.index(name)
            if told.row_group(0).column(column).physical_type == "UNKNOWN":
                return changed
        except (OSError, pa.ArrowException, ValueError, UnicodeError, IndexError):
            continue
    raise AssertionError("no byte of it is a type")
