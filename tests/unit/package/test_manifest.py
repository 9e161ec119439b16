"""The manifest: equal bytes for equal facts, and a reader that believes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from edgec.core.errors import IntegrityError
from edgec.package import Description, FileEntry, Manifest
from edgec.package.manifest import MAX_MANIFEST_BYTES, is_safe_name

WHERE = "b/manifest.json"


@pytest.fixture
def manifest(description: Description) -> Manifest:
    return Manifest.of(description, {"report.json": FileEntry.of(b"{}"), "model.onnx": FileEntry.of(b"model")})


def edited(manifest: Manifest, change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(manifest.to_bytes())
    change(fields)
    return json.dumps(fields).encode()


def test_a_manifest_survives_writing_and_reading(manifest: Manifest) -> None:
    assert Manifest.from_bytes(manifest.to_bytes(), where=WHERE) == manifest


def test_equal_facts_in_another_order_give_equal_bytes(description: Description) -> None:
    one, two = FileEntry.of(b"1"), FileEntry.of(b"2")
    reordered = description.model_copy(update={"tools": dict(reversed(description.tools.items()))})
    first = Manifest.of(description, {"model.onnx": one, "report.json": two}).to_bytes()
    assert first == Manifest.of(reordered, {"report.json": two, "model.onnx": one}).to_bytes()


def test_a_manifest_from_before_releases_counted_is_of_release_0(manifest: Manifest) -> None:
    old = edited(manifest, lambda m: m.pop("release"))
    assert Manifest.from_bytes(old, where=WHERE) == manifest
    assert manifest.release == 0


@pytest.mark.parametrize("release", [-1, 1.0, True, "1", None, 2**53])
def test_a_release_is_a_number_that_counts(manifest: Manifest, release: object) -> None:
    with pytest.raises(IntegrityError, match=r"release: Input should be"):
        Manifest.from_bytes(edited(manifest, lambda m: m.update(release=release)), where=WHERE)


def test_the_schema_is_written_as_schema(manifest: Manifest) -> None:
    assert json.loads(manifest.to_bytes())["schema"] == 1


def test_nothing_in_it_tells_time_host_or_an_absolute_path(manifest: Manifest) -> None:
    strings: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                strings.append(key)
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, str):
            strings.append(value)

    collect(json.loads(manifest.to_bytes()))
    assert not [text for text in strings if text.startswith("/") or "time" in text.replace("runtime", "")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=2), "'b/manifest.json': manifest schema 2, expected 1"),
        (lambda m: m.pop("schema"), "'b/manifest.json': manifest schema None, expected 1"),
        (lambda m: m.update(colour="red"), "'b/manifest.json': colour: Extra inputs are not permitted, got 'red'"),
        (lambda m: m.pop("labels"), "'b/manifest.json': labels: Field required"),
        (lambda m: m["input"].update(height="4"), "input.height: Input should be a valid integer, got '4'"),
        (lambda m: m["model"].update(format="tflite"), "model.format: Input should be 'onnx', got 'tflite'"),
        (lambda m: m["model"].update(scheme="s4"), "model.scheme: Input should be"),
        (lambda m: m["files"]["model.onnx"].update(sha256="12"), "files.model.onnx.sha256: String should match"),
        (lambda m: m["files"]["model.onnx"].update(bytes=-1), "greater than or equal to 0, got -1"),
        (lambda m: m["files"].update({"../x": m["files"]["model.onnx"]}), "file name '../x' is not allowed"),
        (lambda m: m["files"].update({"manifest.json": m["files"]["model.onnx"]}), "'manifest.json' is not allowed"),
        (lambda m: m["files"].pop("model.onnx"), "the model 'model.onnx' is not among the files"),
        (lambda m: m.update(labels=["cat", "cat"]), "label 'cat' stands twice: expected distinct labels"),
        (lambda m: m.update(labels=["cat"]), "labels: Tuple should have at least 2 items"),
        (lambda m: m["input"].update(std=[0, 1, 1]), "expected positive numbers"),
        (lambda m: [m.pop("name"), m.pop("tools")], "name: Field required (and 1 more)"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_in_one_line(
    manifest: Manifest, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(IntegrityError) as caught:
        Manifest.from_bytes(edited(manifest, change), where=WHERE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"{", "not valid JSON"),
        ('{"schema": 1}'.encode("utf-16"), "not valid JSON"),
        (b'\xef\xbb\xbf{"schema": 1}', "not valid JSON: Unexpected UTF-8 BOM"),
        (b"[1]", "manifest schema None"),
        (b'{"schema": 1, "schema": 1}', "a key stands twice in an object"),
        (b'{"schema": NaN}', "NaN is no JSON number"),
        (b'{"schema": ' + b"[" * 100_000, "not valid JSON"),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        Manifest.from_bytes(data, where=WHERE)


def test_facts_nested_without_end_are_refused(manifest: Manifest) -> None:
    deep = b"[" * 600 + b"]" * 600
    data = manifest.to_bytes().replace(b'"recipe": "balanced"', b'"recipe": ' + deep)
    with pytest.raises(IntegrityError):
        Manifest.from_bytes(data, where=WHERE)


def test_a_fact_that_is_no_number_cannot_be_written(description: Description) -> None:
    broken = description.model_copy(update={"data": {"share": float("nan")}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        Manifest.of(broken, {"model.onnx": FileEntry.of(b"")}).to_bytes()


def test_a_manifest_cannot_be_changed(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["model.onnx", "plots/a.svg", "a-b_c+d.1", "A", "a/b/c/d"])
def test_plain_names_are_safe(name: str) -> None:
    assert is_safe_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.b", "C:x", "a\\b", "a\0b"),
        *("a\n", "a b", "é", "a/b/c/d/e", "x" * 101),
    ],
)
def test_names_that_could_lead_outside_are_not_safe(name: str) -> None:
    assert not is_safe_name(name)


def test_as_many_labels_as_a_manifest_can_hold_are_read_in_a_moment(manifest: Manifest) -> None:
    """Compared pair by pair, 400,000 labels would take hours."""
    labels = [f"{number:x}" for number in range(400_000)]
    data = edited(manifest, lambda m: m.update(labels=labels))
    assert len(data) <= MAX_MANIFEST_BYTES * 1.3
    began = time.process_time()
    assert Manifest.from_bytes(data, where=WHERE).labels[-1] == labels[-1]
    assert time.process_time() - began < 10
