"""Signatures: only who is trusted, only this bundle, folder and archive alike, and as OpenSSF's own tool has it."""

from __future__ import annotations

import base64
import builtins
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edgec.core.errors import ConfigError, IntegrityError, MissingDependencyError
from edgec.package import Trust, open_bundle, read_signed_manifest, sign_bundle, verify_signature, write_archive

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it imports is not ours
    verifying = pytest.importorskip("model_signing.verifying", reason="needs model-signing")

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def trust(desk) -> Trust:
    return Trust.read(key=desk.public)


@pytest.fixture
def signed(bundle: Path, desk) -> Path:
    sign_bundle(bundle, key=desk.private)
    return bundle


def edited(bundle: Path, edit: Edit) -> None:
    """Changes the signature's JSON and writes it in the form that edgec reads."""
    path = bundle / "signature.json"
    value = json.loads(path.read_bytes())
    edit(value)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def refused(bundle: Path, trust: Trust, message: str) -> None:
    with pytest.raises(IntegrityError, match=message) as caught:
        verify_signature(open_bundle(bundle), trust)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4
    assert caught.value.hint


class TestWithAKey:
    def test_a_signed_folder_is_known_by_its_key(self, signed: Path, trust: Trust, desk) -> None:
        opened = open_bundle(signed)
        pem = desk.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashes.Hash(hashes.SHA256())
        digest.update(pem)
        assert verify_signature(opened, trust) == f"key {digest.finalize().hex()[:16]}"
        opened.verify()
        assert opened.signed

    def test_the_signature_is_ecdsa_over_the_statement(self, signed: Path, desk) -> None:
        """The reference: DSSE's envelope (github.com/secure-systems-lab/dsse), by hand."""
        envelope = json.loads((signed / "signature.json").read_bytes())["dsseEnvelope"]
        kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
        message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        desk.key.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
        listed = {item["name"]: item["digest"] for item in json.loads(payload)["predicate"]["resources"]}
        opened = open_bundle(signed)
        expected = {name: entry.sha256 for name, entry in opened.manifest.files.items()}
        assert listed == expected | {"manifest.json": opened.digest}

    def test_openssf_s_own_verifier_agrees(self, signed: Path, desk) -> None:
        config = verifying.Config().use_elliptic_key_verifier(public_key=desk.public)
        config.verify(signed, signed / "signature.json")
        (signed / "report.html").write_bytes(b"other")
        with pytest.raises(ValueError, match="mismatch"):
            config.verify(signed, signed / "signature.json")

    @pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
    def test_larger_curves_sign(self, bundle: Path, issue, curve: ec.EllipticCurve) -> None:
        desk = issue("large", curve=curve)
        sign_bundle(bundle, key=desk.private)
        verify_signature(open_bundle(bundle), Trust.read(key=desk.public))

    def test_a_key_with_a_password_signs(self, bundle: Path, issue) -> None:
        right, wrong = "Käfer", "wrong"
        desk = issue("locked", password=right.encode())
        sign_bundle(bundle, key=desk.private, password=right)
        verify_signature(open_bundle(bundle), Trust.read(key=desk.public))
        with pytest.raises(ConfigError, match="cannot sign with"):
            sign_bundle(bundle, key=desk.private, password=wrong)

    def test_an_unsigned_bundle_is_refused(self, bundle: Path, trust: Trust) -> None:
        refused(bundle, trust, "is not signed, expected a signature")

    def test_a_signature_that_was_taken_away_is_missed(self, signed: Path, trust: Trust) -> None:
        (signed / "signature.json").unlink()
        open_bundle(signed).verify()
        refused(signed, trust, "is not signed")

    def test_another_key_is_refused(self, signed: Path, issue) -> None:
        refused(signed, Trust.read(key=issue("other").public), "Key mismatch")

    def test_another_key_that_calls_itself_ours_is_refused(
        self, bundle: Path, trust: Trust, signed: Path, issue
    ) -> None:
        hint = json.loads((signed / "signature.json").read_bytes())["verificationMaterial"]
        sign_bundle(bundle, key=issue("other").private)
        edited(bundle, lambda value: value.update(verificationMaterial=hint))
        refused(bundle, trust, "another key made it, or it was changed")

    def test_the_signature_of_another_bundle_is_refused(
        self, signed: Path, make_bundle: Callable[..., Path], trust: Trust, desk
    ) -> None:
        other = make_bundle("other", release=7)
        sign_bundle(other, key=desk.private)
        shutil.copy(other / "signature.json", signed)
        refused(signed, trust, r"Signature mismatch: \[.Hash mismatch for \\?'manifest.json")

    def test_a_manifest_rewritten_with_its_files_is_refused(
        self, signed: Path, make_bundle: Callable[..., Path], trust: Trust
    ) -> None:
        """What digests alone cannot show."""
        other = make_bundle("other", files={"report.html": b"all is well"})
        shutil.copy(signed / "signature.json", other)
        open_bundle(other).verify()
        refused(other, trust, "Signature mismatch")

    def test_the_manifest_that_was_opened_is_the_one_that_counts(self, signed: Path, trust: Trust) -> None:
        opened = open_bundle(signed)
        (signed / "manifest.json").write_bytes(b"{}")
        verify_signature(opened, trust)
        assert opened.manifest.name == "linear-host"


