"""A bundle as an OCI artifact: one layer per file, with CNCF ModelPack's media types (github.com/modelpack/model-spec).

Layers are the files as they are. So a file that stays the same from version to version is stored, sent and received
once, and the digest of the layer `manifest.json` is the bundle's identity, known before anything else is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgec.core.digest import digest_bytes
from edgec.core.errors import DataError, IntegrityError
from edgec.deploy.reference import DIGEST
from edgec.package import Bundle
from edgec.package.manifest import MANIFEST, SIGNATURE, is_safe_name
from edgec.package.source import MAX_BYTES, MAX_FILES

__all__ = [
    "INDEX_TYPE",
    "MEDIA_TYPE",
    "TARGET",
    "Artifact",
    "Blob",
    "describe",
    "describe_family",
    "read_artifact",
    "read_family",
]

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
"""What names the members of a family."""
TARGET = "io.github.edgec.target"
"""The annotation of an index's entry that says for which device it is."""
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
FILE_PATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
"""What other tools name files by, `oras pull` for one; not read here."""

_LAYER = "application/vnd.cncf.model.{}.v1.raw"
_WEIGHT_CONFIG = (MANIFEST, SIGNATURE, "calibration.json")
_KINDS = {".onnx": "weight", ".npz": "dataset", ".engine": "weight"}
_PRECISIONS = {"float32": "float32", "float16": "float16"}


_Schema = TypeVar("_Schema", bound="_Lenient")


class _Lenient(BaseModel):
    """Part of a manifest that others may have extended."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Blob(_Lenient):
    """A descriptor: something that a registry stores by its digest."""

    media_type: str = Field(validation_alias="mediaType", serialization_alias="mediaType", max_length=255)
    digest: Annotated[str, Field(pattern=f"^{DIGEST}$")]
    size: int = Field(ge=0, le=MAX_BYTES)
    annotations: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Blob:
        """The descriptor of these contents."""
        return cls(media_type=media_type, digest=f"sha256:{digest_bytes(data)}", size=len(data))

    @property
    def sha256(self) -> str:
        """The digest in hexadecimal."""
        return self.digest.removeprefix("sha256:")


class _ImageManifest(_Lenient):
    schema_version: Literal[2] = Field(default=2, validation_alias="schemaVersion", serialization_alias="schemaVersion")
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = Field(
        default=MEDIA_TYPE, validation_alias="mediaType", serialization_alias="mediaType"
    )
    artifact_type: str | None = Field(
        default=ARTIFACT_TYPE, validation_alias="artifactType", serialization_alias="artifactType"
    )
    config: Blob
    layers: tuple[Blob, ...] = Field(min_length=1, max_length=MAX_FILES)


class _Index(_Lenient):
    schema_version: Literal[2] = Field(default=2, validation_alias="schemaVersion", serialization_alias="schemaVersion")
    media_type: Literal["application/vnd.oci.image.index.v1+json"] = Field(
        default=INDEX_TYPE, validation_alias="mediaType", serialization_alias="mediaType"
    )
    artifact_type: str | None = Field(
        default=ARTIFACT_TYPE, validation_alias="artifactType", serialization_alias="artifactType"
    )
    manifests: tuple[Blob, ...] = Field(min_length=1, max_length=MAX_FILES)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A bundle as a registry has it.

    Attributes:
        manifest: The bytes that the digest is of.
        config: What catalogues show; nothing of it is needed to run the bundle.
        layers: The files by their path in the bundle.
        family: The digest of the index in which it was found; None where it was named by itself.
    """

    manifest: bytes
    config: Blob
    layers: Mapping[str, Blob]
    family: str | None = None

    @property
    def digest(self) -> str:
        """The digest that pins it."""
        return f"sha256:{digest_bytes(self.manifest)}"

    @property
    def named(self) -> str:
        """The digest of what a tag names: of the family's index, where it belongs to one."""
        return self.family or self.digest

    @property
    def bundle(self) -> str:
        """The bundle's identity, SHA-256 of its `manifest.json`."""
        return self.layers[MANIFEST].sha256

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(layer.size for layer in self.layers.values())


def describe(bundle: Bundle) -> tuple[Artifact, bytes]:
    """The artifact that a bundle becomes, and its config; equal bundles give equal bytes."""
    layers = {name: _layer(bundle, name) for name in sorted(bundle.source.sizes)}
    config = _json(_config(bundle, layers))
    described = Blob.of(config, CONFIG_TYPE)
    manifest = _ImageManifest(config=described, layers=tuple(layers.values()))
    fields = manifest.model_dump(mode="json", by_alias=True)
    if not fields["config"]["annotations"]:
        del fields["config"]["annotations"]
    return Artifact(manifest=_json(fields), config=described, layers=layers), config


