"""Verdicts in the forms that CI systems read: JUnit, Markdown, GitHub's annotations, GitLab's code quality."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from edgec.core.plain import in_markdown, plain
from edgec.core.wording import format_amount, measure_title
from edgec.evaluate.gates import GateResult, Verdict

__all__ = ["code_quality", "describe", "github_annotations", "junit", "markdown"]

MOST_ANNOTATIONS = 10
"""Of a level that GitHub shows of a step: https://docs.github.com/actions, limits of workflow commands."""
_MARKS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "❔"}
_WORKFLOW_COMMAND = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_WORKFLOW_PROPERTY = _WORKFLOW_COMMAND | str.maketrans({":": "%3A", ",": "%2C"})


def describe(result: GateResult) -> str:
    """One line: `Worst class (dog): 71.2 %, asked for at least 75.0 %`."""
    title = measure_title(result.name.split("_", maxsplit=1)[1])
    label = f" ({result.label})" if result.label else ""
    found = "not known" if result.value is None else format_amount(result.name, result.value)
    bound = "at least" if result.name.startswith("min_") else "at most"
    reason = f"; {result.reason}" if result.reason else ""
    return plain(f"{title}{label}: {found}, asked for {bound} {format_amount(result.name, result.limit)}{reason}")


def junit(results: Sequence[GateResult], *, bundle: str) -> bytes:
    """A test case per gate and class, as Jenkins, GitLab and others show them.

    What blocks is a failure; a doubt that does not block is skipped, with its reason.
    """
    failures = sum(result.blocks for result in results)
    doubts = sum(_is_doubt(result) for result in results)
    counts = {"tests": str(len(results)), "failures": str(failures), "errors": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": "edgec check", **counts, "skipped": str(doubts)})
    for result in results:
        name = f"{result.name}[{result.label}]" if result.label else result.name
        message = describe(result)
        case = ET.SubElement(suite, "testcase", {"classname": plain(bundle), "name": plain(name)})
        if result.blocks:
            ET.SubElement(case, "failure", {"message": message, "type": result.verdict.value}).text = message
        elif _is_doubt(result):
            ET.SubElement(case, "skipped", {"message": message})
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def markdown(results: Sequence[GateResult], *, bundle: str) -> str:
    """A table for a job's summary or a merge request; what blocks comes first."""
    blocked = sum(result.blocks for result in results)
    head = f"{blocked} of {len(results)} gates block" if blocked else f"all {len(results)} gates let it pass"
    lines = [
        f"### {in_markdown(bundle)}: {head}",
        "",
        "| | gate | limit | found | |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for result in _worst_first(results):
        sign = "≥" if result.name.startswith("min_") else "≤"
        label = f" **{in_markdown(result.label)}**" if result.label else ""
        found = "–" if result.value is None else format_amount(result.name, result.value)
        limit = f"{sign} {format_amount(result.name, result.limit)}"
        mark = _MARKS[result.verdict]
        lines.append(f"| {mark} | `{result.name}`{label} | {limit} | {found} | {in_markdown(result.reason or '')} |")
    return "\n".join(lines) + "\n"


def github_annotations(results: Sequence[GateResult]) -> str:
    """Workflow commands that GitHub shows beside the run: an error for what blocks, a warning for a doubt.

    Worst first, and no more than GitHub shows: where there are more, the last one says how many.
    """
    ordered = _worst_first(results)
    errors = [result for result in ordered if result.blocks]
    warnings = [result for result in ordered if _is_doubt(result)]
    return "".join((*_annotations("error", errors), *_annotations("warning", warnings)))


def _annotations(level: str, results: Sequence[GateResult]) -> Iterator[str]:
    shown = results if len(results) <= MOST_ANNOTATIONS else results[: MOST_ANNOTATIONS - 1]
    for result in shown:
        title = f"{result.name} {result.verdict.value}".translate(_WORKFLOW_PROPERTY)
        yield f"::{level} title={title}::{describe(result).translate(_WORKFLOW_COMMAND)}\n"
    if len(shown) < len(results):
        yield f"::{level} title=edgec check::and {len(results) - len(shown)} more: the job's summary has them all\n"


def _worst_first(results: Sequence[GateResult]) -> list[GateResult]:
    """What blocks before what does not, failures before doubts, and of these the farthest beyond their limits."""

    def order(result: GateResult) -> tuple[bool, bool, float]:
        beyond = 0.0 if result.value is None else abs(result.value - result.limit) / max(1.0, result.limit)
        return not result.blocks, result.verdict is not Verdict.FAIL, -beyond

    return sorted(results, key=order)


def code_quality(results: Sequence[GateResult], *, bundle: str) -> str:
    """GitLab's code quality report: an entry for what blocks and for every doubt, with a lasting fingerprint."""
    entries = [
        {
            "description": describe(result),
            "check_name": result.name,
            "fingerprint": hashlib.sha256(f"{bundle}\0{result.name}\0{result.label}".encode()).hexdigest(),
            "severity": "blocker" if result.blocks else "minor",
            "location": {"path": bundle, "lines": {"begin": 1}},
        }
        for result in results
        if result.blocks or _is_doubt(result)
    ]
    return json.dumps(entries, indent=2) + "\n"


def _is_doubt(result: GateResult) -> bool:
    return result.verdict is Verdict.INCONCLUSIVE and not result.blocks
