"""Laws of the reader of graphs: what it lets pass reaches nowhere, whichever of protobuf's parsers reads it.

`benchmarks/graph_fuzz.py` looks for more by coverage; what it kept lies in `tests/corpus/graphs`.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgec.package.foreign import foreign_part

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CORPUS = sorted((Path(__file__).resolve().parents[1] / "corpus" / "graphs").iterdir())
WEIGHTS = numpy_helper.from_array(np.arange(6, dtype=np.float32), "w")
MODEL = helper.make_model(
    helper.make_graph([helper.make_node("Constant", [], ["c"], value=WEIGHTS)], "g", [], [], [WEIGHTS])
).SerializeToString()


@pytest.fixture(scope="module")
def fuzzing() -> Iterator[Any]:
    """`benchmarks/graph_fuzz.py`, for this file alone."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("graph_fuzz")
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("graph_fuzz", "mutants"):
            del sys.modules[name]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name[:8])
def test_what_fuzzing_kept_stays_refused_where_it_reaches_outside(fuzzing: Any, path: Path) -> None:
    fuzzing.fuzz(path.read_bytes())


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 2**16), patch=st.binary(max_size=12))
def test_no_disguise_passes(fuzzing: Any, seed: int, cut: int, patch: bytes) -> None:
    data = fuzzing.hidden(MODEL, random.Random(seed))  # noqa: S311 - repeatable, and no secret
    at = cut % len(data)
    assert foreign_part(data)
    fuzzing.fuzz(data[:at] + patch + data[at + len(patch) :])


@given(at=st.integers(0, len(MODEL) - 1), patch=st.binary(max_size=12), removed=st.integers(0, 12))
def test_no_change_of_a_sound_graph_reaches_outside_unseen(fuzzing: Any, at: int, patch: bytes, removed: int) -> None:
    fuzzing.fuzz(MODEL[:at] + patch + MODEL[at + removed :])


def test_a_sound_graph_passes(fuzzing: Any) -> None:
    """Else the laws would hold of a reader that refuses everything."""
    assert foreign_part(MODEL) is None
    assert fuzzing.reaches_outside(MODEL) is None


def test_protobuf_sees_behind_disguises(fuzzing: Any) -> None:
    """Else the laws would hold of a judge that sees nothing."""
    disguised = [fuzzing.hidden(MODEL, random.Random(seed)) for seed in range(100)]  # noqa: S311
    assert sum(fuzzing.reaches_outside(data) is not None for data in disguised) > 30
