"""Signatures: who vouches for a bundle, by OpenSSF Model Signing with keys or certificates; no network is asked.

Signed are the manifest's digest and, through it, those of all files. So a signature holds for folder and archive alike,
and `model_signing verify key --signature BUNDLE/signature.json --public_key public.pem BUNDLE` agrees with us.
"""

from __future__ import annotations

import base64
import logging
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from edgec.core.digest import digest_bytes
from edgec.core.errors import ConfigError, DataError, IntegrityError, MissingDependencyError
from edgec.core.files import require_writable, write_bytes
from edgec.package.archive import archive_bytes
from edgec.package.bundle import Bundle, open_bundle
from edgec.package.envelope import CertificateMaterial, Envelope, KeyMaterial
from edgec.package.manifest import MANIFEST, SIGNATURE, Manifest, parse_json

if TYPE_CHECKING:
    from model_signing.hashing import Config

__all__ = ["MAX_BYTES", "Trust", "read_signed_manifest", "sign_bundle", "verify_signature"]

MAX_BYTES = 1 << 20
"""Bytes of a signature: a bundle has at most 64 files."""
_MAKE = {
    b"PRIVATE KEY": "one is made by: openssl ecparam -name prime256v1 -genkey -noout -out private.pem",
    b"PUBLIC KEY": "one is made by: openssl ec -in private.pem -pubout -out public.pem",
    b"CERTIFICATE": "name a file with -----BEGIN CERTIFICATE-----",
}
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError, ArithmeticError, OSError, Warning)
"""What the libraries raise on keys, certificates and signatures that are none."""


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Whom to believe: the holder of one key, or everybody with a signing certificate from these authorities.

    Attributes:
        public_key: An ECDSA key (P-256, P-384 or P-521), PEM.
        certificates: The authorities' certificates, PEM. They should issue for those who sign bundles, and nobody else.
        others: Who is believed as well.
    """

    public_key: bytes | None = None
    certificates: bytes | None = None
    others: tuple[Trust, ...] = ()

    def __post_init__(self) -> None:
        if (self.public_key is None) == (self.certificates is None):
            raise ValueError("trust is a public key or certificates, one of them")

    @classmethod
    def read(cls, *, key: Path | None = None, certificate: Path | None = None) -> Self:
        """From one of two PEM files.

        Raises:
            ConfigError: None or both are given, or the file cannot be read or holds something else.
        """
        if key is not None and certificate is None:
            return cls(public_key=_pem(key, b"PUBLIC KEY"))
        if certificate is not None and key is None:
            return cls(certificates=_pem(certificate, b"CERTIFICATE"))
        raise ConfigError("a key and a certificate, expected one of them", hint="give --key or --certificate")

    @classmethod
    def any_of(cls, trusted: Sequence[Trust]) -> Trust | None:
        """Believes each of them; None where there is none."""
        return replace(trusted[0], others=tuple(trusted[1:])) if trusted else None


def verify_signature(bundle: Bundle, trust: Trust) -> str:
    """Makes sure that somebody who is trusted signed this very bundle. Nothing is read but manifest and signature.

    `Bundle.verify` compares the files with the manifest; whoever wants both calls both.

    Returns:
        Who signed, for people.

    Raises:
        ConfigError: What is trusted is no such key or certificate.
        IntegrityError: The bundle is not signed, by somebody else, or was changed since.
        MissingDependencyError: model-signing is not installed.
    """
    if not bundle.signed:
        raise _unsigned(bundle.path)
    size = bundle.source.sizes[SIGNATURE]
    if size > MAX_BYTES:
        raise _refused(bundle.path, f"{size} bytes, expected at most {MAX_BYTES}")
    return _vouched(
        bundle.source.read(SIGNATURE), trust, lambda: bundle.manifest.digests(bundle.digest), where=bundle.path
    )


def read_signed_manifest(manifest: bytes, signature: bytes | None, trust: Trust, *, where: Path) -> Manifest:
    """A manifest that somebody who is trusted signed; it is parsed once that is known, and not before.

    Args:
        manifest: The bytes of `manifest.json`.
        signature: Those of `signature.json`; None where there is none.
        trust: Whose signature it must be.
        where: The bundle's name in messages.

    Raises:
        ConfigError: See `verify_signature`.
        IntegrityError: See `verify_signature`, or what was signed is not a manifest.
        MissingDependencyError: See `verify_signature`.
    """
    if signature is None:
        raise _unsigned(where)
    read: list[Manifest] = []

    def digests() -> dict[str, str]:
        read.append(Manifest.from_bytes(manifest, where=f"{where}/{MANIFEST}"))
        return read[0].digests(digest_bytes(manifest))

    _vouched(signature, trust, digests, where=where)
    return read[0]


def _vouched(data: bytes, trust: Trust, digests: Callable[[], Mapping[str, str]], *, where: Path) -> str:
    """Who signed files of these digests, which are asked for when the signature is known to be of a trusted hand."""
    try:
        envelope = Envelope.from_bytes(data)
    except ValueError as error:
        raise _refused(where, str(error)) from error
    refusals = []
    for one in (trust, *trust.others):
        try:
            return _vouched_by_one(envelope, one, digests, where=where)
        except IntegrityError as error:
            refusals.append(error)
    if len(refusals) == 1:
        raise refusals[0]
    raise _refused(where, f"none of the {len(refusals)} that are trusted made it")


def _vouched_by_one(envelope: Envelope, trust: Trust, digests: Callable[[], Mapping[str, str]], *, where: Path) -> str:
    failures = _library()
    with tempfile.TemporaryDirectory() as folder:
        verifier = _verifier(trust, envelope, where, Path(folder))
        signature = Path(folder) / SIGNATURE
        signature.write_bytes(envelope.to_bytes())
        try:
            verifier.set_hashing_config(_listing(where.name, digests)).verify(where, signature)
        except failures as error:
            raise _refused(where, str(error) or "another key made it, or it was changed") from error
    return _signer(envelope)


def _verifier(trust: Trust, envelope: Envelope, where: Path, folder: Path) -> Any:
    """model-signing's, for what is trusted."""
    from model_signing import verifying

    by_key = isinstance(envelope.verification_material, KeyMaterial)
    if by_key != (trust.public_key is not None):
        got, expected = ("a key", "a certificate") if by_key else ("a certificate", "a key")
        raise _refused(where, f"made with {got}, expected {expected}")
    trusted = folder / "trusted.pem"
    trusted.write_bytes(trust.public_key or trust.certificates or b"")
    config = verifying.Config()
    try:
        if by_key:
            return config.use_elliptic_key_verifier(public_key=trusted)
        return config.use_certificate_verifier(certificate_chain=[trusted])
    except _library() as error:
        what = "public key" if by_key else "certificate"
        raise ConfigError(
            f"the {what} cannot be used: {error}", hint="expected ECDSA on P-256, P-384 or P-521, as PEM"
        ) from error


