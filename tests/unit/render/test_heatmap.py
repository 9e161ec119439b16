"""The heat map of layers and classes, and the table of refinements, on the page."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from edgec.core.facts import LayerSensitivity
from edgec.evaluate.report import Report, encode_report, parse_report
from edgec.render import view
from edgec.render.heatmap import MOST_CLASSES, heat_map
from edgec.render.page import render_report

Sensitive = Callable[..., Report]


def section(report: Report) -> str:
    page = render_report(report, gates=None)
    found = re.search(r'<section id="layers".*?</section>', page, flags=re.DOTALL)
    assert found
    return found[0]


def test_layers_stand_in_graph_order_and_classes_in_the_order_of_the_table(
    ten_classes: Report, sensitive: Sensitive
) -> None:
    heat = heat_map(sensitive(ten_classes))
    assert heat is not None
    assert [row.layer.layer for row in heat.rows] == [f"conv<{i}>" for i in range(5)]
    assert list(heat.classes) == [row.label for row in view.class_rows(ten_classes)]
    assert heat.hidden == 0


def test_the_largest_divergence_has_the_full_colour_and_none_has_none(
    ten_classes: Report, sensitive: Sensitive
) -> None:
    report = sensitive(ten_classes)
    heat = heat_map(report)
    assert heat is not None
    cells = [cell for row in heat.rows for cell in row.cells]
    largest = max(value for row in report.sensitivity for value in row.divergence.values())
    assert (heat.largest, max(cell.heat for cell in cells)) == (largest, 1)
    assert all(cell.heat == pytest.approx((cell.divergence / largest) ** 0.5, abs=5e-4) for cell in cells)
    still = report.sensitivity[0].model_copy(update={"divergence": dict.fromkeys(report.labels, 0.0)})
    flat = heat_map(report.model_copy(update={"sensitivity": (still,)}))
    assert flat is not None
    assert {cell.heat for cell in flat.rows[0].cells} == {0}


def test_of_many_classes_those_that_lose_most_are_shown_and_the_page_says_so(
    hundred_classes: Report, sensitive: Sensitive
) -> None:
    report = sensitive(hundred_classes)
    heat = heat_map(report)
    assert heat is not None
    worst = {label: max(row.divergence[label] for row in report.sensitivity) for label in report.labels}
    assert set(heat.classes) == set(sorted(worst, key=lambda label: -worst[label])[:MOST_CLASSES])
    assert f"The 30 classes that lose most anywhere; {heat.hidden} others lose less." in section(report)
    assert heat.hidden == 70


def test_every_number_can_be_read_without_colour(ten_classes: Report, sensitive: Sensitive) -> None:
    report = sensitive(ten_classes)
    shown = section(report)
    for i, row in enumerate(report.sensitivity):
        for label, value in row.divergence.items():
            assert f'title="conv&lt;{i}&gt;, {label}: {value:.3g} nat"' in shown
    assert shown.count("<td") - shown.count('<td class="nowrap"') == 50


def test_a_layer_that_stayed_in_float_is_marked(ten_classes: Report, sensitive: Sensitive) -> None:
    shown = section(sensitive(ten_classes))
    assert shown.count('<tr class="float">') == 1
    assert "Layers marked" in shown
    assert "Layers marked" not in section(sensitive(ten_classes, layers=1))


def test_a_class_that_was_not_measured_is_told_from_one_that_loses_nothing(ten_classes: Report) -> None:
    row = LayerSensitivity(layer="conv", operator="Conv", kept="int8", divergence={"cat": 0.0})
    shown = section(ten_classes.model_copy(update={"sensitivity": (row,)}))
    assert 'title="conv, cat: 0 nat"' in shown
    assert shown.count("not measured") == 9


def test_refinements_have_a_table_with_or_without_a_map(ten_classes: Report, sensitive: Sensitive) -> None:
    alone = section(sensitive(ten_classes).model_copy(update={"sensitivity": ()}))
    assert "<table class" not in alone
    for shown in (alone, section(sensitive(ten_classes))):
        assert "What refined the int8 model" in shown
        assert "rounding by &lt;gradient&gt;" in shown
        assert "0.0312 nat" in shown
        assert "0.0191 nat" in shown


def test_without_either_there_is_no_section(ten_classes: Report) -> None:
    page = render_report(ten_classes, gates=None)
    assert heat_map(ten_classes) is None
    assert "layers" not in set(re.findall(r'(?:id|href)="#?(\w+)"', page))


def test_both_survive_the_file_with_a_record_a_line(ten_classes: Report, sensitive: Sensitive) -> None:
    report = sensitive(ten_classes)
    data = encode_report(report)
    assert parse_report(data) == report
    assert sum(line.startswith(b'    {"layer": ') for line in data.splitlines()) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"divergence": {"catt": 0.1}}, "sensitivity of 'conv' is of class 'catt', which is not in labels"),
        ({"divergence": {"cat": -0.1}}, "greater than or equal to 0"),
        ({"divergence": {"cat": float("nan")}}, "finite number"),
        ({"kept": "int4"}, "'int8' or 'float'"),
    ],
)
def test_sensitivities_that_cannot_be_are_refused(ten_classes: Report, change: dict, message: str) -> None:
    row = {"layer": "conv", "operator": "Conv", "kept": "int8", "divergence": {"cat": 0.1}} | change
    with pytest.raises(ValueError, match=message):
        Report.model_validate(ten_classes.model_dump() | {"sensitivity": [row]})
