"""The files of an imbalance study, and what is printed: they say the same."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edgec.cli.study_tables import print_imbalance
from edgec.study.imbalance.findings import Findings, Measured
from edgec.study.imbalance.page import render_page
from edgec.study.imbalance.plot import render_plot
from edgec.study.imbalance.table import rows
from edgec.study.imbalance.write import write_study

Find = Callable[..., Findings]
SVG = "{http://www.w3.org/2000/svg}"


def page_rows(page: str) -> list[list[str]]:
    """Cells of the table, its head included."""
    lines = page.split("\n\n")[3].splitlines()
    assert all(line.startswith("| ") for line in lines)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_equal_findings_give_equal_bytes(find: Find, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_study(find(), tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["plot.svg", "results.csv", "results.json", "results.md"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_json_holds_every_run_and_the_table(find: Find, tmp_path: Path) -> None:
    findings = find(inapplicable=("pruned-severe",))
    write_study(findings, tmp_path)
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (document["schema"], document["study"], document["name"]) == (1, "imbalance", "digits")
    assert len(document["runs"]) == len(findings.outcomes)
    assert document["grid"]["training"]["learning_rate"] == 0.1
    refused = [run for run in document["runs"] if run["compression"] == "pruned-severe"]
    assert {run["reason"] for run in refused} == {"needs blocks | or so"}
    for told, row in zip(document["rows"], rows(findings), strict=True):
        assert (told["profile"], told["compression"]) == (row.cell.draw.profile or "balanced", row.cell.compression)
        assert (told["ratio"], told["robust"], told["reason"]) == (row.ratio, row.robust, row.reason)
        assert (told["gap"] and told["gap"]["mean"]) == (row.gap and row.gap.mean)


def test_the_csv_has_a_line_for_each_run(find: Find, tmp_path: Path) -> None:
    findings = find(inapplicable=("a3w3",))
    write_study(findings, tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    assert len(lines) == len(findings.outcomes)
    for line, outcome in zip(lines, findings.outcomes, strict=True):
        assert (line["compression"], line["seed"]) == (outcome.cell.compression, str(outcome.seed))
        assert line["minority"] == str(outcome.cell.draw.minority or "")
        if isinstance(outcome.result, Measured):
            assert float(line["macro_f1"]) == outcome.result.macro_f1
        else:
            assert (line["macro_f1"], line["reason"]) == ("", outcome.result.reason)


def test_the_page_shows_means_gaps_and_verdicts(find: Find) -> None:
    findings = find(harm={"a3w3": 0.4})
    page = render_page(findings, plot="plot.svg")
    head, _, *body = page_rows(page)
    assert head[3:8] == ["macro F1", "gap Δ", "Δ − uncompressed, points", "ratio", "robust"]
    for line, row in zip(body, rows(findings), strict=True):
        assert line[:3] == [row.cell.draw.name, row.cell.compression, "3"]
        score = row.spreads["macro_f1"]
        assert line[3] == f"{100 * score.mean:.1f} ± {100 * (score.deviation or 0):.1f}"
        assert line[7] == (row.robust.value if row.robust else "–")
    assert {line[7] for line in body if line[1] == "a3w3" and line[0] != "balanced"} == {"no"}
    assert "balanced: 98 to 1, 495 in all" in page
    assert "for 200 steps, compressed or not, and trained for as many more" in page


def test_a_compression_that_does_not_apply_says_so_in_one_cell(find: Find) -> None:
    page = render_page(find(inapplicable=("a3w3",)), plot="plot.svg")
    assert "| balanced | a3w3 | 0 | does not apply: needs blocks \\| or so |" in page


def test_the_plot_is_a_file_of_its_own_with_a_mark_for_every_score_and_gap(find: Find) -> None:
    findings = find(inapplicable=("pruned-severe",), imbalance=(100,))
    text = render_plot(findings)
    root = ET.fromstring(text)  # noqa: S314  we wrote it
    assert root.tag == f"{SVG}svg"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count("does not apply") == 3
    shown = [row for row in rows(findings) if row.spreads]
    assert text.count('class="mark') == len(shown) + sum(row.gap is not None for row in shown)
    assert text.count("Gap Δ") == 2  # balanced training has none


def test_a_gap_below_zero_stays_on_the_axis(find: Find) -> None:
    text = render_plot(find(harm=dict.fromkeys(("none", "a3w3", "distilled-a3w3", "pruned-severe"), -0.04)))
    assert 'x="-' not in text.replace('x="-8"', "")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_printed_tables_fit_the_terminal(
    find: Find, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_imbalance(find(inapplicable=("a3w3",)), Path("out"))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= columns
    assert lines[-1] == "out/results.md"
    assert sum(line.startswith("none") for line in lines) == 5
    words = " ".join(lines).split()
    assert ("Mibit" in words) == (columns == 120)
    assert {"ratio", "gap", "distilled-a3w3", "apply:"} <= set(words)
