"""Timing graphs for another machine: one answer a graph, and a word about what is no graph."""

from __future__ import annotations

import io
import json
from typing import Any

import onnxruntime
import pytest

from edgec.core.errors import TransportError
from edgec.core.host import describe_host
from edgec.core.target import Scheme, Target, load_target
from edgec.evaluate.probes import Probe, probe_graph
from edgec.runtime.timing import median_ms, serve_timings

GRAPH = probe_graph(Probe(step="Conv", channels=8, size=8, kernel=3), Scheme.FLOAT32).SerializeToString()


def lines(*graphs: bytes, after: bytes = b"") -> list[dict[str, Any]]:
    """What is answered to these graphs."""
    writer = io.BytesIO()
    sent = b"".join(b"%d\n%b" % (len(graph), graph) for graph in graphs)
    serve_timings(io.BytesIO(sent + after), writer, threads=1, seconds=0)
    return [json.loads(line) for line in writer.getvalue().splitlines()]


def test_the_machine_is_told_and_then_a_time_for_each_graph() -> None:
    machine, *times = lines(GRAPH, GRAPH)
    assert machine["where"] == describe_host()
    assert Target.model_validate(machine["target"]) == load_target("host")
    assert [set(time) for time in times] == [{"ms"}] * 2
    assert all(0 < time["ms"] < 1000 for time in times)


def test_a_graph_that_is_cut_off_is_not_timed() -> None:
    assert len(lines(GRAPH, after=b"%d\n%b" % (len(GRAPH), GRAPH[:-1]))) == 2


@pytest.mark.parametrize("junk", [b"hello\n", b"-1\n", b"99999999999\n"])
def test_what_is_no_graph_is_told(junk: bytes) -> None:
    with pytest.raises(TransportError, match="expected the size of a graph") as caught:
        lines(after=junk)
    assert caught.value.hint == "same edgec on both sides?"


def test_seven_runs_on_so_many_threads_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    class Counting(onnxruntime.InferenceSession):
        def run(self, *arguments: Any, **options: Any) -> Any:
            runs.append(self.get_session_options().intra_op_num_threads)
            return super().run(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counting)
    median_ms(GRAPH, providers=["CPUExecutionProvider"], threads=2, seconds=0)
    assert runs == [2] * 7
