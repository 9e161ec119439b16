"""What a build says of its own gates, and how it ends; the build itself is tested elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgec.cli.build import command
from edgec.core.errors import GateFailed
from edgec.pipeline.build import Built


@pytest.fixture
def build(make_bundle: Callable[..., Path], make_pets: Callable[..., Path], monkeypatch: Any) -> Callable[..., Result]:
    """Ends a build with a bundle that carries these gates: accuracy 90 %, no measured latency."""
    pets = make_pets()

    def run(*arguments: str, **gates: float) -> Result:
        fields = json.loads((pets / "report.json").read_bytes()) | {"gates": gates or None}
        files = {"report.json": json.dumps(fields).encode(), "predictions.npz": (pets / "predictions.npz").read_bytes()}
        bundle = make_bundle("built", files=files)
        monkeypatch.setattr("edgec.pipeline.build.build", lambda *_, **__: Built(bundle=bundle, seconds=1.0, cached=()))
        return CliRunner(env={"COLUMNS": "120"}).invoke(command, ["--target", "host", *arguments])

    return run


def test_gates_that_block_are_named_before_the_bundle_and_do_not_stop_the_build(build: Callable[..., Result]) -> None:
    result = build(min_accuracy=0.95, max_latency_ms_p50=5)
    assert result.exit_code == 0, result.output
    last = result.stdout.splitlines()
    assert last[-1].endswith("built")
    assert last[-4].startswith("gates: 2 of 2 block this bundle")
    assert last[-3] == "gates: accuracy: 90.0 %, asked ≥ 95.0 %"
    assert last[-2].startswith("gates: latency, median: 0.250 ms, asked ≤ 5.00 ms; predicted for A small board")


@pytest.mark.parametrize(("floor", "passed"), [(0.95, False), (0.85, True)])
def test_json_says_whether_the_gates_let_it_pass(build: Callable[..., Result], floor: float, passed: bool) -> None:
    assert json.loads(build("--json", min_accuracy=floor).stdout)["passed"] is passed


def test_without_gates_nothing_is_said(build: Callable[..., Result]) -> None:
    assert json.loads(build("--json").stdout)["passed"] is None
    assert "gates:" not in build().stdout
    assert build("--fail-on-gates").exit_code == 0


def test_a_gate_that_needs_a_baseline_waits_for_one(build: Callable[..., Result]) -> None:
    assert json.loads(build("--json", min_accuracy=0.5, max_class_regression=0.0).stdout)["passed"] is True


def test_it_exits_3_where_it_is_to_fail_on_gates_after_the_bundle_was_written(build: Callable[..., Result]) -> None:
    result = build("--fail-on-gates", min_accuracy=0.95)
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 3
    assert str(result.exception) == "1 of 1 gates not passed, first: accuracy: 90.0 %, asked ≥ 95.0 %"
    assert result.stdout.splitlines()[-1].endswith("built")
    assert build("--fail-on-gates", min_accuracy=0.85).exit_code == 0