def sign_bundle(
    path: Path, *, key: Path, certificate: Path | None = None, password: str | None = None
) -> tuple[Path, ...]:
    """Signs a bundle, folder or archive, and the other form beside it where that is the same bundle.

    A signature that was there is replaced. Killed at any moment, each form is as before or signed.

    Args:
        path: The bundle.
        key: The private key, PEM: ECDSA on P-256, P-384 or P-521.
        certificate: The key's certificate, PEM, followed by those between it and the authority.
        password: Of the key, where it has one; not together with a certificate.

    Returns:
        What was signed: `path`, and the other form where it was.

    Raises:
        ConfigError: Key and certificate cannot sign, or nothing can be written there.
        DataError: `path` is no bundle.
        IntegrityError: It is a damaged one.
        MissingDependencyError: model-signing is not installed.
    """
    bundle = open_bundle(path)
    bundle.verify()
    data = _signature(bundle, key, certificate, password)
    signed = [path]
    _place(bundle, data)
    other = _same_bundle(path, bundle.digest)
    if other is not None:
        _place(other, data)
        signed.append(other.path)
    return tuple(signed)


def _signature(bundle: Bundle, key: Path, certificate: Path | None, password: str | None) -> bytes:
    """`signature.json` for a bundle."""
    _pem(key, b"PRIVATE KEY")
    failures = _library()
    from model_signing import signing

    with tempfile.TemporaryDirectory() as folder:
        config, written = signing.Config(), Path(folder) / SIGNATURE
        config.set_hashing_config(_listing(bundle.manifest.name, lambda: bundle.manifest.digests(bundle.digest)))
        try:
            if certificate is None:
                secret: Any = password and password.encode()  # annotated as str, used as bytes
                config.use_elliptic_key_signer(private_key=key, password=secret)
            else:
                _require_signing_certificate(certificate)
                config.use_certificate_signer(
                    private_key=key, signing_certificate=certificate, certificate_chain=[certificate]
                )
            config.sign(bundle.path, written)
        except failures as error:
            raise ConfigError(f"cannot sign with '{key}': {error}", hint=_MAKE[b"PRIVATE KEY"]) from error
        envelope = Envelope.of(parse_json(written.read_bytes()))
    return _trimmed(envelope).to_bytes()


def _require_signing_certificate(path: Path) -> None:
    """Refuses at the desk what every device would refuse.

    Raises:
        ConfigError: The certificate may not sign.
    """
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(_pem(path, b"CERTIFICATE"))
    usage = [e.value for e in certificate.extensions if isinstance(e.value, x509.KeyUsage)]
    if not any(value.digital_signature for value in usage):
        raise ConfigError(
            f"certificate '{path}' may not sign: its key usage lacks digitalSignature",
            hint="issue it with keyUsage = critical, digitalSignature",
        )


