"""Golden images: a round trip in equal bytes, nothing unpickled, nothing believed."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import IntegrityError
from edgec.core.inputs import InputSpec
from edgec.package import Golden, golden_bytes, read_golden

INPUTS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
LOGITS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"inputs": INPUTS, "logits": LOGITS} | arrays)
    return buffer.getvalue()


def test_golden_images_survive_writing_and_reading(spec: InputSpec) -> None:
    read = read_golden(golden_bytes(Golden(inputs=INPUTS, logits=LOGITS)), spec, classes=3, where="b")
    np.testing.assert_array_equal(read.inputs, INPUTS)
    np.testing.assert_array_equal(read.logits, LOGITS)


def test_two_writes_give_the_same_bytes_whatever_the_memory_layout() -> None:
    scattered = Golden(inputs=np.asfortranarray(INPUTS), logits=np.asfortranarray(LOGITS))
    assert golden_bytes(scattered) == golden_bytes(Golden(inputs=INPUTS, logits=LOGITS))


def compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=INPUTS, logits=LOGITS)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "golden.npz: unreadable"),
        (b"PK\x03\x04junk", "golden.npz: unreadable"),
        (saved()[:-30], "golden.npz: unreadable"),
        (compressed(), "its arrays are compressed, expected stored"),
        (saved(inputs=np.array([{}], dtype=object)), "Object arrays cannot be loaded when allow_pickle=False"),
        (saved(inputs=INPUTS[:, :2]), r"inputs are uint8 \(2, 2, 5, 3\), expected uint8 \(n, \(4, 5, 3\)\)"),
        (saved(inputs=INPUTS.astype(np.int64)), r"inputs are int64"),
        (saved(inputs=INPUTS[:0], logits=LOGITS[:0]), r"inputs are uint8 \(0, 4, 5, 3\)"),
        (saved(inputs=np.array(1, np.uint8)), r"inputs are uint8 \(\)"),
        (saved(logits=LOGITS[:1]), r"logits are float32 \(1, 3\), expected float32 \(2, 3\)"),
        (saved(logits=LOGITS.astype(np.float64)), "logits are float64"),
        (saved(logits=LOGITS * np.nan), "logits are not finite"),
    ],
)
def test_another_file_is_refused(spec: InputSpec, data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read_golden(data, spec, classes=3, where="b")


def test_a_missing_array_is_refused(spec: InputSpec) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, inputs=INPUTS)
    with pytest.raises(IntegrityError, match="logits"):
        read_golden(buffer.getvalue(), spec, classes=3, where="b")


def with_header(header: bytes) -> bytes:
    """An .npz whose first array begins with this text in place of a header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inputs.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        archive.writestr("logits.npy", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 4, 5, 3)}",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-5,)}",
        b"{'descr': ['a'], 'fortran_order': False, 'shape': (1,)}",
        b"{'descr': '|u1', 'shape': (1,2",
        b"{'descr': '''",
        b"{[]: 1}",
        b"{'descr': '|u1', 1: False, 'shape': (1,)}",
        b"  x\n y",
        b"(" * 5000,
    ],
)
def test_a_header_that_is_none_or_claims_more_than_memory_is_refused(spec: InputSpec, header: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"\A'b': golden.npz: unreadable: [^\n]*\Z"):
        read_golden(with_header(header), spec, classes=3, where="b")


def test_a_zip_of_an_unknown_version_is_refused(spec: InputSpec) -> None:
    data = bytearray(saved())
    data[data.rindex(b"PK\x01\x02") + 6] = 255  # the version needed to read the entry
    with pytest.raises(IntegrityError, match=r"zip file version 25.5"):
        read_golden(bytes(data), spec, classes=3, where="b")
