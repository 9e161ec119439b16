"""`manifest.json`: what a bundle is, how it came to be, and the digest of every file in it."""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator
from typing_extensions import Self

from edgec import __version__
from edgec.core.digest import digest_bytes
from edgec.core.errors import IntegrityError
from edgec.core.frozen import Frozen
from edgec.core.inputs import InputSpec
from edgec.core.target import EngineName, Scheme

__all__ = [
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "SCHEMA",
    "SIGNATURE",
    "BuildPlan",
    "CheckEntry",
    "Description",
    "FileEntry",
    "Manifest",
    "ModelEntry",
    "OutputEntry",
    "RuntimeEntry",
    "StageEntry",
    "TargetEntry",
    "UnknownEntry",
    "is_safe_name",
    "parse_json",
]

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
"""The one file beside the manifest that the manifest does not name: it comes later, and vouches for the manifest."""

MAX_MANIFEST_BYTES = 4 << 20
"""A build of 1,000 classes writes 60 kB; read before it is known who signed it, so no more than a moment's work."""

SCHEMA = 1
"""The manifest's schema that this version writes and reads."""

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}"
_NAME = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,3}}")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Facts = dict[str, JsonValue]

_MAX_RELEASE = 2**53 - 1
"""What every JSON reader holds exactly."""


class TargetEntry(Frozen):
    """The device profile that the bundle was built for, and the digest of that profile."""

    name: str
    title: str
    digest: Digest


class OutputEntry(Frozen):
    """The graph's output: logits, float32 [n, classes], in the order of the manifest's labels."""

    name: str
    kind: Literal["logits"] = "logits"


class ModelEntry(Frozen):
    """The file that runs.

    Attributes:
        members: Of a deck, what each net was recovered on, in the order of the graph's output `member`.
    """

    file: str = "model.onnx"
    format: Literal["onnx"] = "onnx"
    scheme: Scheme
    opset: int = Field(ge=13, le=24)
    members: tuple[str, ...] = ()


class CheckEntry(Frozen):
    """What was proven of the graph without the device: by which package, whether it was, and the verdict in words."""

    tool: str | None
    proven: bool
    note: str


class UnknownEntry(Frozen):
    """When a picture is of none of the classes.

    Attributes:
        below: Maximum softmax below which it is.
        most: Share of any class that the threshold was fitted to lose at most.
        classes: Share of each class's test images below it.
        foreign: Share of out-of-distribution images below it.
    """

    below: float = Field(ge=0, le=1)
    most: float = Field(ge=0, lt=1)
    classes: dict[str, float] = Field(default_factory=dict)
    foreign: float | None = None


class BuildPlan(Frozen):
    """How the engine is made on the device; paths are relative to the bundle.

    Engines fit one TensorRT version and one compute capability, so none is shipped.
    """

    tool: str
    arguments: tuple[str, ...]
    check: CheckEntry | None = None


class RuntimeEntry(Frozen):
    """What runs the model on the device.

    Attributes:
        providers: onnxruntime execution providers, best first.
        device: What OpenVINO computes on.
        threads: Threads within an operator; None leaves it to the engine.
        recorded_by: What gave the logits of the golden images at the build.
    """

    engine: EngineName
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    device: Literal["CPU", "GPU"] = "CPU"
    threads: int | None = Field(default=None, ge=1)
    recorded_by: EngineName = "onnxruntime"
    build_plan: BuildPlan | None = None


class StageEntry(Frozen):
    """One stage of the build: its cache key, the digests of its config and inputs, and facts for people."""

    name: str
    key: Digest
    config: Digest
    inputs: dict[str, Digest] = Field(default_factory=dict)
    facts: Facts = Field(default_factory=dict)


