"""`edgec track` against a real MLflow server with SQLite, and what it makes of names."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.evaluate.report import Report
from edgec.track.mlflow import metrics_of

START_S = 400
"""A first start makes the database, step by step through every version of its schema."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's address; everything that it holds lies below the tests' folder."""
    if find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed: pip install 'edgec[tracking]'")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", str(folder / "files")]
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Its seven workers for jobs that we do not give it would be started before it answers.
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {**os.environ, **off}
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "mlflow", "server", *store, *place]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(timeout=60)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"mlflow ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours
            if answer.status == 200:
                return
        time.sleep(0.5)
    pytest.skip(f"mlflow did not start within {START_S} s")


def told(*arguments: object) -> Any:
    """`edgec track --json` in a process of its own: MLflow leaves threads, files and warnings behind."""
    command = [sys.executable, "-m", "edgec", "track", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def rest(server: str, path: str, **fields: object) -> Any:
    """MLflow's own interface, without its client."""
    data = json.dumps(fields).encode() if fields else None
    request = urllib.request.Request(f"{server}/api/2.0/mlflow/{path}", data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(900)
def test_a_bundle_becomes_one_run_with_numbers_parameters_and_files(digits: Any, server: str) -> None:
    first, _ = told(digits.bundle, "--to", server, "--experiment", "digits")
    assert first["is_new"]
    assert first["url"] == f"{server}/#/experiments/{first['experiment']}/runs/{first['run']}"
    run = rest(server, f"runs/get?run_id={first['run']}")["run"]
    assert run["info"]["status"] == "FINISHED"
    metrics = {row["key"]: row["value"] for row in run["data"]["metrics"]}
    rows = {(m["stage"], m["name"], m["label"], m["kind"]): m for m in digits.report["measurements"]}
    accuracy = rows["artifact", "accuracy", None, "measured"]
    assert metrics["artifact/accuracy"] == accuracy["value"]
    assert metrics["artifact/accuracy.low"] == accuracy["low"]
    assert metrics["artifact/accuracy/7"] == rows["artifact", "accuracy", "7", "measured"]["value"]
    predicted = rows["artifact", "latency_ms_p50", None, "predicted"]["value"]
    assert metrics["artifact/latency_ms_p50.predicted"] == predicted
    elsewhere = rows["artifact", "latency_ms_p50", None, "measured"]["value"]
    assert metrics["artifact/latency_ms_p50.other_machine"] == elsewhere
    assert "artifact/latency_ms_p50" not in metrics
    parameters = {row["key"]: row["value"] for row in run["data"]["params"]}
    assert parameters["target"] == digits.manifest["target"]["name"]
    assert parameters["calibrate.recipe"] == "balanced"
    files = rest(server, f"artifacts/list?run_id={first['run']}&path=bundle")["files"]
    assert {file["path"].removeprefix("bundle/") for file in files} >= {"manifest.json", *digits.manifest["files"]}

    again, note = told(digits.archive, "--to", server, "--experiment", "digits")
    assert (again["run"], again["is_new"]) == (first["run"], False)
    assert "had been tracked before" in note
    rest(server, "runs/update", run_id=first["run"], status="FAILED")
    resumed, _ = told(digits.archive, "--to", server, "--experiment", "digits")
    assert (resumed["run"], resumed["is_new"]) == (first["run"], True)
    history = rest(server, f"metrics/get-history?run_id={first['run']}&metric_key=artifact/accuracy")["metrics"]
    assert len(history) == 1
    assert len(rest(server, "runs/search", experiment_ids=[first["experiment"]])["runs"]) == 1


def test_a_server_that_is_not_there_is_told_at_once(digits: Any, edgec: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        started = time.monotonic()
        outcome = edgec("track", digits.bundle, "--to", address)
    error, hint = outcome.failure
    assert (outcome.exit_code, hint) == (5, "check the address and port")
    assert error.startswith(f"cannot reach MLflow at '{address}'")
    assert time.monotonic() - started < 60


def row(name: str, label: str | None = None, **more: object) -> Measurement:
    fields = {"stage": Stage.ARTIFACT, "value": 0.5, "unit": "share", "n": 9, "where": "here"} | more
    return Measurement(name=name, label=label, **fields)


def test_names_of_classes_stay_apart_and_are_legal() -> None:
    labels = ("a/b", "a b", "A_B", "../..", "Käfer: groß", "", "x" * 300, "x" * 299)
    rows = [row("accuracy", label, value=i / 10) for i, label in enumerate(labels)]
    report = Report(title="t", target="t", target_title="t", labels=labels, measurements=tuple(rows))
    names = metrics_of(report)
    assert list(names.values()) == [i / 10 for i in range(len(labels))]
    assert all(re.fullmatch(r"artifact/accuracy/[\w-]+", name, re.ASCII) and len(name) <= 250 for name in names)
    assert len({name.lower() for name in names}) == len(labels)


def test_predicted_and_measured_numbers_have_names_of_their_own() -> None:
    rows = (
        row("latency_ms_p50", value=3.0, kind=Kind.PREDICTED),
        row("latency_ms_p50", value=2.0, low=1.5, high=2.5),
        row("accuracy", "cat", low=0.1, high=0.9),
    )
    report = Report(title="t", target="t", target_title="t", labels=("cat", "dog"), measurements=rows)
    assert metrics_of(report) == {
        "artifact/latency_ms_p50.predicted": 3.0,
        "artifact/latency_ms_p50": 2.0,
        "artifact/latency_ms_p50.low": 1.5,
        "artifact/latency_ms_p50.high": 2.5,
        "artifact/accuracy/cat": 0.5,
    }


def test_what_another_machine_measured_never_has_the_name_of_what_the_target_did() -> None:
    rows = (
        row("latency_ms_p95", value=2.0, low=1.5, high=2.5, machine=Machine.OTHER),
        row("peak_memory_mb", value=90.0, machine=Machine.OTHER),
        row("latency_ms_p50", value=3.0, machine=Machine.TARGET),
    )
    report = Report(title="t", target="t", target_title="t", labels=("cat", "dog"), measurements=rows)
    assert metrics_of(report) == {
        "artifact/latency_ms_p95.other_machine": 2.0,
        "artifact/latency_ms_p95.other_machine.low": 1.5,
        "artifact/latency_ms_p95.other_machine.high": 2.5,
        "artifact/peak_memory_mb.other_machine": 90.0,
        "artifact/latency_ms_p50": 3.0,
    }
