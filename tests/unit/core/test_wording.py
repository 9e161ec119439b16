"""Numbers as people read them."""

from __future__ import annotations

import pytest

from edgec.core.measurement import Measurement, Stage
from edgec.core.wording import format_amount, format_fact, format_interval, measure_title


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy", 0.91449, "91.4 %"),
        ("min_accuracy", 1.0, "100.0 %"),
        ("accuracy_drop", -0.0123, "−1.2 pp"),
        ("latency_ms_p50", 0.03391, "0.0339 ms"),
        ("latency_ms_p50", 12.34, "12.3 ms"),
        ("latency_ms_p50", 9.999, "10.0 ms"),
        ("max_latency_ms_p99", 1234.5, "1,234 ms"),
        ("size_bytes", 999, "999 bytes"),
        ("size_bytes", 106_412, "106 kB"),
        ("size_bytes", 1_092_311, "1.09 MB"),
        ("peak_memory_mb", 71.34, "71.3 MB"),
        ("latency_ms_p50", 0, "0 ms"),
    ],
)
def test_an_amount_has_the_unit_of_its_name(name: str, value: float, expected: str) -> None:
    assert format_amount(name, value) == expected


@pytest.mark.parametrize(
    ("low", "high", "unit", "expected"),
    [
        (0.899, 0.928, "share", "89.9–92.8"),
        (-0.01, 0.025, "share", "−1.0 to 2.5"),
        (0.337, 0.341, "ms", "0.337–0.341"),
        (0.4, None, "ms", "0.400–?"),
        (None, None, "share", ""),
    ],
)
def test_an_interval_shows_what_ends_it_has(low: float | None, high: float | None, unit: str, expected: str) -> None:
    row = Measurement(stage=Stage.ARTIFACT, name="x", value=0, unit=unit, n=1, low=low, high=high, where="here")
    assert format_interval(row) == expected


def test_an_unknown_measure_is_named_after_itself() -> None:
    assert measure_title("worst_class_accuracy") == "Worst class"
    assert measure_title("energy_per_image") == "Energy per image"


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (True, "yes"),
        (None, "none"),
        (0.123456, "0.1235"),
        (269722, "269722"),
        ([600, 0.5, "a"], "600, 0.5, a"),
        ({"a": [1]}, '{"a": [1]}'),
        ([[1], [2]], "[[1], [2]]"),
    ],
)
def test_facts_of_any_type_fit_on_a_line(fact: object, expected: str) -> None:
    assert format_fact(fact) == expected