def describe_family(members: Mapping[str, Artifact]) -> bytes:
    """The index that names each target's artifact; equal families give equal bytes."""
    entries = [
        Blob.of(artifact.manifest, MEDIA_TYPE).model_copy(update={"annotations": {TARGET: target}})
        for target, artifact in members.items()
    ]
    return _json(_Index(manifests=tuple(entries)).model_dump(mode="json", by_alias=True))


def read_artifact(data: bytes, *, where: str) -> Artifact:
    """What an image manifest says, if it is that of a bundle.

    Raises:
        DataError: It is something else: an image, a model of another kind.
        IntegrityError: Not what the specifications allow, too large, or a layer's path leads outside.
    """
    manifest = _read(data, _ImageManifest, where)
    return Artifact(manifest=data, config=manifest.config, layers=_files(manifest.layers, where))


def read_family(data: bytes, *, where: str) -> dict[str, Blob] | None:
    """The members that an index names, by target; None where these bytes are no index.

    Raises:
        DataError: An index of something else: of images for several platforms.
        IntegrityError: Not what the specifications allow, or an entry without a target, or with another's.
    """
    if _parsed(data, where).get("mediaType") != INDEX_TYPE:
        return None
    members: dict[str, Blob] = {}
    for entry in _read(data, _Index, where).manifests:
        target = entry.annotations.get(TARGET, "")
        if entry.media_type != MEDIA_TYPE or "/" in target or not is_safe_name(target) or target in members:
            raise _refused(where, f"entry {entry.digest} is no member for a target of its own")
        members[target] = entry
    return members


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"'{where}': the manifest is not valid JSON") from error
    return value if isinstance(value, dict) else {}


def _read(data: bytes, schema: type[_Schema], where: str) -> _Schema:
    value = _parsed(data, where)
    _require_model(value, where)
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise _refused(where, f"{field}: {first['msg']}") from error


def _require_model(fields: Mapping[str, Any], where: str) -> None:
    """Tells what lies there instead, before its fields are looked at."""
    config = fields.get("config")
    found = fields.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    if found not in (ARTIFACT_TYPE, CONFIG_TYPE):
        shown = found or fields.get("mediaType") or "something else"
        raise DataError(
            f"'{where}' is no bundle: {shown!r}, expected {ARTIFACT_TYPE}", hint="store one with: edgec push"
        )


def _files(layers: tuple[Blob, ...], where: str) -> dict[str, Blob]:
    files: dict[str, Blob] = {}
    for layer in layers:
        name = layer.annotations.get(FILE_PATH, "")
        if not is_safe_name(name):
            raise _refused(where, f"file name {name!r} is not allowed")
        if name in files:
            raise _refused(where, f"'{name}' stands twice")
        files[name] = layer
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}
    for name in sorted(folders & files.keys()):
        raise _refused(where, f"'{name}' is both a file and a folder")
    if MANIFEST not in files:
        raise DataError(f"'{where}' is no bundle: it holds no {MANIFEST}", hint="store one with: edgec push")
    total = sum(layer.size for layer in layers)
    if total > MAX_BYTES:
        raise _refused(where, f"{total} bytes, expected at most {MAX_BYTES}")
    return files


def _layer(bundle: Bundle, name: str) -> Blob:
    kind = "weight.config" if name in _WEIGHT_CONFIG else _KINDS.get(PurePosixPath(name).suffix, "doc")
    entry = bundle.manifest.files.get(name)
    if entry is None:  # the manifest itself, and the signature
        found = Blob.of(bundle.source.read(name), _LAYER.format(kind))
    else:
        found = Blob(media_type=_LAYER.format(kind), digest=f"sha256:{entry.sha256}", size=entry.bytes)
    return found.model_copy(update={"annotations": {FILE_PATH: name, TITLE: name}})


def _config(bundle: Bundle, layers: Mapping[str, Blob]) -> dict[str, Any]:
    """The model's config as ModelPack 1 has it; files are raw, so that their digests are their diff ids."""
    manifest = bundle.manifest
    scheme = manifest.model.scheme.value
    return {
        "descriptor": {
            "name": manifest.name,
            "version": str(manifest.release),
            "title": f"{manifest.name} for {manifest.target.title}",
            "revision": bundle.digest,
        },
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers.values()]},
        "config": {
            "format": manifest.model.format,
            "precision": _PRECISIONS.get(scheme, "int8"),
            **({} if scheme in _PRECISIONS else {"quantization": scheme}),
            "capabilities": {"inputTypes": ["image"], "outputTypes": ["other"]},
        },
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _refused(where: str, reason: str) -> IntegrityError:
    return IntegrityError(f"'{where}': {reason}", hint="what lies there was not pushed by edgec, or was changed")
