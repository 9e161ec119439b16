"""The GitHub action, the GitLab template and the repository that uses them: their steps are run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT = Path(__file__).parents[2]


EXAMPLE = ROOT / "examples" / "ci-repository"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built by the steps of its own workflow; what it built counts as deployed."""
    folder = tmp_path_factory.mktemp("ci") / "repository"
    shutil.copytree(EXAMPLE, folder)
    for step in steps():
        if "run" in step:
            done = run(step["run"], folder, {})
            assert done.returncode == 0, done.stderr
    assert json.loads((folder / "build.json").read_text().splitlines()[-1])["bundle"] == "build/candidate"
    shutil.copy(folder / "build" / "candidate.edgec", folder / "deployed.edgec")
    return folder


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    """What it built: digits, quickly."""
    return repository / "build" / "candidate"


def steps() -> list[dict[str, Any]]:
    workflow = yaml.safe_load((EXAMPLE / ".github" / "workflows" / "model.yml").read_text())
    return workflow["jobs"]["candidate"]["steps"]


def run(script: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As a runner does: bash, ending at the first failure, `edgec` on the path."""
    binaries = folder / "bin"
    binaries.mkdir(exist_ok=True)
    edgec = binaries / "edgec"
    edgec.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgec "$@"\n')
    edgec.chmod(0o755)
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", **variables}
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def github(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    values = {name: str(field.get("default", "")) for name, field in action["inputs"].items()} | inputs
    variables = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    for step in action["runs"]["steps"]:
        given = {name: fill(text, values) for name, text in step.get("env", {}).items()}
        done = run(step["run"], folder, variables | given)
        if done.returncode:
            break
    return done


def fill(text: str, inputs: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: inputs[found[1]], text)


def test_the_action_lets_a_good_bundle_pass(bundle: Path, tmp_path: Path) -> None:
    done = github(tmp_path, bundle=str(bundle), baseline=str(bundle), options="--min-worst-class 0.5 --max-drop 0.2")
    assert done.returncode == 0, done.stderr
    assert "gates let it pass" in (tmp_path / "summary.md").read_text()
    assert len(ET.parse(tmp_path / "edgec-check.xml").findall(".//testcase")) == 12  # noqa: S314 - our own


def test_the_action_stops_a_bad_one_and_says_why(bundle: Path, tmp_path: Path) -> None:
    done = github(tmp_path, bundle=str(bundle), policy="strict", options="--min-worst-class 1.0")
    assert done.returncode == 3
    assert "::error title=min_worst_class_accuracy fail::Worst class" in done.stdout
    assert "1 of 1 gates block" in (tmp_path / "summary.md").read_text()


def test_an_input_is_no_shell_code(bundle: Path, tmp_path: Path) -> None:
    done = github(tmp_path, bundle=f"{bundle}; touch hacked", options="$(touch hacked) --min-accuracy 0.1")
    assert done.returncode == 2
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(("options", "code", "entries"), [("--min-accuracy 0.5", 0, 0), ("--min-accuracy 1.0", 3, 1)])
def test_the_gitlab_template_runs(bundle: Path, tmp_path: Path, options: str, code: int, entries: int) -> None:
    job = yaml.safe_load((ROOT / "docs" / "ci-templates" / "gitlab.yml").read_text())[".edgec-check"]
    variables = job["variables"] | {"BUNDLE": str(bundle), "OPTIONS": options}
    done = run("\n".join(job["script"]), tmp_path, variables)
    assert done.returncode == code, done.stderr
    reports = job["artifacts"]["reports"]
    assert len(json.loads((tmp_path / reports["codequality"]).read_text())) == entries
    assert (tmp_path / reports["junit"]).is_file()


def test_the_repositorys_workflow_gives_the_action_what_it_takes(repository: Path) -> None:
    (step,) = (step for step in steps() if step.get("uses", "").startswith("edgec/"))
    done = github(repository, **step["with"])
    assert done.returncode == 0, done.stdout + done.stderr
    names = {case.get("name") for case in ET.parse(repository / "edgec-check.xml").iter("testcase")}  # noqa: S314
    assert {"min_accuracy", "max_class_regression[7]", "max_macro_f1_regression"} <= names


def test_the_repositorys_workflow_stops_a_bundle_that_misses_its_gates(repository: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(repository, tmp_path / "stricter")
    gates = copy / "gates.toml"
    gates.write_text(gates.read_text().replace("min_accuracy = 0.9", "min_accuracy = 1.0"))
    (step,) = (step for step in steps() if step.get("uses", "").startswith("edgec/"))
    done = github(copy, **step["with"])
    assert done.returncode == 3, done.stderr
    assert "::error title=min_accuracy fail::" in done.stdout


def test_the_repositorys_pipeline_on_gitlab_runs(repository: Path) -> None:
    pipeline = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())
    (include,) = pipeline["include"]
    template = yaml.safe_load((ROOT / include["file"].lstrip("/")).read_text())
    job = template[pipeline["check"]["extends"]]
    variables = job["variables"] | pipeline["check"]["variables"]
    done = run("\n".join(job["script"]), repository, variables)
    assert done.returncode == 0, done.stderr
    assert json.loads((repository / "edgec-check.json").read_text()) == []


def test_both_pipelines_build_alike() -> None:
    pipeline = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())
    assert pipeline["build"]["script"] == [step["run"] for step in steps() if "run" in step]
