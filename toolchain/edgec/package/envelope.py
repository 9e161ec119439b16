"""`signature.json`: a Sigstore bundle (https://docs.sigstore.dev/about/bundle/) in the one form that we write and read.

What a signature does not cover (spaces, the order of keys, fields that nobody knows) has nothing to vary: of two files
that differ in a byte at most one is a signature of ours.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from typing_extensions import Self

from edgec.package.manifest import parse_json

__all__ = ["Envelope"]


def _canonical(text: str) -> str:
    """Base64 that nothing else decodes to the same bytes as.

    Raises:
        ValueError: It is not.
    """
    if base64.b64encode(base64.b64decode(text, validate=True)).decode() != text:
        raise ValueError("not canonical base64")
    return text


Base64 = Annotated[str, AfterValidator(_canonical)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Certificate(_Frozen):
    """An X.509 certificate, DER."""

    raw_bytes: Base64


class CertificateChain(_Frozen):
    """The signing certificate, then those between it and the authority, which the reader has."""

    certificates: tuple[Certificate, ...] = Field(min_length=1, max_length=8)


class PublicKey(_Frozen):
    """SHA-256 of the key's PEM, so that another key is told from a damaged signature."""

    hint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class KeyMaterial(_Frozen):
    """Signed with a key."""

    public_key: PublicKey
    tlog_entries: tuple[()] = ()


class CertificateMaterial(_Frozen):
    """Signed with a certificate."""

    x509_certificate_chain: CertificateChain = Field(alias="x509CertificateChain")
    tlog_entries: tuple[()] = ()


class Signature(_Frozen):
    """ECDSA over the payload and its type."""

    sig: Base64
    keyid: Literal[""] = ""


class Signed(_Frozen):
    """What is signed: an in-toto statement that lists files and their digests."""

    payload: Base64
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: tuple[Signature] = Field()


class Envelope(_Frozen):
    """The whole file."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: KeyMaterial | CertificateMaterial
    dsse_envelope: Signed

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` wrote, and nothing else.

        Raises:
            ValueError: Another form, be it of the same meaning.
        """
        envelope = cls.of(parse_json(data))
        if envelope.to_bytes() != data:
            raise ValueError("not in the form that edgec writes")
        return envelope

    @classmethod
    def of(cls, value: Any) -> Self:
        """The envelope of a JSON value, whatever its layout.

        Raises:
            ValueError: A field is missing, wrong or unknown.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "signature"
            raise ValueError(f"{field}: {first['msg']}") from error

    def to_bytes(self) -> bytes:
        """Indented JSON with sorted keys."""
        fields = self.model_dump(mode="json", by_alias=True)
        return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()