def put(*path: Any, to: Any) -> Edit:
    def edit(value: dict[str, Any]) -> None:
        inner: Any = value
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("mediaType", to="application/json"), "mediaType: Input should be"),
        (put("more", to=1), "more: Extra inputs are not permitted"),
        (put("verificationMaterial", to={}), "verificationMaterial.KeyMaterial.publicKey: Field required"),
        (put("verificationMaterial", "publicKey", "hint", to="0"), "publicKey.hint: String should match"),
        (put("verificationMaterial", "publicKey", "hint", to="0" * 64), "Key mismatch"),
        (put("verificationMaterial", "tlogEntries", to=[{}]), "tlogEntries"),
        (put("dsseEnvelope", "signatures", to=[]), "signatures"),
        (put("dsseEnvelope", "signatures", 0, "sig", to=""), "another key made it"),
        (put("dsseEnvelope", "signatures", 0, "sig", to="MEQ"), "sig: "),
        (put("dsseEnvelope", "signatures", 0, "keyid", to="x"), "keyid"),
        (put("dsseEnvelope", "payload", to="e30="), "another key made it"),
        (put("dsseEnvelope", "payload", to="e31="), "not canonical base64"),
        (put("dsseEnvelope", "payloadType", to="text/plain"), "payloadType"),
    ],
)
def test_an_edited_signature_is_refused(signed: Path, trust: Trust, edit: Edit, message: str) -> None:
    edited(signed, edit)
    refused(signed, trust, message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"[]", "Input should be"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"\xff\xfe", "not valid JSON"),
        (b" " * ((1 << 20) + 1), "1048577 bytes, expected at most 1048576"),
    ],
)
def test_noise_is_no_signature(signed: Path, trust: Trust, data: bytes, message: str) -> None:
    (signed / "signature.json").write_bytes(data)
    refused(signed, trust, message)


@pytest.mark.parametrize("change", [lambda data: data + b"\n", lambda data: data.replace(b"  ", b" ", 1), bytes.upper])
def test_another_spelling_is_refused(signed: Path, trust: Trust, change: Callable[[bytes], bytes]) -> None:
    """Nothing that the signature does not cover may vary."""
    path = signed / "signature.json"
    path.write_bytes(change(path.read_bytes()))
    refused(signed, trust, r"signature.json: ")


