"""`sbom.cdx.json`: what the bundle is made of and how well it does by class, as a CycloneDX 1.6 ML-BOM (ECMA-424)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from edgec.core.digest import digest_value
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.package.manifest import Description, FileEntry

__all__ = ["SBOM", "bill_of_materials"]

SBOM = "sbom.cdx.json"
_METRICS = frozenset({"accuracy", "worst_class_accuracy", "macro_f1"})
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "edgec.sbom")


def bill_of_materials(description: Description, model: FileEntry, measurements: Sequence[Measurement]) -> bytes:
    """The bill of a bundle, as JSON.

    It holds no time, and its serial number follows from its contents: equal bundles have equal bills.

    Args:
        description: What the manifest says.
        model: The graph that ships.
        measurements: The report's; of them, those of the graph that ships which say how often it is right.
    """
    content = {
        "metadata": {
            "component": _model(description, model, measurements),
            "tools": {"components": [_named("application", "edgec", description.edgec)]},
        },
        "components": list(_components(description)),
        "dependencies": [{"ref": "model", "dependsOn": [_reference(n, v) for n, v in _runtime(description)]}],
    }
    serial = uuid.uuid5(_NAMESPACE, digest_value(content))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return (json.dumps(head | content, indent=2, ensure_ascii=False) + "\n").encode()


def _model(description: Description, model: FileEntry, measurements: Sequence[Measurement]) -> dict[str, Any]:
    facts = {
        "file": description.model.file,
        "bytes": model.bytes,
        "format": description.model.format,
        "scheme": description.model.scheme.value,
        "opset": description.model.opset,
        "target": description.target.name,
        "target digest": description.target.digest,
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": description.name,
        "version": str(description.release),
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
        "modelCard": _card(description, _shown(measurements)),
        "properties": _properties(facts.items()),
    }


def _shown(measurements: Iterable[Measurement]) -> list[Measurement]:
    return [
        m
        for m in measurements
        if m.stage is Stage.ARTIFACT and m.kind is Kind.MEASURED and m.name in _METRICS and m.unit == "share"
    ]


def _card(description: Description, measurements: Sequence[Measurement]) -> dict[str, Any]:
    spec = description.input
    scaled = "0 to 255" if description.preprocessing_in_graph else "(pixels / 255 - mean) / std"
    images = ((f"images: {_slice(m)}", m.n) for m in measurements if m.name == "accuracy")
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "image classification",
            "datasets": list(_datasets(description)),
            "inputs": [{"format": f"float32 [n, {spec.channels}, {spec.height}, {spec.width}], {scaled}"}],
            "outputs": [{"format": f"float32 [n, {len(description.labels)}], logits"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": [_metric(m) for m in measurements]},
        "properties": _properties(images),
    }


def _metric(measurement: Measurement) -> dict[str, Any]:
    """Values are strings in CycloneDX; the interval is the 95 % one of the report."""
    metric: dict[str, Any] = {
        "type": measurement.name,
        "value": str(measurement.value),
        "slice": _slice(measurement),
    }
    if measurement.low is not None and measurement.high is not None:
        bounds = {"lowerBound": str(measurement.low), "upperBound": str(measurement.high)}
        metric["confidenceInterval"] = bounds
    return metric


def _slice(measurement: Measurement) -> str:
    return "all classes" if measurement.label is None else f"class {measurement.label}"


def _datasets(description: Description) -> Iterator[dict[str, Any]]:
    """The splits that the manifest tells of."""
    splits = description.data.get("splits")
    for split in splits if isinstance(splits, list) else []:
        if not isinstance(split, dict):
            continue
        facts: list[tuple[str, Any]] = [(name, split[name]) for name in ("n", "digest") if name in split]
        counts = split.get("counts")
        if isinstance(counts, list):
            facts += [
                (f"images: class {label}", count) for label, count in zip(description.labels, counts, strict=True)
            ]
        yield {"type": "dataset", "name": str(split.get("name")), "contents": {"properties": _properties(facts)}}


def _components(description: Description) -> Iterator[dict[str, Any]]:
    """What took part. What the device does not need is out of scope: it built the model, and is not in it."""
    needed = dict(_runtime(description))
    for name, version in sorted(description.tools.items()):
        scope = "required" if name in needed else "excluded"
        kind = "application" if name == "edgec" else "platform" if name == "python" else "library"
        yield _named(kind, name, version) | {"bom-ref": _reference(name, version), "scope": scope}


def _runtime(description: Description) -> list[tuple[str, str]]:
    """What runs the model, where it took part in the build."""
    engine = description.runtime.engine
    return [(name, version) for name, version in sorted(description.tools.items()) if name == engine]


def _named(kind: str, name: str, version: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "version": version} | (
        {} if kind == "platform" else {"purl": _reference(name, version)}
    )


def _reference(name: str, version: str) -> str:
    """A package URL; a version's local part (`+cpu`) is percent-encoded there."""
    kind = "generic" if name == "python" else "pypi"
    return f"pkg:{kind}/{name}@{version.replace('+', '%2B')}"


def _properties(facts: Iterable[tuple[str, Any]]) -> list[dict[str, str]]:
    return [{"name": f"edgec:{name}", "value": str(value)} for name, value in facts]
