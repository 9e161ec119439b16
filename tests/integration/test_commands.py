"""The other commands on a bundle that a build has made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


class TestCheck:
    def test_the_gates_of_the_build_are_met(self, digits: Any, edgec: Any) -> None:
        outcome = edgec("check", digits.bundle, "--json")
        assert outcome.exit_code == 0
        assert outcome.last["passed"] is True
        assert {gate["name"] for gate in outcome.last["gates"]} == {"min_accuracy", "max_class_drop"}
        for gate in outcome.last["gates"]:
            assert set(gate) >= {"name", "label", "limit", "value", "low", "high", "verdict"}
            assert gate["verdict"] == "pass"

    def test_a_gate_that_fails_exits_3_with_its_json_on_stdout(self, digits: Any, edgec: Any) -> None:
        outcome = edgec("check", digits.bundle, "--min-accuracy", 1.0, "--json")
        assert outcome.exit_code == 3
        assert outcome.last["passed"] is False
        assert [gate["verdict"] for gate in outcome.last["gates"]] == ["fail"]
        message, hint = outcome.failure
        assert message == "1 of 1 gates not passed, first: min_accuracy fail"
        assert hint == f"edgec report {digits.bundle} shows every class"

    def test_a_predicted_latency_decides_nothing_unless_it_may(self, digits: Any, edgec: Any) -> None:
        outcome = edgec("check", digits.bundle, "--max-latency-ms", 1000, "--json")
        assert outcome.exit_code == 3
        assert [gate["verdict"] for gate in outcome.last["gates"]] == ["inconclusive"]
        assert edgec("check", digits.bundle, "--max-latency-ms", 1000, "--allow-predicted").exit_code == 0

    def test_a_gate_that_makes_no_sense_exits_2(self, digits: Any, edgec: Any) -> None:
        assert edgec("check", digits.bundle, "--min-accuracy", 90).exit_code == 2

    def test_the_archive_is_as_good(self, digits: Any, edgec: Any) -> None:
        assert edgec("check", digits.archive, "--json").stdout == edgec("check", digits.bundle, "--json").stdout


class TestPredict:
    def test_png_files_of_digits_are_classified(
        self, builder: Any, edgec: Any, images: Path, tmp_path: Path, plain_cache: Path
    ) -> None:
        settings = ("compress.method=none", "data.ood_count=60")
        bundle = builder(tmp_path, settings=settings, cache=plain_cache).bundle
        files = sorted((images / "test").rglob("*.png"))
        outcome = edgec("predict", bundle, *files, "--json")
        assert outcome.exit_code == 0
        rows = [json.loads(line) for line in outcome.stdout.splitlines()]
        assert [row["file"] for row in rows] == list(map(str, files))
        for row in rows:
            assert set(row) == {"file", "label", "score", "scores"}
            assert set(row["scores"]) == set("0123456789")
            assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-4)
            assert row["score"] == row["scores"][row["label"]] == max(row["scores"].values())
        right = sum(row["label"] == Path(row["file"]).parent.name for row in rows)
        assert right >= 0.95 * len(rows)  # the teacher has 98.7 %

    def test_folder_and_archive_answer_alike(self, digits: Any, edgec: Any, images: Path) -> None:
        one = edgec("predict", digits.bundle, images / "test" / "3", "--json")
        two = edgec("predict", digits.archive, images / "test" / "3", "--json")
        assert one.stdout == two.stdout
        assert len(one.stdout.splitlines()) == 8


class TestReport:
    def test_the_page_is_written_beside_the_bundle_and_needs_nothing(
        self, digits: Any, edgec: Any, tmp_path: Path
    ) -> None:
        bundle = shutil.copytree(digits.bundle, tmp_path / "mine")
        outcome = edgec("report", bundle)
        assert outcome.stdout.strip() == str(tmp_path / "mine-report.html")
        page = (tmp_path / "mine-report.html").read_text(encoding="utf-8")
        assert "<script src" not in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert page == (digits.bundle / "report.html").read_text(encoding="utf-8")

    def test_json_is_the_report_itself(self, digits: Any, edgec: Any) -> None:
        assert edgec("report", digits.bundle, "--json").stdout == (digits.bundle / "report.json").read_text("utf-8")


class TestTargets:
    def test_all_are_listed(self, edgec: Any) -> None:
        for arguments in (("targets",), ("targets", "list")):
            outcome = edgec(*arguments)
            assert outcome.exit_code == 0
            assert "jetson-orin-nano-8gb" in outcome.stdout

    def test_one_is_shown_by_its_alias(self, edgec: Any) -> None:
        assert json.loads(edgec("targets", "show", "jetson", "--json").stdout)["name"] == "jetson-orin-nano-8gb"


class TestInit:
    def test_what_it_writes_is_planned(self, edgec: Any, tmp_path: Path) -> None:
        outcome = edgec("init", "--output", tmp_path / "edgec.toml", "--target", "jetson")
        assert outcome.exit_code == 0
        planned = edgec("build", "--config", tmp_path / "edgec.toml", "--dry-run", "--json", "--cache", tmp_path / "c")
        assert planned.last["target"] == "jetson-orin-nano-8gb"


class TestCompletion:
    @pytest.mark.parametrize(
        ("shell", "words"), [("bash", "complete -o nosort"), ("zsh", "#compdef edgec"), ("fish", "complete --no-files")]
    )
    def test_a_script_is_printed(self, edgec: Any, shell: str, words: str) -> None:
        outcome = edgec("completion", shell)
        assert outcome.exit_code == 0
        assert words in outcome.stdout
        assert "_EDGEC_COMPLETE" in outcome.stdout

    def test_the_shell_is_answered(self) -> None:
        import os

        asked = {"_EDGEC_COMPLETE": "bash_complete", "COMP_WORDS": "edgec bui", "COMP_CWORD": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "edgec"], env={**os.environ, **asked}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "plain,build"


def test_without_arguments_the_help_is_shown(edgec: Any) -> None:
    outcome = edgec()
    assert outcome.exit_code == 0
    assert "Build:" in outcome.stdout
    assert outcome.stderr == ""
