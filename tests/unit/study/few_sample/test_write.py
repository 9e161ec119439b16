"""A study's files: the page, the CSV, the JSON and the plot say the same."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from edgec.core.files import DRAFT
from edgec.study.few_sample.findings import Findings, Measured
from edgec.study.few_sample.page import notes, render_page
from edgec.study.few_sample.plot import render_plot
from edgec.study.few_sample.table import rows
from edgec.study.few_sample.write import write_study
from edgec.study.spread import Spread
from edgec.study.wording import format_points

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SVG = "{http://www.w3.org/2000/svg}"
Find = Callable[..., Findings]


def page_rows(page: str) -> list[list[str]]:
    """Cells of the first table, its head included."""
    lines = page.split("\n\n")[3].splitlines()
    assert all(line.startswith("| ") for line in lines)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_file_is_there_and_whole(find: Find, tmp_path: Path) -> None:
    write_study(find(), tmp_path / "deep" / "down")
    assert {path.name for path in (tmp_path / "deep" / "down").iterdir()} == {
        *("results.json", "results.csv"),
        *("results.md", "plot.svg"),
    }
    assert not list(tmp_path.rglob(f"*{DRAFT}"))


def test_equal_findings_give_equal_bytes(find: Find, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_study(find(), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_json_holds_every_run_and_the_table(find: Find, tmp_path: Path) -> None:
    findings = find(methods=("cd", "mir"), inapplicable=("cd",), labels=CIFAR10)
    write_study(findings, tmp_path)
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert document["schema"] == 1
    assert len(document["runs"]) == len(findings.outcomes)
    assert len(document["rows"]) == 8
    assert document["grid"]["seeds"] == [0, 1, 2]
    assert document["compress"]["keep_flops"] == 0.2
    cd, mir = ([run for run in document["runs"] if run["method"] == name] for name in ("cd", "mir"))
    assert {run["reason"] for run in cd} == {"needs blocks | or so"}
    assert {*mir[0]} >= {"seed", "accuracy", "class_accuracy", "counts", "kept_flops", "seconds", "where", "images"}
    plain = [run["accuracy"] for run in mir if run["variant"] == "plain"]
    row = next(row for row in document["rows"] if (row["method"], row["variant"]) == ("mir", "plain"))
    assert row["accuracy"]["mean"] == pytest.approx(np.mean(plain))
    assert row["paper"] == {"accuracy": 0.8249, "remark": "", "setting": "VGG-16 on CIFAR-10", "table": 1}


def test_the_csv_has_a_line_for_each_run(find: Find, tmp_path: Path) -> None:
    findings = find(inapplicable=("cd",), without=("all",))
    write_study(findings, tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    assert len(lines) == len(findings.outcomes)
    for line, outcome in zip(lines, findings.outcomes, strict=True):
        assert (line["method"], line["variant"], line["seed"]) == (
            outcome.cell.method,
            outcome.cell.variant.kind,
            str(outcome.seed),
        )
        if isinstance(outcome.result, Measured):
            assert float(line["accuracy"]) == outcome.result.accuracy
            assert line["reason"] == ""
        else:
            assert (line["accuracy"], line["reason"]) == ("", outcome.result.reason)


def test_the_page_begins_with_the_teacher_and_shows_means_and_deviations(find: Find) -> None:
    findings = find()
    head, _, teacher, *body = page_rows(render_page(findings, plot="plot.svg"))
    assert head[:7] == ["method", "variant", "M", "imbalance", "seeds", "top-1", "worst class"]
    assert teacher[:7] == ["teacher", "", "", "", "", "91.7", "83.2"]
    for line, row in zip(body, rows(findings), strict=True):
        spread = row.spreads["accuracy"]
        assert line[:5] == [row.cell.method, row.cell.variant.name, "50", "100", "3"]
        assert line[5] == f"{100 * spread.mean:.1f} ± {100 * (spread.deviation or 0):.1f}"
        assert line[-2:] == ["48.0", "61.2"]


def test_figures_of_the_paper_have_a_column_where_there_are_any(find: Find) -> None:
    assert "published" not in render_page(find(), plot="plot.svg")
    findings = find(labels=CIFAR10)
    head, _, _, *body = page_rows(render_page(findings, plot="plot.svg"))
    assert head[-1] == "published"
    assert [line[-1] for line in body] == ["80.5", "82.8", "", "", "82.5", "83.6", "", ""]
    (note,) = [note for note in notes(findings, rows(findings)) if "arXiv" in note]
    assert note.startswith(
        "published (arXiv 2502.05832, table 1 and 2): VGG-16 on CIFAR-10, each method at the pruning"
    )
    assert "Here: digits_net, 20 % of the multiply-adds, 3 seeds" in note


def test_a_method_that_does_not_apply_says_so_in_one_cell(find: Find) -> None:
    page = render_page(find(methods=("cd",), variants=("plain",), inapplicable=("cd",)), plot="plot.svg")
    assert "| cd | plain | 50 | 100 | 0 | does not apply: needs blocks \\| or so |" in page
    assert "Gain" not in page


def test_the_notes_say_how_unequal_the_samples_were(find: Find) -> None:
    findings = find(samples=(10, 50))
    expected = "few samples of a class: 10 samples at imbalance 100, 1 to 5; 50 samples at imbalance 100, 1 to 25"
    assert expected in list(notes(findings, rows(findings)))


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    # Student's t at four degrees of freedom is 2.776: 2.776 * 0.013 / sqrt(5) = 0.016.
    [(0.142, 0.013, "+14.2 (+12.6 to +15.8)"), (-0.003, None, "−0.3"), (0.0, 0.0, "+0.0 (+0.0 to +0.0)")],
)
def test_points_carry_sign_and_interval(mean: float, deviation: float | None, text: str) -> None:
    assert format_points(Spread(mean=mean, deviation=deviation, n=5)) == text


class TestPlot:
    def test_it_is_a_file_of_its_own(self, find: Find) -> None:
        text = render_plot(find())
        root = ET.fromstring(text)  # noqa: S314  we wrote it
        assert root.tag == f"{SVG}svg"
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")

    def test_every_mean_and_every_seed_has_its_place(self, find: Find) -> None:
        findings = find(methods=("mir",), variants=("ours",), seeds=(0, 1, 2))
        root = ET.fromstring(render_plot(findings))  # noqa: S314
        panel = root.findall(f"{SVG}svg")[0]
        ticks = {
            int(text.text or ""): text.get("x", "")
            for text in panel.findall(f"{SVG}text")
            if "%" in text.get("x", "") and (text.text or "").isdigit()
        }
        lowest = min(ticks)
        seeds = [svg for svg in panel.iter(f"{SVG}svg") if svg.find(f"{SVG}circle[@class='seed circle']") is not None]
        places = sorted(float(svg.get("x", "").rstrip("%")) for svg in seeds)
        shares = sorted(o.result.accuracy for o in findings.outcomes if isinstance(o.result, Measured))
        expected = [100 * (100 * share - lowest) / (100 - lowest) for share in shares]
        assert places == pytest.approx(expected, abs=0.01)  # places are rounded to hundredths

    def test_a_class_that_is_never_right_stays_on_the_axis(self, find: Find) -> None:
        findings = find(methods=("mir",))
        low = Measured.model_validate({**findings.outcomes[0].result.model_dump(), "worst_class_accuracy": 0.0})
        outcomes = tuple(type(o)(cell=o.cell, seed=o.seed, result=low) for o in findings.outcomes)
        text = render_plot(type(findings)(**{**vars(findings), "outcomes": outcomes}))
        assert 'x="-' not in text.replace('x="-8"', "")

    def test_nothing_that_applies_is_still_a_picture(self, find: Find) -> None:
        text = render_plot(find(methods=("cd",), inapplicable=("cd",)))
        assert text.count("does not apply") == 4

    def test_names_are_escaped(self, find: Find) -> None:
        ET.fromstring(render_plot(find(methods=("a<b&c",))))  # noqa: S314
