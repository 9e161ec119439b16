"""The report page: complete, escaped, self-contained, and quiet in a real browser."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgec.core.errors import MissingDependencyError
from edgec.core.measurement import Stage
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.gates import check_gates
from edgec.evaluate.report import Report
from edgec.render import view
from edgec.render.page import render_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "link", "br", "img", "input"}
SVG_LEAVES = {"path", "circle", "line", "rect"}


class Outline(HTMLParser):
    """Checks that tags are nested, and gathers text, ids and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAVES
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.text += f" {data}"


@pytest.fixture(
    scope="module", params=["ten_classes", "ten_classes_by_layer", "hundred_classes", "hundred_classes_by_layer"]
)
def report(request: pytest.FixtureRequest) -> Report:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    gates = Gates(min_accuracy=0.5, min_worst_class_accuracy=0.99, max_class_drop=0.3, max_latency_ms_p50=5)
    return render_report(report, gates=check_gates(report, gates))


def test_the_page_is_well_formed_and_its_ids_are_distinct(page: str) -> None:
    outline = Outline(page)
    assert len(set(outline.ids)) == len(outline.ids)
    targets = {value[1:] for _, name, value in outline.attributes if name == "href" and value.startswith("#")}
    assert targets <= set(outline.ids)
    labelled = {value for _, name, value in outline.attributes if name == "aria-labelledby"}
    assert labelled <= set(outline.ids)


def test_the_page_asks_nothing_of_the_network(page: str) -> None:
    links = [value for _, name, value in Outline(page).attributes if name in {"href", "src", "srcset", "action"}]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not re.search(r"url\(|@import|<script |<iframe|fetch\(|import\(", page)
    assert "default-src 'none'" in page


def test_the_policy_of_the_page_lets_its_own_script_run_and_no_other(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall(r"script-src 'sha256-([^']+)'", page) == digests


def test_every_class_stands_in_plot_and_table(report: Report, page: str) -> None:
    for label in report.labels:
        assert len(re.findall(f'<th scope="row"[^>]*>{label}</th>', page)) >= 2
        assert f'aria-label="{label}: Teacher ' in page


def test_the_headline_shows_what_the_report_says(report: Report, page: str) -> None:
    text = Outline(page).text
    accuracy = report.find(Stage.ARTIFACT, "accuracy")
    assert accuracy is not None
    assert f"{100 * accuracy.value:.1f} %" in text
    assert f"Worst class: {report.worst_class(Stage.ARTIFACT)}" in text
    assert re.search(r"Fails \d+ of \d+ checks", text)


def test_a_predicted_latency_is_marked_in_the_headline_and_in_its_table(ten_classes: Report) -> None:
    page = render_report(ten_classes, gates=None)
    # In the headline, in the plot, in the table.
    assert page.count('<span class="tag predicted">predicted</span>') == 3
    assert page.count('<span class="tag measured">measured</span>') == 4
    assert "They are no measurement" in page


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [
        (Gates(min_accuracy=0.5), "Passes its one check"),
        (Gates(min_accuracy=0.5, min_macro_f1=0.5), "Passes all 2 checks"),
        (Gates(min_accuracy=0.5, max_latency_ms_p50=5), "1 of 2 checks inconclusive"),
        (Gates(min_accuracy=0.99, max_latency_ms_p50=5), "Fails 1 of 2 checks, 1 inconclusive"),
        (Gates(), "No gates were set"),
    ],
)
def test_the_verdict_stands_first(ten_classes: Report, gates: Gates, verdict: str) -> None:
    text = " ".join(Outline(render_report(ten_classes, gates=check_gates(ten_classes, gates))).text.split())
    assert verdict in text
    assert text.index(verdict) < text.index("Accuracy")


def test_names_from_users_are_escaped(ten_classes: Report) -> None:
    evil = "<script>alert('x')</script>\"&"
    page = render_report(ten_classes.model_copy(update={"title": evil, "notes": (evil,)}), gates=None)
    assert page.count("<script") == 1  # the page's own
    assert Outline(page).text.count(evil) == 3


def test_a_page_turns_no_text_round_and_hides_none(ten_classes: Report) -> None:
    evil = "a\x1b[2J\x9b\u202egnp\ufffe\x00"
    page = render_report(ten_classes.model_copy(update={"title": evil, "notes": (evil,)}), gates=None)
    assert Outline(page).text.count("a\ufffd[2J\ufffd\ufffdgnp\ufffd\ufffd") == 3


def test_a_report_with_accuracies_alone_has_no_empty_sections(hundred_classes: Report) -> None:
    page = render_report(
        hundred_classes.model_copy(update={"calibration": None, "confusion": {}, "reliability": {}}), gates=None
    )
    assert [name for name in Outline(page).ids if name.endswith("-title")] == ["stages-title", "classes-title"]


def test_a_report_without_any_row_still_renders() -> None:
    bare = Report(title="t", target="host", target_title="This machine", labels=("a", "b"), measurements=())
    assert "a: no test images" in render_report(bare, gates=None)


def test_classes_stand_in_the_order_of_their_training_counts(ten_classes: Report) -> None:
    counts = [row.train for row in view.class_rows(ten_classes)]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(("lowest", "start", "ticks"), [(0.28, 0.2, 5), (0.51, 0.5, 6), (0.99, 0.8, 3), (0.0, 0.0, 6)])
def test_the_axis_begins_below_the_lowest_value(lowest: float, start: float, ticks: int) -> None:
    mark = view.Mark(stage=Stage.ARTIFACT, value=lowest, low=0.0, high=1.0)
    axis = view.axis_of([view.ClassRow(label="a", train=1, test=1, marks=(mark,), drop=None, drop_p=None)])
    assert (axis.start, axis.ticks[-1]) == (start, 1.0)
    assert len(axis.ticks) <= ticks
    assert (axis.place(start), axis.place(0.0), axis.place(1.0)) == (0, 0, 100)


def test_an_interval_that_goes_on_beyond_the_axis_has_an_arrow(ten_classes: Report) -> None:
    wide = ("accuracy", Stage.BASELINE, "cat")
    rows = tuple(
        row.model_copy(update={"low": 0.0}) if (row.name, row.stage, row.label) == wide else row
        for row in ten_classes.measurements
    )
    longer = ten_classes.model_copy(update={"measurements": rows})
    arrows = [render_report(report, gates=None).count('d="M4 ') for report in (ten_classes, longer)]
    assert arrows == [0, 1]


def test_the_artifact_s_column_stays_in_sight_where_a_table_is_scrolled(ten_classes: Report) -> None:
    page = render_report(ten_classes, gates=None)
    assert page.count("pinned") >= 2
    assert page.count('<th scope="col" class="final"') == 2


def test_the_largest_confusions_come_first(ten_classes: Report) -> None:
    found = view.top_confusions(ten_classes, Stage.ARTIFACT, most=3)
    matrix = ten_classes.confusion[Stage.ARTIFACT]
    wrong = sorted((matrix[i][j] / sum(matrix[i]) for i in range(10) for j in range(10) if i != j), reverse=True)
    assert [confusion.share for confusion in found] == wrong[:3]


def test_without_jinja2_the_error_names_the_extra(ten_classes: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError) as caught:
        render_report(ten_classes, gates=None)
    assert caught.value.hint == "pip install 'edgec[build]'"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_has_nothing_to_complain_about_and_nothing_to_fetch(page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,900"),
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    # A refused request (the page forbids all), a script error or a parse fault would be a CONSOLE line.
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<section") == page.count("<section")
