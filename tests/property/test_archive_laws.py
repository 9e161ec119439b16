"""Laws of archives: whatever is packed comes back, and no change of a byte goes unnoticed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.errors import DataError, EdgecError, IntegrityError
from edgec.core.inputs import InputSpec
from edgec.core.target import Scheme
from edgec.package import (
    Description,
    Golden,
    ModelEntry,
    OutputEntry,
    RuntimeEntry,
    TargetEntry,
    golden_bytes,
    open_bundle,
    pack_bundle,
    read_golden,
    write_archive,
)

SPEC = InputSpec(height=2, width=2)
MODEL = b"\x08\x0a"
"""The least that is ONNX: a version, and no graph."""
DESCRIPTION = Description(
    name="laws",
    target=TargetEntry(name="host", title="This machine", digest="0" * 64),
    labels=("a", "b"),
    input=SPEC,
    output=OutputEntry(name="logits"),
    model=ModelEntry(scheme=Scheme.U8S8, opset=17),
    runtime=RuntimeEntry(engine="onnxruntime"),
    tools={"python": "3.10"},
)
NAMES = st.from_regex(r"[a-z0-9_][A-Za-z0-9._+-]{0,20}", fullmatch=True).filter(lambda name: name != "manifest.json")
FILES = st.dictionaries(NAMES, st.binary(max_size=200), max_size=5).map(lambda files: {"model.onnx": MODEL, **files})


def packed(files: dict[str, bytes], folder: Path) -> tuple[Path, Path]:
    bundle = pack_bundle(description=DESCRIPTION, files=dict(files), output=folder / "b")
    return bundle, write_archive(bundle, folder / "b.edgec")


@settings(max_examples=25, deadline=None)
@given(files=FILES)
def test_whatever_is_packed_comes_back_from_folder_and_archive(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in packed(files, Path(folder)):
            bundle = open_bundle(path)
            bundle.verify()
            assert {name: bundle.read_bytes(name) for name in bundle.manifest.files} == files


ONE_LINE = r"\A[^\n]+\Z"
ARCHIVE_FILES = {"model.onnx": MODEL, "all.bytes": bytes(range(256)), "report.json": b"{}"}
with tempfile.TemporaryDirectory() as _folder:
    ARCHIVE = packed(ARCHIVE_FILES, Path(_folder))[1].read_bytes()


def unpacked(data: bytes) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.edgec"
        path.write_bytes(data)
        bundle = open_bundle(path)
        bundle.verify()
        assert bundle.manifest.labels == DESCRIPTION.labels
        return {name: bundle.read_bytes(name) for name in bundle.manifest.files}


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(ARCHIVE) - 1), change=st.integers(1, 255))
def test_a_changed_byte_is_refused(position: int, change: int) -> None:
    """Wherever it stands: times and attributes that nobody reads are fixed, and the manifest has the zip's checksum."""
    data = bytearray(ARCHIVE)
    data[position] ^= change
    with pytest.raises((IntegrityError, DataError), match=ONE_LINE):
        unpacked(bytes(data))


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, len(ARCHIVE) - 1))
def test_a_cut_archive_is_refused(length: int) -> None:
    with pytest.raises(EdgecError, match=ONE_LINE):
        unpacked(ARCHIVE[:length])


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", ARCHIVE[:200]]))
def test_noise_is_refused_as_a_bundle(data: bytes, prefix: bytes) -> None:
    with pytest.raises(EdgecError, match=ONE_LINE):
        unpacked(prefix + data)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00"]))
def test_noise_is_refused_as_golden_images(data: bytes, prefix: bytes) -> None:
    with pytest.raises(IntegrityError, match=ONE_LINE):
        read_golden(prefix + data, SPEC, classes=2, where="noise")


GOLDEN = golden_bytes(Golden(inputs=np.ones((1, 2, 2, 3), np.uint8), logits=np.ones((1, 2), np.float32)))


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(GOLDEN) - 1), change=st.integers(1, 255))
def test_changed_golden_images_are_read_or_refused(position: int, change: int) -> None:
    data = bytearray(GOLDEN)
    data[position] ^= change
    try:
        assert read_golden(bytes(data), SPEC, classes=2, where="b").inputs.shape == (1, 2, 2, 3)
    except IntegrityError:
        return
