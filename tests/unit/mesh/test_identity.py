from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import IdentityError
from agent.identity import BINDING_S, FILE_NAME, create, load_or_create, read
from analytics.trust import Binding, unseal


def test_an_identity_is_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    made = load_or_create(folder, "pacs")
    assert load_or_create(folder, "pacs").fingerprint == made.fingerprint
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_a_fingerprint_is_as_the_server_enrols_it() -> None:
    pairs = create("a").fingerprint.split(":")
    assert len(pairs) == 32
    assert all(len(pair) == 2 and pair == pair.upper() for pair in pairs)


def test_a_signature_is_by_the_certificates_key() -> None:
    me, other = create("a"), create("a")
    signature = me.sign(b"claim")
    for certificate, holds in ((me.certificate_der, True), (other.certificate_der, False)):
        key = x509.load_der_x509_certificate(certificate).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        with contextlib.nullcontext() if holds else pytest.raises(InvalidSignature):
            key.verify(signature, b"claim", ec.ECDSA(hashes.SHA256()))


def test_a_leftover_of_a_crash_does_not_hinder(tmp_path: Path) -> None:
    (tmp_path / "identity.pem.tmp").write_bytes(b"half")
    load_or_create(tmp_path, "a")
    assert not (tmp_path / "identity.pem.tmp").exists()


def test_the_certificate_is_small_enough_for_one_datagram() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    assert len(create("a" * 63).certificate.public_bytes(Encoding.DER)) < 600


def test_another_agents_identity_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path, "a")
    with pytest.raises(IdentityError, match="identity of 'a'") as caught:
        load_or_create(tmp_path, "b")
    assert caught.value.remedy


@pytest.mark.parametrize("damage", [b"", b"nonsense", "key only"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: bytes | str) -> None:
    load_or_create(tmp_path, "a")
    path = tmp_path / FILE_NAME
    pem = path.read_bytes()
    path.write_bytes(pem.split(b"-----BEGIN CERT")[0] if isinstance(damage, str) else damage)
    with pytest.raises(IdentityError, match="damaged") as caught:
        load_or_create(tmp_path, "a")
    assert "enrol again" in caught.value.remedy


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(IdentityError) as caught:
        load_or_create(blocked / "data", "a")
    assert caught.value.exit_code == 77


def test_an_identity_of_before_is_given_an_identity_key_and_keeps_its_certificate(tmp_path: Path) -> None:
    made = load_or_create(tmp_path, "a")
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    old = whole[: whole.rindex(b"-----BEGIN PRIVATE KEY")]
    path.write_bytes(old)
    with pytest.raises(IdentityError, match="no identity key yet"):
        read(tmp_path)
    upgraded = load_or_create(tmp_path, "a")
    assert upgraded.fingerprint == made.fingerprint
    assert upgraded.public_key != made.public_key
    assert load_or_create(tmp_path, "a").public_key == upgraded.public_key == read(tmp_path).public_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_key_of_another_kind_is_damage(tmp_path: Path) -> None:
    load_or_create(tmp_path, "a")
    path = tmp_path / FILE_NAME
    pem = path.read_bytes()
    first = pem[: pem.index(b"-----BEGIN CERT")]
    path.write_bytes(pem[: pem.rindex(b"-----BEGIN PRIVATE KEY")] + first)
    with pytest.raises(IdentityError, match="damaged"):
        load_or_create(tmp_path, "a")


def test_a_binding_is_by_the_identity_key_and_of_the_certificate() -> None:
    me = create("a")
    binding = Binding.decode(unseal(me.binding("default", now_s=1_000), me.public_key))
    assert (binding.tenant, binding.agent) == ("default", "a")
    assert binding.fingerprint.hex(":").upper() == me.fingerprint
    assert binding.until_s == 1_000 + BINDING_S


def test_the_certificate_does_not_say_whose_it_is() -> None:
    """It crosses the network in the clear (DTLS 1.2)."""
    assert b"radiologist" not in create("radiologist").certificate_der


def test_a_certificate_of_before_that_says_whose_it_is_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.identity.SUBJECT", "a")
    made = load_or_create(tmp_path, "a")
    path = tmp_path / FILE_NAME
    _head, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(rest[: rest.rindex(b"-----BEGIN PRIVATE KEY")])
    with pytest.raises(IdentityError, match="identity of 'a'"):
        load_or_create(tmp_path, "b")
    assert load_or_create(tmp_path, "a").fingerprint == made.fingerprint
    assert path.read_bytes().startswith(b"# identity of agent a\n")
