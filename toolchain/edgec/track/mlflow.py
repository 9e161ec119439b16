"""A finished bundle as a run in MLflow: every number, what it was made with, and the bundle itself."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgec.core.errors import MissingDependencyError, TransportError
from edgec.core.measurement import Kind, Machine, Measurement
from edgec.evaluate.report import Report
from edgec.package import Manifest, open_bundle
from edgec.pipeline.check import read_evidence

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Tracked", "metrics_of", "parameters_of", "track_bundle"]

_DIGEST = "edgec.digest"
_MOST_AT_ONCE = {"metrics": 1000, "params": 100}
"""MLflow's limits on one request."""
_MOST_CHARACTERS = 500
"""Of a parameter's value; the least that any MLflow 2 or 3 takes."""
_LONGEST = 200
"""Characters of a class's name that a metric's name keeps; MLflow ends at 250."""
_PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where a bundle's run is.

    Attributes:
        run: Its id.
        experiment: Its experiment's id.
        url: Its page; None where the store is no server.
        is_new: False where the bundle had been tracked before, and nothing was written.
    """

    run: str
    experiment: str
    url: str | None
    is_new: bool


def track_bundle(path: Path, *, to: str, experiment: str) -> Tracked:
    """Writes a run with metrics, parameters and the bundle, once for a bundle: its digest tells whether it is there.

    A run that was cut off is written again from the start, into the same run.

    Args:
        path: A bundle, folder or archive; every file is compared with the manifest first.
        to: MLflow's tracking URI, `http://host:5000` or `sqlite:///mlflow.db`.
        experiment: A name; made where there is none.

    Raises:
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: It is damaged or was edited.
        MissingDependencyError: MLflow is not installed.
        TransportError: The server cannot be reached, or refuses.
    """
    bundle = open_bundle(path)
    bundle.verify()
    report = read_evidence(path).report
    _require_reachable(to)
    client, refused = _client(to)
    try:
        place = _experiment_id(client, experiment)
        run = _run_of(client, place, bundle.digest) or client.create_run(
            place, run_name=bundle.manifest.name, tags={_DIGEST: bundle.digest}
        )
        is_new = run.info.status != "FINISHED"
        if is_new:
            _write(client, run, path, metrics=metrics_of(report), parameters=parameters_of(bundle.manifest, report))
    except refused as error:
        reason = " ".join(str(error).split())
        raise TransportError(f"MLflow at '{to}' refused: {reason}", hint="read the server's log") from error
    return Tracked(run=run.info.run_id, experiment=place, url=_url(to, place, run.info.run_id), is_new=is_new)


def metrics_of(report: Report) -> dict[str, float]:
    """Every measurement: `artifact/accuracy`, by class `artifact/accuracy/cat`, of the whole with `.low` and `.high`.

    Characters that MLflow does not take in a class's name become `_`; names that this makes equal are numbered. A
    predicted number's name ends in `.predicted`, that of a speed, memory or energy of another machine than the target
    in `.other_machine`.
    """
    classes = _legal(report.labels)
    found: dict[str, float] = {}
    for row in report.measurements:
        name = _metric_name(row, classes)
        found.setdefault(name, row.value)
        if row.label is None:
            ends = {f"{name}.low": row.low, f"{name}.high": row.high}
            found |= {end: value for end, value in ends.items() if value is not None and end not in found}
    return found


def _metric_name(row: Measurement, classes: Mapping[str, str]) -> str:
    parts = [row.stage.value, row.name, *([classes[row.label]] if row.label is not None else [])]
    predicted = ".predicted" if row.kind is Kind.PREDICTED else ""
    return "/".join(parts) + predicted + (".other_machine" if row.machine is Machine.OTHER else "")


def _legal(labels: Iterable[str]) -> dict[str, str]:
    """Each class's name as a part of a metric's name: no two alike, also where a store tells no case apart."""
    legal: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        base = name = re.sub(r"[^A-Za-z0-9_-]", "_", label)[:_LONGEST] or "_"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.lower())
        legal[label] = name
    return legal


def parameters_of(manifest: Manifest, report: Report) -> dict[str, str]:
    """Target, number format, engine and whatever the stages tell that is one value."""
    chosen = {
        "name": manifest.name,
        "target": manifest.target.name,
        "scheme": manifest.model.scheme.value,
        "opset": manifest.model.opset,
        "engine": manifest.runtime.engine,
        **{f"tool.{name}": version for name, version in report.tools.items()},
    }
    facts: dict[str, Any] = {f"calibrate.{name}": fact for name, fact in manifest.calibration.items()}
    for step in report.lineage:
        facts |= {f"{step.name}.config": step.config} | {
            f"{step.name}.{name}": fact for name, fact in step.facts.items()
        }
    single = {name: fact for name, fact in facts.items() if isinstance(fact, str | int | float)}
    return {name: str(value)[:_MOST_CHARACTERS] for name, value in {**single, **chosen}.items()}


def _client(to: str) -> tuple[MlflowClient, type[Exception]]:
    """MLflow's client, and what it raises."""
    # MLflow reports its use to its makers unless it is told not to, and prints addresses among our output.
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        os.environ.setdefault(name, "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise MissingDependencyError("MLflow is not installed", hint="pip install 'edgec[tracking]'") from error
    return MlflowClient(tracking_uri=to), MlflowException


def _require_reachable(to: str) -> None:
    """Fails at once where no server listens: MLflow's client would try for minutes."""
    parts = urlsplit(to)
    if parts.scheme not in ("http", "https"):
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise TransportError(f"cannot reach MLflow at '{to}': {reason}", hint="check the address and port") from error


def _experiment_id(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name)
    if found.lifecycle_stage != "active":
        raise TransportError(
            f"MLflow's experiment '{name}' was deleted", hint="restore it, or name another: --experiment"
        )
    return found.experiment_id


def _run_of(client: MlflowClient, experiment: str, digest: str) -> Run | None:
    """The bundle's run, a finished one first."""
    runs = client.search_runs([experiment], f"tags.`{_DIGEST}` = '{digest}'")
    return min(runs, key=lambda run: run.info.status != "FINISHED", default=None)


def _write(
    client: MlflowClient, run: Run, bundle: Path, *, metrics: Mapping[str, float], parameters: Mapping[str, str]
) -> None:
    """Writes all of it and ends the run; with the run's start as their time, metrics written twice stand there once."""
    from mlflow.entities import Metric, Param

    run_id, start = run.info.run_id, run.info.start_time
    rows = (Metric(name, value, start, 0) for name, value in metrics.items())
    for part in _parts(rows, _MOST_AT_ONCE["metrics"]):
        client.log_batch(run_id, metrics=part)
    for part in _parts((Param(name, value) for name, value in parameters.items()), _MOST_AT_ONCE["params"]):
        client.log_batch(run_id, params=part)
    store = client.log_artifacts if bundle.is_dir() else client.log_artifact
    store(run_id, str(bundle), "bundle")
    client.set_terminated(run_id)


def _parts(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while part := list(islice(items, size)):
        yield part


def _url(to: str, experiment: str, run: str) -> str | None:
    is_server = urlsplit(to).scheme in ("http", "https")
    return f"{to.rstrip('/')}/#/experiments/{experiment}/runs/{run}" if is_server else None
