"""The files of a long-tail study, and what is printed: they say the same."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edgec.cli.study_tables import print_long_tail
from edgec.study.long_tail.findings import Findings, Measured
from edgec.study.long_tail.page import render_page
from edgec.study.long_tail.plot import render_plot
from edgec.study.long_tail.table import gains, rows
from edgec.study.long_tail.write import write_study

Find = Callable[..., Findings]
SVG = "{http://www.w3.org/2000/svg}"


def test_equal_findings_give_equal_bytes(find: Find, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_study(find(), tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["plot.svg", "results.csv", "results.json", "results.md"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_json_holds_every_run_the_table_with_intervals_and_the_paper(find: Find, tmp_path: Path) -> None:
    findings = find(inapplicable=("dkd",), data=("whole", "few"))
    write_study(findings, tmp_path)
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (document["schema"], document["study"], document["name"]) == (1, "long-tail", "digits")
    assert len(document["runs"]) == len(findings.outcomes)
    assert {run["reason"] for run in document["runs"] if run["loss"] == "dkd"} == {"needs a head | or so"}
    for told, row in zip(document["rows"], rows(findings), strict=True):
        assert (told["data"], told["loss"], told["adjusted"]) == (row.cell.data, row.cell.loss, row.cell.adjusted)
        if row.spreads:
            tail = row.spreads["tail_accuracy"]
            assert told["tail_accuracy"]["mean"] == tail.mean
            assert tuple(told["tail_accuracy"]["interval"]) == tail.interval
    assert len(document["gains"]) == len(gains(findings))
    assert {row["loss"] for row in document["paper"]["rows"]} >= {"KD", "DKD", "DIST", "LTKD"}


def test_the_csv_has_a_line_for_each_run(find: Find, tmp_path: Path) -> None:
    findings = find(inapplicable=("kd",))
    write_study(findings, tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    for line, outcome in zip(lines, findings.outcomes, strict=True):
        assert (line["loss"], line["adjusted"], line["seed"]) == (
            *(outcome.cell.loss, outcome.cell.adjusted),
            str(outcome.seed),
        )
        if isinstance(outcome.result, Measured):
            assert float(line["tail_accuracy"]) == outcome.result.tail_accuracy
        else:
            assert (line["tail_accuracy"], line["reason"]) == ("", outcome.result.reason)


def test_the_page_shows_a_table_for_each_group_and_the_paper_s_apart(find: Find) -> None:
    page = render_page(find(imbalance=(10, 100), inapplicable=("dist",)), plot="plot.svg")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        *("## digits\\_net/digits\\_net, imbalance 10", "## digits\\_net/digits\\_net, imbalance 100"),
        *("## In the paper", "## Notes"),
    ]
    assert page.count("| dist | nothing | 0 | does not apply: needs a head \\| or so |") == 2
    assert "| ResNet-34 to ResNet-18 | LTKD | 58.33 | 67.23 | 52.55 | 64.29 | 45.88 | 60.80 |" in page
    assert "imbalance 10: 98 to 2, 274 in all" in page
    assert "So gains may be compared, levels may not" in page


def test_the_plot_is_a_file_of_its_own_with_a_mark_for_every_figure(find: Find) -> None:
    findings = find(inapplicable=("dkd",))
    text = render_plot(findings)
    assert ET.fromstring(text).tag == f"{SVG}svg"  # noqa: S314  we wrote it
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count("does not apply") == 3
    assert text.count('class="mark') == 2 * len([row for row in rows(findings) if row.spreads])


def test_long_names_do_not_run_into_the_panels(find: Find) -> None:
    assert ">digits_net/digits_net, ρ = 10<" in render_plot(find(imbalance=(10,), seeds=(0,)))
    assert ">digits_net/digits…, ρ = 12.3457<" in render_plot(find(imbalance=(12.345678,), seeds=(0,)))


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_printed_tables_fit_the_terminal(
    find: Find, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_long_tail(find(inapplicable=("dkd",), data=("whole", "few")), Path("out"))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(len(line) for line in lines if " points top-1" not in line) <= columns  # these wrap on a terminal
    assert lines[-1] == "out/results.md"
    words = " ".join(lines).split()
    assert ("medium" in words) == (columns == 120)
    assert {"teacher", "ltkd-alone", "features", "apply:", "tail", "worst"} <= set(words)
    assert [line.partition(":")[0] for line in lines if " points top-1" in line] == [
        *("ltkd over kd", "ltkd over dist") * 2,
    ]
