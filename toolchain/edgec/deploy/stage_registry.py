"""Finished stages of builds in an OCI registry: an artifact per stage under the stage's key, a layer per file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from edgec.core.digest import digest_file
from edgec.core.errors import ConfigError, IntegrityError, TransportError
from edgec.core.shared_cache import MAX_ENTRY_BYTES, MAX_FILES, MAX_RECORD_BYTES, RECORD, Admit
from edgec.deploy.http import AbsentError
from edgec.deploy.modelpack import MEDIA_TYPE, TITLE, Blob
from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference

__all__ = ["STAGE_TYPE", "StageRegistry"]

STAGE_TYPE = "application/vnd.edgec.stage.v1+json"
RECORD_TYPE = "application/vnd.edgec.stage.record.v1+json"
FILE_TYPE = "application/vnd.edgec.stage.file.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
"""The config of an artifact that has none, as the OCI image specification 1.1 writes it."""

_ADDRESS = re.compile(r"oci(?P<plain>\+http)?://(?P<place>.+)")


class _StageManifest(BaseModel):
    """An artifact's manifest; the first layer is the record."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_version: Literal[2] = Field(default=2, validation_alias="schemaVersion", serialization_alias="schemaVersion")
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = Field(
        default=MEDIA_TYPE, validation_alias="mediaType", serialization_alias="mediaType"
    )
    artifact_type: Literal["application/vnd.edgec.stage.v1+json"] = Field(
        default=STAGE_TYPE, validation_alias="artifactType", serialization_alias="artifactType"
    )
    config: Blob
    layers: tuple[Blob, ...] = Field(min_length=1, max_length=1 + MAX_FILES)


@dataclass(frozen=True, kw_only=True)
class StageRegistry:
    """A `SharedCache`: a repository of a registry, where each stage lies under a tag of its own.

    Attributes:
        name: As a person wrote it.
        reference: The repository; the tag is a stage's.
        insecure: Speak HTTP without TLS; to this machine that is done anyway.
    """

    name: str
    reference: Reference
    insecure: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `oci://registry/repository`; `oci+http://` is one without TLS.

        Raises:
            ConfigError: Something else, or a tag.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None or ":" in found["place"].rpartition("/")[2] or "@" in found["place"]:
            raise ConfigError(
                f"'{text}' names no repository for stages, expected oci://registry/repository, without a tag",
                hint="as in oci://registry.example.com/cameras/cache; a folder is named by its path",
            )
        reference = replace(Reference.parse(f"{found['place']}:stages"), tag=None)
        return cls(name=text, reference=reference, insecure=found["plain"] is not None)

    def require_client(self) -> None:
        """Raises MissingDependencyError where what speaks to registries is not installed."""
        Repository(self.reference, insecure=self.insecure).close()

    def fetch(self, stage: str, key: str, into: Path, admit: Admit) -> bool:
        """See `SharedCache`."""
        with self._repository(stage, key) as repository:
            try:
                manifest = _parsed(repository.manifest())
            except AbsentError:
                return False
            record, *layers = manifest.layers
            if record.size > MAX_RECORD_BYTES or sum(layer.size for layer in layers) > MAX_ENTRY_BYTES:
                raise IntegrityError("it is too large")
            _fetch(repository, record, into / RECORD)
            by_digest = {layer.sha256: layer for layer in layers}
            for name, digest in admit((into / RECORD).read_bytes()).items():
                if digest not in by_digest:
                    raise IntegrityError(f"'{name}' is not there")
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                _fetch(repository, by_digest[digest], into / name)
        return True

    def store(self, stage: str, key: str, folder: Path, files: Mapping[str, str], *, replace: bool) -> bool:
        """See `SharedCache`; the tag comes last."""
        with self._repository(stage, key) as repository:
            if not replace and _stands_in(repository):
                return False
            layers = {RECORD: _blob(folder, RECORD, digest_file(folder / RECORD), RECORD_TYPE)}
            layers |= {name: _blob(folder, name, digest, FILE_TYPE) for name, digest in files.items()}
            if sum(layer.size for layer in layers.values()) > MAX_ENTRY_BYTES:
                raise IntegrityError(f"more than {MAX_ENTRY_BYTES} bytes")
            for name, layer in layers.items():
                repository.upload(layer, (folder / name).read_bytes())
            config = Blob.of(EMPTY, EMPTY_TYPE)
            repository.upload(config, EMPTY)
            manifest = _StageManifest(config=config, layers=tuple(layers.values())).model_dump(
                mode="json", by_alias=True
            )
            repository.put_manifest(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
        return True

    def _repository(self, stage: str, key: str) -> Repository:
        return Repository(replace(self.reference, tag=f"{stage}-{key}"), insecure=self.insecure)


def _fetch(repository: Repository, blob: Blob, to: Path) -> None:
    try:
        repository.fetch(blob, to)
    except TransportError as error:
        repository.resolve()  # raises where it is the registry that fails, and not this file
        raise IntegrityError(f"'{to.name}' cannot be fetched: {error}") from error


def _stands_in(repository: Repository) -> bool:
    """Whether an entry is there; one that cannot be read is none."""
    try:
        _parsed(repository.manifest())
    except (AbsentError, IntegrityError):
        return False
    return True


def _parsed(data: bytes) -> _StageManifest:
    try:
        return _StageManifest.model_validate_json(data)
    except ValidationError as error:
        raise IntegrityError("what lies there is no stage of a build") from error


def _blob(folder: Path, name: str, digest: str, media_type: str) -> Blob:
    size = (folder / name).stat().st_size
    if size > MAX_ENTRY_BYTES:
        raise IntegrityError(f"'{name}' has {size} bytes, expected at most {MAX_ENTRY_BYTES}")
    return Blob(media_type=media_type, digest=f"sha256:{digest}", size=size, annotations={TITLE: name})
