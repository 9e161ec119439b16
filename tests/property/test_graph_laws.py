"""Laws of the reader of graphs: what it lets pass reaches nowhere, whichever of protobuf's parsers reads it.

`benchmarks/graph.py` looks for more by coverage; what it kept lies in `tests/corpus/graphs`.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgec.package.foreign import foreign_part
from fuzz import graph

CORPUS = sorted((Path(__file__).resolve().parents[1] / "corpus" / "graphs").iterdir())
WEIGHTS = numpy_helper.from_array(np.arange(6, dtype=np.float32), "w")
MODEL = helper.make_model(
    helper.make_graph([helper.make_node("Constant", [], ["c"], value=WEIGHTS)], "g", [], [], [WEIGHTS])
).SerializeToString()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name[:8])
def test_what_fuzzing_kept_stays_refused_where_it_reaches_outside(path: Path) -> None:
    graph.check(path.read_bytes())


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 2**16), patch=st.binary(max_size=12))
def test_no_disguise_passes(seed: int, cut: int, patch: bytes) -> None:
    data = graph.hidden(MODEL, random.Random(seed))  # noqa: S311 - repeatable, and no secret
    at = cut % len(data)
    assert foreign_part(data)
    graph.check(data[:at] + patch + data[at + len(patch) :])


@given(at=st.integers(0, len(MODEL) - 1), patch=st.binary(max_size=12), removed=st.integers(0, 12))
def test_no_change_of_a_sound_graph_reaches_outside_unseen(at: int, patch: bytes, removed: int) -> None:
    graph.check(MODEL[:at] + patch + MODEL[at + removed :])


def test_a_sound_graph_passes() -> None:
    """Else the laws would hold of a reader that refuses everything."""
    assert foreign_part(MODEL) is None
    assert graph.reaches_outside(MODEL) is None


def test_protobuf_sees_behind_disguises() -> None:
    """Else the laws would hold of a judge that sees nothing."""
    disguised = [graph.hidden(MODEL, random.Random(seed)) for seed in range(100)]  # noqa: S311
    assert sum(graph.reaches_outside(data) is not None for data in disguised) > 30
