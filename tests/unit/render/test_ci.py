"""Verdicts as CI systems read them: checked by their own schemas and parsers, with names that break naive ones."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema

from edgec.evaluate.gate_settings import Policy
from edgec.evaluate.gates import GateResult, Verdict
from edgec.render.ci import code_quality, describe, github_annotations, junit, markdown

SCHEMA = Path(__file__).parents[2] / "compat" / "junit-10.xsd"
NASTY = 'a|b <i>&"\n::error::'


def result(verdict: str, *, label: str | None = "dog", blocks: bool = False, reason: str | None = None) -> GateResult:
    return GateResult(
        name="min_class_accuracy",
        label=label,
        limit=0.75,
        value=None if reason == "unknown" else 0.712,
        low=0.6,
        high=0.8,
        policy=Policy.CONFIDENT,
        verdict=Verdict(verdict),
        blocks=blocks,
        reason=reason,
    )


RESULTS = [
    result("pass"),
    result("fail", label=NASTY, blocks=True),
    result("inconclusive", reason="50 images do not tell; about 900 would"),
    result("inconclusive", blocks=True, reason="unknown"),
]


def test_a_verdict_is_one_sentence() -> None:
    assert describe(RESULTS[0]) == "Class (dog): 71.2 %, asked for at least 75.0 %"
    assert describe(RESULTS[3]) == "Class (dog): not known, asked for at least 75.0 %; unknown"


@pytest.mark.parametrize("results", [RESULTS, RESULTS[:1], [], [result("fail", label="a\x00b\x1b", blocks=True)]])
def test_junit_is_valid_by_its_schema(results: list[GateResult]) -> None:
    data = junit(results, bundle="digits & <co>")
    xmlschema.XMLSchema(str(SCHEMA)).validate(data.decode())


def test_junit_fails_what_blocks_and_skips_what_is_in_doubt() -> None:
    suite = ET.fromstring(junit(RESULTS, bundle="digits"))[0]  # noqa: S314 - our own
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "2", "0", "1"]
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["skipped"], ["failure"]]
    assert suite[1].get("name") == "min_class_accuracy[" + NASTY.replace("\n", "\ufffd") + "]"


def test_markdown_has_a_row_a_gate_and_what_blocks_first() -> None:
    text = markdown(RESULTS, bundle="digits")
    head, *rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert text.startswith("### digits: 2 of 4 gates block\n")
    assert len(rows) == 1 + len(RESULTS)
    assert [row.split(" ")[1] for row in rows[1:]] == ["❌", "❔", "✅", "❔"]
    assert 'a\\|b \\<i\\>\\&"\ufffd\\:\\:error\\::' in rows[1]
    assert head.count("|") == rows[3].count("|")
    assert "all 1 gates let it pass" in markdown(RESULTS[:1], bundle="digits")


def test_annotations_cannot_be_forged_by_a_name() -> None:
    lines = github_annotations(RESULTS).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::error", "::warning"]
    assert "\ufffd::error::" in lines[0]
    assert github_annotations(RESULTS[:1]) == ""


def test_code_quality_has_lasting_fingerprints() -> None:
    entries = json.loads(code_quality(RESULTS, bundle="digits"))
    assert [entry["severity"] for entry in entries] == ["blocker", "minor", "blocker"]
    assert all(entry.keys() >= {"description", "fingerprint", "severity", "location"} for entry in entries)
    again = json.loads(code_quality(RESULTS[1:2], bundle="digits"))
    assert again[0]["fingerprint"] == entries[0]["fingerprint"] != entries[1]["fingerprint"]


def of_class(number: int, value: float, *, blocks: bool = True) -> GateResult:
    verdict = "fail" if blocks else "inconclusive"
    return result(verdict, label=f"class {number:03}", blocks=blocks).model_copy(update={"value": value})


def test_github_is_told_the_worst_first_and_no_more_than_it_shows() -> None:
    """Ten errors and ten warnings a step; the rest would vanish unsaid."""
    doubts = [of_class(i, 0.7, blocks=False) for i in range(3)]
    results = [*doubts, *(of_class(i, 0.74 - i / 200) for i in range(100))]
    lines = github_annotations(results).splitlines()
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == 10
    assert errors[0].endswith("::Class (class 099): 24.5 %25, asked for at least 75.0 %25")
    assert errors[-1] == "::error title=edgec check::and 91 more: the job's summary has them all"
    assert lines[10:] == [line for line in lines if line.startswith("::warning ")]
    assert len(lines) == 13


def test_ten_errors_are_all_told() -> None:
    lines = github_annotations([of_class(i, 0.5) for i in range(10)]).splitlines()
    assert len(lines) == 10
    assert "more" not in lines[-1]


def test_a_failure_goes_before_a_doubt_that_blocks() -> None:
    unknown = result("inconclusive", blocks=True, reason="unknown")
    lines = github_annotations([unknown, of_class(1, 0.749)]).splitlines()
    assert ["fail" in line for line in lines] == [True, False]