class TestWithACertificate:
    @pytest.fixture
    def root(self, issue):
        return issue("root", authority=True)

    def test_a_certificate_of_the_authority_signs(self, bundle: Path, issue, root) -> None:
        desk = issue("release desk", by=root)
        sign_bundle(bundle, key=desk.private, certificate=desk.certificate)
        assert verify_signature(open_bundle(bundle), Trust.read(certificate=root.certificate)) == "CN=release desk"

    def test_a_chain_leads_to_the_authority(self, bundle: Path, issue, root, tmp_path: Path) -> None:
        between = issue("between", by=root, authority=True)
        desk = issue("desk", by=between)
        chain = tmp_path / "chain.pem"
        chain.write_bytes(b"".join(one.certificate.read_bytes() for one in (desk, between, root)))
        sign_bundle(bundle, key=desk.private, certificate=chain)
        verify_signature(open_bundle(bundle), Trust.read(certificate=root.certificate))
        material = json.loads((bundle / "signature.json").read_bytes())["verificationMaterial"]
        assert len(material["x509CertificateChain"]["certificates"]) == 2  # the reader has the authority's own

    def test_openssf_s_own_verifier_agrees(self, bundle: Path, issue, root) -> None:
        desk = issue("desk", by=root)
        sign_bundle(bundle, key=desk.private, certificate=desk.certificate)
        config = verifying.Config().use_certificate_verifier(certificate_chain=[root.certificate])
        config.verify(bundle, bundle / "signature.json")

    def test_another_authority_is_refused(self, bundle: Path, issue, root) -> None:
        desk = issue("desk", by=issue("root of another", authority=True))
        sign_bundle(bundle, key=desk.private, certificate=desk.certificate)
        refused(bundle, Trust.read(certificate=root.certificate), "unable to get local issuer certificate")

    def test_a_certificate_that_is_no_authority_issues_nothing(self, bundle: Path, issue, root, tmp_path: Path) -> None:
        mere = issue("mere", by=root)
        desk = issue("desk", by=mere)
        chain = tmp_path / "chain.pem"
        chain.write_bytes(desk.certificate.read_bytes() + mere.certificate.read_bytes())
        sign_bundle(bundle, key=desk.private, certificate=chain)
        refused(bundle, Trust.read(certificate=root.certificate), r"signature.json: ")

    def test_a_bundle_signed_with_a_key_has_no_certificate(self, signed: Path, root) -> None:
        refused(signed, Trust.read(certificate=root.certificate), "made with a key, expected a certificate")

    def test_a_certificate_stands_for_no_key(self, bundle: Path, issue, root) -> None:
        desk = issue("desk", by=root)
        sign_bundle(bundle, key=desk.private, certificate=desk.certificate)
        refused(bundle, Trust.read(key=desk.public), "made with a certificate, expected a key")

    def test_a_certificate_that_may_not_sign_is_refused_at_the_desk(self, bundle: Path, issue, root) -> None:
        desk = issue("desk", by=root, signs=False)
        with pytest.raises(ConfigError, match="may not sign: its key usage lacks digitalSignature"):
            sign_bundle(bundle, key=desk.private, certificate=desk.certificate)

    def test_a_certificate_of_another_key_is_refused_at_the_desk(self, bundle: Path, issue, root, desk) -> None:
        with pytest.raises(ConfigError, match="does not match"):
            sign_bundle(bundle, key=desk.private, certificate=issue("other", by=root).certificate)
        assert not (bundle / "signature.json").exists()


