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
from edgec.core.plain import in_json, in_markdown, plain
from edgec.evaluate.gate_settings import Policy
from edgec.evaluate.gates import Check, GateResult, Verdict
from edgec.render.ci import code_quality, github_annotations, junit, markdown
from edgec.serve.logs import log_config
from edgec.study.files import _lines
from edgec.study.plot import Group, Lane, Mark, Panel, Picture, axis_from, render_picture
from edgec.study.spread import Spread
from edgec.study.wording import markdown_table

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


def printed(*cells: Text | str) -> str:
    rows = Table(box=None, pad_edge=False)
    rows.add_row(*cells)
    terminal = Terminal(file=io.StringIO(), width=200)
    terminal.print(rows)
    return terminal.file.getvalue()  # type: ignore[attr-defined]


def staged(capsys: pytest.CaptureFixture[str]) -> str:
    ConsoleProgress().stage(NASTY, number=1, total=2, cached=True)
    return capsys.readouterr().err


def picture(_: Any) -> str:
    mark = Mark(spread=Spread(mean=0.5, deviation=None, n=1), seeds=(0.5,))
    lane = Lane(family=NASTY, name=NASTY, symbol="circle", marks=(mark, mark))
    panel = Panel(title=NASTY, axis=axis_from(0.0))
    group = Group(title=NASTY, references=(None, None), lanes=(lane,))
    texts = {"title": NASTY, "caption": NASTY, "label": NASTY, "reference": NASTY}
    drawn = render_picture(Picture(**texts, groups=[group], panels=[panel, panel]))
    ET.fromstring(drawn)  # noqa: S314 - our own
    return drawn


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
    "table": (lambda _: printed(Text(NASTY), NASTY), 4),
    "stage": (staged, 4),
    "log": (logged(as_json=False), 1),
    "log in JSON": (logged(as_json=True), 1),
    "GitHub's annotations": (lambda _: github_annotations([result(NASTY)]), 1),
    "JUnit": (lambda _: junit([result(NASTY)], bundle=NASTY).decode(), 9),
    "Markdown": (lambda _: markdown([result(NASTY)], bundle=NASTY), 5),
    "CSV": (lambda _: _lines([{"name": NASTY}], ["name"]), 2),
    "GitLab's code quality": (lambda _: code_quality([result(NASTY)], bundle=NASTY), 16),
    "a study's table": (lambda _: markdown_table(["name", "reason"], [[NASTY, NASTY]]), 3),
    "a study's picture": (picture, 200),
    "verdicts in JSON": (lambda _: in_json(Check.of([result(NASTY)]).model_dump_json()), 1),
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


@pytest.mark.parametrize("outlet", ["Markdown", "a study's table"])
def test_markdown_has_no_link(outlet: str) -> None:
    write, _ = OUTLETS[outlet]
    assert not re.search(r"(?<!\\)\]\(|https://", write(None))


@pytest.mark.parametrize("text", ["https://a.b", "www.a.b", "me@a.b", "<b>", "![x](y)", ":bug:", "a|b", "$x$", "#1"])
def test_markdown_reads_a_name_as_text(text: str) -> None:
    assert "\\" in in_markdown(text)
    assert re.sub(r"\\(.)", r"\1", in_markdown(text)) == text


@pytest.mark.parametrize("text", ["[link=https://evil.example]x[/link]", "[bold]", "no [/tag] before", ":warning:"])
def test_brackets_and_colons_mean_nothing_to_the_terminal(text: str) -> None:
    assert printed(text).strip() == text


def test_json_that_is_escaped_means_what_it_meant() -> None:
    text = json.dumps({"name": NASTY}, ensure_ascii=False, indent="\t").replace("\n", "\r\n")
    assert json.loads(in_json(text)) == {"name": NASTY}
    assert not OBEYED.findall(in_json(text).replace("\n", ""))


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
