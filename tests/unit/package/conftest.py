"""Keys and certificates, made anew for each run of the tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = dt.datetime.now(dt.timezone.utc)
YEAR = dt.timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A key, and where there is one its certificate."""

    private: Path
    public: Path
    certificate: Path

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        found = serialization.load_pem_private_key(self.private.read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        return found

    @property
    def x509(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


Issue = Callable[..., Identity]


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """Makes a key, and a certificate of it by an authority or by itself."""
    folder = tmp_path / "keys"
    folder.mkdir()

    def make(
        name: str,
        *,
        by: Identity | None = None,
        authority: bool = False,
        curve: ec.EllipticCurve | None = None,
        password: bytes | None = None,
        starts: dt.datetime = NOW - YEAR,
        signs: bool = True,
    ) -> Identity:
        key = ec.generate_private_key(curve or ec.SECP256R1())
        made = Identity(
            private=folder / f"{name}.pem", public=folder / f"{name}.pub", certificate=folder / f"{name}.crt"
        )
        kept = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        made.private.write_bytes(key.private_bytes(pem, pkcs8, kept))
        made.public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
        ) | {"encipher_only": False, "decipher_only": False}
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by.x509.subject if by else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts)
            .not_valid_after(starts + 2 * YEAR)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=signs and not authority, key_cert_sign=authority, **usage),
                critical=True,
            )
            .sign(by.key if by else key, hashes.SHA256())
        )
        made.certificate.write_bytes(certificate.public_bytes(pem))
        return made

    return make


@pytest.fixture
def desk(issue: Issue) -> Identity:
    """Who signs."""
    return issue("desk")