def _trimmed(envelope: Envelope) -> Envelope:
    """Without certificates that prove nothing: one that stands twice, and the authority's own, which the reader has."""
    from cryptography import x509

    material = envelope.verification_material
    if isinstance(material, KeyMaterial):
        return envelope
    first, *others = dict.fromkeys(material.x509_certificate_chain.certificates)
    loaded = {other: x509.load_der_x509_certificate(_bytes(other.raw_bytes)) for other in others}
    kept = (first, *(other for other, found in loaded.items() if found.issuer != found.subject))
    chain = material.x509_certificate_chain.model_copy(update={"certificates": kept})
    return envelope.model_copy(
        update={"verification_material": material.model_copy(update={"x509_certificate_chain": chain})}
    )


def _place(bundle: Bundle, signature: bytes) -> None:
    """Puts a signature into a folder or an archive, which stays as it is or becomes signed."""
    path = bundle.path
    require_writable(path)
    if path.is_dir():
        # The draft stands beside the folder: a kill leaves nothing in it that no manifest names.
        draft = path.with_name(f".{path.name}.{SIGNATURE}")
        write_bytes(draft, signature)
        draft.replace(path / SIGNATURE)
        return
    contents = {name: bundle.read_bytes(name) for name in bundle.manifest.files}
    write_bytes(path, archive_bytes({**contents, MANIFEST: bundle.source.read(MANIFEST), SIGNATURE: signature}))


def _same_bundle(path: Path, digest: str) -> Bundle | None:
    """The archive beside a folder, or the folder beside an archive, where it is the same bundle and whole."""
    path = path.resolve()
    other = path.with_suffix("") if path.suffix == ".edgec" else path.with_name(f"{path.name}.edgec")
    try:
        bundle = open_bundle(other)
        bundle.verify()
    except (DataError, IntegrityError):
        return None
    return bundle if bundle.digest == digest and other.is_dir() != path.is_dir() else None


def _listing(name: str, digests: Callable[[], Mapping[str, str]]) -> Config:
    """What model-signing would find, were it to read a bundle's folder."""
    from model_signing import hashing, manifest

    layout = manifest.SerializationType.from_args(
        {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE]}
    )

    class Listing(hashing.Config):
        """Knows the digests already. It is asked for them behind the signature's check."""

        def hash(self, model_path: object, *, files_to_hash: object = None) -> manifest.Manifest:
            del model_path, files_to_hash
            items = [
                layout.new_item(name, manifest.hashing.Digest("sha256", bytes.fromhex(digest)))
                for name, digest in digests().items()
            ]
            return manifest.Manifest(name, items, layout)

        def add_ignored_paths(self, *, model_path: object, paths: object) -> None:
            """Nothing is ignored but the signature."""

    return Listing()


def _library() -> tuple[type[Exception], ...]:
    """What model-signing and what it builds on raise for bad keys, certificates and signatures.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import model_signing.signing
        import model_signing.verifying  # noqa: F401 - to fail here
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from OpenSSL import crypto
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"signatures need model-signing, and '{error.name}' is not installed", hint="pip install 'edgec[signing]'"
        ) from error
    logging.getLogger("model_signing").addHandler(logging.NullHandler())  # else Python prints its warnings
    return (*_UNREADABLE, InvalidSignature, UnsupportedAlgorithm, crypto.Error, crypto.X509StoreContextError)


def _signer(envelope: Envelope) -> str:
    """Who signed, once it is known that they did."""
    material = envelope.verification_material
    if isinstance(material, CertificateMaterial):
        from cryptography import x509

        leaf = x509.load_der_x509_certificate(_bytes(material.x509_certificate_chain.certificates[0].raw_bytes))
        return leaf.subject.rfc4514_string()
    return f"key {material.public_key.hint[:16]}"


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _pem(path: Path, kind: bytes) -> bytes:
    """The contents of a PEM file that holds something of a kind.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror or error}", hint="check the name") from error
    found = re.findall(rb"-----BEGIN (?:[A-Z]+ )?(PRIVATE KEY|PUBLIC KEY|CERTIFICATE)-----", data)
    if kind not in found:
        got = " and ".join(sorted({name.decode().lower() for name in found})) or "no PEM"
        raise ConfigError(f"'{path}' holds {got}, expected a {kind.decode().lower()}", hint=_MAKE[kind])
    return data


def _unsigned(where: Path) -> IntegrityError:
    return IntegrityError(
        f"'{where}' is not signed, expected a signature",
        hint="sign it with: edgec sign; if it was signed once, somebody took the signature away",
    )


def _refused(where: Path, reason: str) -> IntegrityError:
    return IntegrityError(
        f"'{where}': {SIGNATURE}: {reason}",
        hint="do not use the bundle unless you know why: it was changed, or somebody else signed it",
    )
