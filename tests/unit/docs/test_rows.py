"""Benchmark rows that are kept: what a file says of a figure, and what a later run does to it."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "build.py"), "digits", "--seeds", "2"])
    module = import_module("rows")
    monkeypatch.setattr(module, "commit", lambda: "c0ffee")
    return module


def test_a_file_says_what_measured_its_rows(rows: ModuleType, tmp_path: Path) -> None:
    rows.show([rows.Row(what="a: b", value=0.5, unit="share", n=9)], as_json=False, output=tmp_path / "new" / "a.json")
    (run,) = rows.read_runs(tmp_path / "new" / "a.json")
    assert run.commands == ("python benchmarks/build.py digits --seeds 2",)
    assert run.rows == (rows.Row(what="a: b", value=0.5, unit="share", n=9),)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run.date)
    assert set(run.versions) >= {"python", "numpy", "onnxruntime"}
    assert run.machine == rows.describe_host()


def test_a_command_names_no_folder_of_this_machine(
    rows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [str(ROOT / "benchmarks" / "check.py"), "--bundle", str(tmp_path / "cat"), str(ROOT / "targets"), "a b"]
    monkeypatch.setattr(sys, "argv", given)
    rows.record([rows.Row(what="a", value=1.0, unit="s", n=1)], tmp_path / "a.json")
    assert rows.read_runs(tmp_path / "a.json")[0].commands == ("python benchmarks/check.py --bundle cat targets 'a b'",)


def test_a_later_run_of_the_same_commit_adds_its_seeds(rows: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows.record([rows.over_seeds("a", "share", {1: 0.4, 0: 0.2}), rows.over_seeds("b", "share", {0: 1.0})], path)
    rows.record([rows.over_seeds("a", "share", {2: 0.9})], path)
    (run,) = rows.read_runs(path)
    a, b = sorted(run.rows, key=lambda row: row.what)
    assert (a.value, a.low, a.high, a.n) == (pytest.approx(0.5), 0.2, 0.9, 3)
    assert (a.seeds, a.values) == ((0, 1, 2), (0.2, 0.4, 0.9))
    assert b.seeds == (0,)


def test_a_run_of_another_commit_replaces_rows_and_does_not_mix_seeds(
    rows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    rows.record([rows.over_seeds("a", "share", {0: 0.4}), rows.over_seeds("b", "share", {0: 1.0})], path)
    monkeypatch.setattr(rows, "commit", lambda: "decaf")
    rows.record([rows.over_seeds("a", "share", {1: 0.6})], path)
    before, after = rows.read_runs(path)
    assert [(run.commit, [row.what for row in run.rows]) for run in (before, after)] == [
        ("c0ffee", ["b"]),
        ("decaf", ["a"]),
    ]
    assert after.rows[0].seeds == (1,)


def test_a_row_of_the_same_name_and_another_unit_is_another_row(rows: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows.record([rows.Row(what="all", value=0.0, unit="accepted", n=9)], path)
    rows.record([rows.Row(what="all", value=9.0, unit="refused", n=9)], path)
    assert len(rows.read_runs(path)[0].rows) == 2


def test_results_of_an_edgec_from_elsewhere_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = import_module("rows")
    module.commit.cache_clear()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="need its own"):
        module.record([module.Row(what="a", value=1.0, unit="s", n=1)], tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def test_the_commit_says_when_code_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("rows")
    answers = {"rev-parse": "c0ffee", "status": " M toolchain/edgec/cli/build.py"}
    monkeypatch.setattr(module, "_git", lambda command, *_: answers[command])
    assert module.commit.__wrapped__() == "c0ffee-dirty"
    answers["status"] = ""
    assert module.commit.__wrapped__() == "c0ffee"


def test_seeds_of_code_with_changes_are_not_mixed(
    rows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "commit", lambda: "c0ffee-dirty")
    rows.record([rows.over_seeds("a", "share", {0: 0.4})], tmp_path / "a.json")
    rows.record([rows.over_seeds("a", "share", {1: 0.6})], tmp_path / "a.json")
    (run,) = rows.read_runs(tmp_path / "a.json")
    assert run.rows[0].seeds == (1,)


def test_what_is_kept_is_json(rows: ModuleType, tmp_path: Path) -> None:
    rows.record([rows.Row(what="a", value=1.0, unit="s", n=1)], tmp_path / "a.json")
    assert set(json.loads((tmp_path / "a.json").read_text("utf-8"))) == {"runs"}