class FileEntry(Frozen):
    """Identity of a file's contents."""

    sha256: Digest
    bytes: int = Field(ge=0)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The entry of these contents."""
        return cls(sha256=digest_bytes(data), bytes=len(data))


class Description(Frozen):
    """All that a manifest says but for the digests of the files.

    It holds no time, no host name and no absolute path: equal builds describe themselves in equal bytes.

    Attributes:
        release: Counts up from release to release of one model; a device that has one refuses a lower one.
        expires: The last day, in UTC, on which a device may switch to the bundle; None for ever. What runs goes on.
        edgec: The version that made the bundle.
        preprocessing_in_graph: True when the graph scales and normalises pixels by itself.
        unknown: When a picture is of none of the classes; None where that was not fitted.
        tools: Versions of what took part, by name; see `edgec.core.versions`.
        data: Facts on the samples: counts, digests, proof that the splits do not overlap.
        calibration: Facts on the calibration set: recipe, images, class histogram.
    """

    name: str = Field(min_length=1)
    release: int = Field(default=0, ge=0, le=_MAX_RELEASE, strict=True)
    expires: date | None = None
    edgec: str = __version__
    target: TargetEntry
    labels: tuple[str, ...] = Field(min_length=2)
    input: InputSpec
    preprocessing_in_graph: bool = False
    output: OutputEntry
    model: ModelEntry
    runtime: RuntimeEntry
    unknown: UnknownEntry | None = None
    lineage: tuple[StageEntry, ...] = ()
    tools: dict[str, str]
    data: Facts = Field(default_factory=dict)
    calibration: Facts = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        twice = [label for label, count in Counter(labels).items() if count > 1]
        if twice:
            raise ValueError(f"label '{min(twice)}' stands twice: expected distinct labels")
        return labels


class Manifest(Description):
    """A bundle's manifest. `files` names every file but itself and the signature by its path in the bundle."""

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in self.files:
            if not is_safe_name(name) or name in (MANIFEST, SIGNATURE):
                raise ValueError(f"file name {name!r} is not allowed")
        if self.model.file not in self.files:
            raise ValueError(f"the model '{self.model.file}' is not among the files")
        return self

    @classmethod
    def of(cls, description: Description, files: dict[str, FileEntry]) -> Self:
        """The manifest of a bundle with these files.

        Raises:
            ValueError: A file name is not allowed, or the model is not among the files.
        """
        return cls.model_validate({**description.model_dump(), "files": files})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Reads `manifest.json`; `where` names it in messages.

        Raises:
            IntegrityError: Not JSON, another schema, an unknown, missing or wrong field.
        """
        try:
            value = parse_json(data)
        except ValueError as error:
            raise _refused(where, str(error)) from error
        found = value.get("schema") if isinstance(value, dict) else None
        if found != SCHEMA:
            raise IntegrityError(
                f"'{where}': manifest schema {found!r}, expected {SCHEMA}",
                hint="the bundle is damaged, or a newer edgec made it: upgrade edgec",
            )
        try:
            return cls.model_validate_json(data, strict=True)  # a number in quotes is none
        except ValidationError as error:
            raise _refused(where, _first(error)) from error

    def digests(self, own: str) -> dict[str, str]:
        """SHA-256 of every file that a signature covers, by its path; `own` is that of the manifest's bytes."""
        return {MANIFEST: own} | {name: entry.sha256 for name, entry in self.files.items()}

    def to_bytes(self) -> bytes:
        """Indented JSON with sorted keys: equal manifests give equal bytes."""
        fields = self.model_dump(mode="json", by_alias=True)
        return (json.dumps(fields, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def is_safe_name(name: str) -> bool:
    """Whether a relative path stays inside the bundle on every system: no `..`, no root, no hidden file."""
    return _NAME.fullmatch(name) is not None


def parse_json(data: bytes) -> Any:
    """JSON that every reader reads alike: UTF-8, no key stands twice, every number is one.

    Raises:
        ValueError: It is not such JSON.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys stand once: of two, readers could each take another one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _refused(where: str, reason: str) -> IntegrityError:
    return IntegrityError(f"'{where}': {reason}", hint="the bundle is damaged or was edited: build or copy it again")


def _first(error: ValidationError) -> str:
    """The first of pydantic's findings, as one line."""
    first, others = error.errors(include_url=False)[0], error.error_count() - 1
    field = ".".join(str(part) for part in first["loc"]) or "manifest"
    got = "" if first["type"] in {"missing", "value_error", "json_invalid"} else f", got {reprlib.repr(first['input'])}"
    return f"{field}: {first['msg']}{got}" + (f" (and {others} more)" if others else "")
