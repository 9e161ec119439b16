"""The notebook that we ship: it runs from top to bottom, and shows the classes and the report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "python.ipynb"


@pytest.fixture
def written() -> Any:
    nbformat = pytest.importorskip("nbformat", reason="the notebook's tools are not installed")
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs(written: Any) -> None:
    assert [cell.outputs for cell in written.cells if cell.cell_type == "code" and cell.outputs] == []


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")  # jupyter_client's own: nothing of ours runs in this process
def test_it_runs_and_shows_the_classes_and_the_report(written: Any, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the notebook's tools are not installed")
    pytest.importorskip("ipykernel", reason="the notebook's tools are not installed")
    nbclient.NotebookClient(written, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.data["text/html"]
        for cell in written.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    classes, gates, page = shown
    rows = re.findall(r"<tr><td>(\d)</td><td>(\d+)</td><td>\d+</td><td>[\d.]+ %</td><td>[\d.]+ %</td></tr>", classes)
    assert sorted(label for label, _ in rows) == list("0123456789")
    assert sum(int(train) for _, train in rows) == 50
    assert "<td>min_accuracy</td>" in gates
    assert page.startswith("<iframe ")
    assert "&lt;!DOCTYPE html&gt;" in page
