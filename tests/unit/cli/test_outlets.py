"""Every outlet of text for people, with a name that gives orders to terminals, logs, CI systems and spreadsheets."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.table import Table
from rich.text import Text

from edgec.cli import main
from edgec.cli.console import ConsoleProgress, Terminal
from edgec.cli.say import say
from edgec.core.plain import plain
from edgec.evaluate.gates import GateResult, Policy, Verdict
from edgec.evaluate.outlets import code_quality, github_annotations, junit, markdown
from edgec.serve.logs import log_config
from edgec.study.files import _lines

ESCAPE, CSI, NEXT = "\x1b[2J", "\x9b31m", "\u2028\u0085"
NASTY = f"::stop-commands::x{ESCAPE}{CSI}\r\n::error::forged{NEXT}\u202egnp\ufffe\x07\x7f [a](https://evil.example)"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def result(name: str) -> GateResult:
    fields: dict[str, Any] = {"limit": 0.75, "value": 0.5, "low": 0.4, "high": 0.6, "policy": Policy.STRICT}
    verdict = {"verdict": Verdict.FAIL, "blocks": True, "reason": name}
    return GateResult(name="min_class_accuracy", label=name, **fields, **verdict)


def error(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main(["verify", NASTY])
    return capsys.readouterr().err


def said(capsys: pytest.CaptureFixture[str]) -> str:
    say(NASTY)
    say(NASTY, err=True)
    return "".join(capsys.readouterr())


def noted(capsys: pytest.CaptureFixture[str]) -> str:
    ConsoleProgress().note(NASTY)
    return capsys.readouterr().err


def table(_: Any) -> str:
    rows = Table(box=None, pad_edge=False)
    rows.add_row(Text(NASTY), NASTY)
    terminal = Terminal(file=io.StringIO(), width=200)
    terminal.print(rows)
    return terminal.file.getvalue()  # type: ignore[attr-defined]


def logged(*, as_json: bool) -> Callable[[Any], str]:
    def write(_: Any) -> str:
        made = log_config(as_json=as_json)["formatters"]["lines"]
        options = {"fmt": made["format"]} if "format" in made else {}
        record = logging.LogRecord("edgec.serve", logging.INFO, "", 1, "%s", (NASTY,), None)
        return made["()"](**options).format(record) + "\n"

    return write


OUTLETS: dict[str, tuple[Callable[[Any], str], int]] = {
    "error": (error, 2),
    "line": (said, 2),
    "note": (noted, 1),
    "table": (table, 4),
    "log": (logged(as_json=False), 1),
    "log in JSON": (logged(as_json=True), 1),
    "GitHub's annotations": (lambda _: github_annotations([result(NASTY)]), 1),
    "JUnit": (lambda _: junit([result(NASTY)], bundle=NASTY).decode(), 9),
    "Markdown": (lambda _: markdown([result(NASTY)], bundle=NASTY), 5),
    "CSV": (lambda _: _lines([{"name": NASTY}], ["name"]), 2),
    "GitLab's code quality": (lambda _: code_quality([result(NASTY)], bundle="b"), 16),
}
"""What writes, and the most lines that it may write."""


@pytest.mark.parametrize("outlet", OUTLETS)
def test_names_give_no_orders(outlet: str, capsys: pytest.CaptureFixture[str]) -> None:
    write, most = OUTLETS[outlet]
    text = write(capsys)
    assert "forged" in text
    assert not OBEYED.findall(text)
    assert len(text.splitlines()) <= most
    orders = [line for line in text.splitlines() if re.match(r"\s*(::|##\[)", line)]
    assert [line.partition(" ")[0] for line in orders] == (["::error"] if outlet.startswith("GitHub") else [])


def test_xml_is_well_formed() -> None:
    ET.fromstring(junit([result(NASTY)], bundle=NASTY))  # noqa: S314 - our own


def test_markdown_has_no_link() -> None:
    assert not re.search(r"(?<!\\)\]\(|https://", markdown([result(NASTY)], bundle=NASTY))


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_spreadsheets_compute_nothing(formula: str) -> None:
    assert _lines([{"name": formula, "accuracy": -0.5}], ["name", "accuracy"]).splitlines()[1] == f"'{formula},-0.5"


@pytest.mark.parametrize("text", ["Käfer", "猫", "a: b", "a::b", "👩‍🔬", "-", ""])
def test_what_people_write_stays(text: str) -> None:
    assert plain(text) == text


def test_json_says_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """For machines nothing is replaced; it is escaped."""
    say(json.dumps(NASTY))
    assert json.loads(capsys.readouterr().out) == NASTY
