"""Timing graphs for another machine: one answer a graph, and a word about what is no graph."""

from __future__ import annotations

import io
import json
from typing import Any

import onnxruntime
import pytest
from pydantic import ValidationError

from edgec.core.errors import TransportError
from edgec.core.host import describe_host
from edgec.core.target import Scheme, Target, load_target
from edgec.latency.fit.probes import Probe, probe_graph
from edgec.runtime.timing import Order, Timing, median_ms, serve_timings

GRAPH = probe_graph(Probe(step="Conv", channels=8, size=8, kernel=3), Scheme.FLOAT32).SerializeToString()
OTHER = probe_graph(Probe(step="Conv", channels=8, size=4, kernel=1), Scheme.FLOAT32).SerializeToString()


def order(number: int, graph: bytes = b"", *, size: int | None = None) -> bytes:
    """The line that asks for a time, and the graph behind it."""
    asked = Order.model_construct(number=number, size=len(graph) if size is None else size, spill_mb=1)
    return asked.model_dump_json().encode() + b"\n" + graph


def lines(*orders: bytes) -> list[dict[str, Any]]:
    """What is answered to these orders."""
    writer = io.BytesIO()
    serve_timings(io.BytesIO(b"".join(orders)), writer, threads=1, seconds=0)
    return [json.loads(line) for line in writer.getvalue().splitlines()]


def test_the_machine_is_told_and_then_a_time_for_each_graph() -> None:
    machine, *times = lines(order(0, GRAPH), order(1, OTHER))
    assert machine["where"] == describe_host()
    assert Target.model_validate(machine["target"]) == load_target("host")
    assert [set(time) for time in times] == [{"ms"}] * 2
    assert all(0 < time["ms"] < 1000 for time in times)


def test_a_graph_that_has_come_is_timed_again_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[bytes] = []
    monkeypatch.setattr("edgec.runtime.timing.median_ms", lambda model, **_: timed.append(model) or 1.0)
    lines(order(0, GRAPH), order(1, OTHER), order(0), order(1))
    assert timed == [GRAPH, OTHER, GRAPH, OTHER]


def test_a_graph_that_does_not_run_is_told_and_the_next_one_timed() -> None:
    _, failed, timed = lines(order(0, b"no graph"), order(1, OTHER))
    assert "no graph" not in failed["error"]
    assert set(failed) == {"error"}
    assert set(timed) == {"ms"}


@pytest.mark.parametrize("line", ["{}", '{"ms": 1.0, "error": "too hot"}', '{"ms": 0}'])
def test_an_answer_is_a_time_or_an_error(line: str) -> None:
    with pytest.raises(ValidationError):
        Timing.model_validate_json(line)


def test_a_graph_that_is_cut_off_is_not_timed() -> None:
    assert len(lines(order(0, GRAPH), order(1, OTHER)[:-1])) == 2


@pytest.mark.parametrize("junk", [b"hello\n", b"{}\n", order(-1), order(0, size=99_999_999_999)])
def test_what_is_no_order_is_told(junk: bytes) -> None:
    with pytest.raises(TransportError, match="expected the order to time a graph") as caught:
        lines(junk)
    assert caught.value.hint == "same edgec on both sides?"


@pytest.mark.parametrize(("asked", "number"), [(order(1), 1), (order(3, OTHER), 3), (order(0, OTHER), 0)])
def test_numbers_follow_one_another(asked: bytes, number: int) -> None:
    with pytest.raises(TransportError, match=f"order for graph {number}, where 1 have come"):
        lines(order(0, GRAPH), asked)


def test_seven_runs_on_so_many_threads_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    class Counting(onnxruntime.InferenceSession):
        def run(self, *arguments: Any, **options: Any) -> Any:
            runs.append(self.get_session_options().intra_op_num_threads)
            return super().run(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counting)
    median_ms(GRAPH, providers=["CPUExecutionProvider"], threads=2, seconds=0, spill_mb=0)
    assert runs == [2] * 7