class TestPlaces:
    def test_folder_and_archive_are_signed_together(self, bundle: Path, trust: Trust, desk) -> None:
        archive = write_archive(bundle, bundle.with_name(f"{bundle.name}.edgec"))
        for path, other in ((bundle, archive), (archive, bundle)):
            (bundle / "signature.json").unlink(missing_ok=True)
            write_archive(bundle, archive)
            assert [p.name for p in sign_bundle(path, key=desk.private)] == [path.name, other.name]
            assert verify_signature(open_bundle(path), trust) == verify_signature(open_bundle(other), trust)
            assert write_archive(bundle, bundle.with_name("again")).read_bytes() == archive.read_bytes()

    def test_another_bundle_beside_it_is_left_alone(self, bundle: Path, make_bundle, desk) -> None:
        archive = write_archive(make_bundle("other", release=1), bundle.with_name(f"{bundle.name}.edgec"))
        before = archive.read_bytes()
        assert sign_bundle(bundle, key=desk.private) == (bundle,)
        assert archive.read_bytes() == before

    def test_the_signature_travels_in_the_archive(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        moved = write_archive(signed, tmp_path / "elsewhere" / "x.edgec")
        verify_signature(open_bundle(moved), trust)
        open_bundle(moved).verify()

    def test_signing_again_replaces(self, signed: Path, trust: Trust, issue, desk) -> None:
        digest = open_bundle(signed).digest
        sign_bundle(signed, key=issue("other").private)
        refused(signed, trust, "Key mismatch")
        sign_bundle(signed, key=desk.private)
        verify_signature(open_bundle(signed), trust)
        assert open_bundle(signed).digest == digest
        assert not [path for path in signed.parent.iterdir() if path.name.startswith(".")]

    def test_what_is_damaged_is_not_signed(self, bundle: Path, desk) -> None:
        (bundle / "report.html").write_bytes(b"other")
        with pytest.raises(IntegrityError, match=r"'report.html' has 5 bytes"):
            sign_bundle(bundle, key=desk.private)
        assert not (bundle / "signature.json").exists()

    def test_a_manifest_cannot_name_the_signature(self, make_bundle: Callable[..., Path]) -> None:
        with pytest.raises(ValueError, match=r"file name 'signature.json' is not allowed"):
            make_bundle(files={"signature.json": b"{}"})


class TestTrust:
    def test_a_private_key_is_nothing_to_trust(self, desk) -> None:
        with pytest.raises(ConfigError, match=r"desk.pem' holds private key, expected a public key") as caught:
            Trust.read(key=desk.private)
        assert caught.value.hint == "one is made by: openssl ec -in private.pem -pubout -out public.pem"

    def test_a_public_key_signs_nothing(self, bundle: Path, desk) -> None:
        with pytest.raises(ConfigError, match=r"desk.pub' holds public key, expected a private key"):
            sign_bundle(bundle, key=desk.public)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read '.*gone.pem': No such file"):
            Trust.read(key=tmp_path / "gone.pem")

    def test_one_of_two_is_given(self, desk) -> None:
        for given in ({}, {"key": desk.public, "certificate": desk.certificate}):
            with pytest.raises(ConfigError, match="expected one of them"):
                Trust.read(**given)
        with pytest.raises(ValueError, match="one of them"):
            Trust()

    @pytest.mark.parametrize("make", [lambda: rsa.generate_private_key(65537, 2048).public_key(), None])
    def test_another_kind_of_key_is_bad_input(self, signed: Path, make: Callable[[], rsa.RSAPublicKey] | None) -> None:
        pem = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
        if make is not None:
            pem = make().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(ConfigError, match="the public key cannot be used") as caught:
            verify_signature(open_bundle(signed), Trust(public_key=pem))
        assert caught.value.hint == "expected ECDSA on P-256, P-384 or P-521, as PEM"


def test_without_the_package_the_extra_is_named(bundle: Path, desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("model_signing"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="model_signing")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependencyError, match="'model_signing' is not installed") as caught:
        sign_bundle(bundle, key=desk.private)
    assert caught.value.hint == "pip install 'edgec[signing]'"


def test_nothing_is_printed_and_no_network_is_asked(bundle: Path, desk) -> None:
    """In a process of its own: what its imports print would not be ours to catch."""
    code = """
import socket, sys
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
from edgec.package import Trust, open_bundle, sign_bundle, verify_signature
bundle, private, public = map(Path, sys.argv[1:])
sign_bundle(bundle, key=private)
verify_signature(open_bundle(bundle), Trust.read(key=public))
"""
    command = [sys.executable, "-c", code, bundle, desk.private, desk.public]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_manifest_is_parsed_only_once_somebody_who_is_trusted_signed_it(
    signed: Path, trust: Trust, issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, signature = ((signed / name).read_bytes() for name in ("manifest.json", "signature.json"))
    read = read_signed_manifest(manifest, signature, trust, where=signed)
    assert read == open_bundle(signed).manifest
    with pytest.raises(IntegrityError, match="is not signed"):
        read_signed_manifest(manifest, None, trust, where=signed)
    with pytest.raises(IntegrityError, match="Signature mismatch"):
        read_signed_manifest(manifest + b"\n", signature, trust, where=signed)
    monkeypatch.setattr("edgec.package.signing.Manifest.from_bytes", lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(IntegrityError, match=r"signature\.json"):
        read_signed_manifest(manifest, signature, Trust.read(key=issue("foreign").public), where=signed)
