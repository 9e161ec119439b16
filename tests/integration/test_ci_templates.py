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

from edgec import __version__

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


EDGEC = f'#!/bin/sh\nexec "{sys.executable}" -m edgec "$@"\n'
ECHO = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]))
"""
"""An `edgec` that tells what it was given."""
SHELLS = {"bash": ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c"), None: ("bash", "-e", "-c")}
"""As GitHub's runner starts them; the second for a step that names no shell, where a pipe hides a failure."""


def run(
    script: str, folder: Path, variables: Mapping[str, str], *, shell: str | None = None, edgec: str = EDGEC
) -> subprocess.CompletedProcess[str]:
    """As a runner does, with `edgec` on the path."""
    binaries = folder / "bin"
    binaries.mkdir(exist_ok=True)
    program = binaries / "edgec"
    program.write_text(edgec)
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", **variables}
    command = [*SHELLS[shell], script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def github(folder: Path, *, edgec: str = EDGEC, **inputs: str) -> subprocess.CompletedProcess[str]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    values = {name: str(field.get("default", "")) for name, field in action["inputs"].items()} | inputs
    variables = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    for step in action["runs"]["steps"]:
        given = {name: fill(text, values) for name, text in step.get("env", {}).items()}
        done = run(step["run"], folder, variables | given, shell=step["shell"], edgec=edgec)
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


OPTIONS = """--min-accuracy 0.5
  --class-floor 'police car=0.8' --class-floor "a \\"b\\" $HOME *=0.7"

--max-class-drop 0.1"""
GIVEN = ["--min-accuracy", "0.5", "--class-floor", "police car=0.8", "--class-floor", 'a "b" $HOME *=0.7']
GIVEN += ["--max-class-drop", "0.1"]


def test_the_action_passes_on_every_line_of_its_options_as_quoted(tmp_path: Path) -> None:
    """A second line that vanishes is a gate that is not checked, and exit code 0."""
    done = github(tmp_path, edgec=ECHO, bundle="my bundle", options=OPTIONS)
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    assert given[:2] == ["check", "my bundle"]
    assert given[-len(GIVEN) :] == GIVEN


def test_the_gitlab_template_passes_on_every_line_of_its_options_as_quoted(tmp_path: Path) -> None:
    job = yaml.safe_load((ROOT / "docs" / "ci-templates" / "gitlab.yml").read_text())[".edgec-check"]
    variables = job["variables"] | {"BUNDLE": "my bundle", "OPTIONS": OPTIONS}
    done = run("\n".join(job["script"]), tmp_path, variables, edgec=ECHO)
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    assert given[:2] == ["check", "my bundle"]
    assert given[-len(GIVEN) :] == GIVEN


@pytest.mark.parametrize("options", ["", "\n"])
def test_without_options_there_are_none(tmp_path: Path, options: str) -> None:
    done = github(tmp_path, edgec=ECHO, bundle="b", options=options, junit="out.xml")
    assert json.loads(done.stdout)[-2:] == ["--junit", "out.xml"]


def test_options_whose_quotes_do_not_close_end_the_step(tmp_path: Path) -> None:
    done = github(tmp_path, edgec=ECHO, bundle="b", options="--class-floor 'cat=0.8")
    assert done.returncode != 0
    assert "No closing quotation" in done.stderr
    assert not done.stdout


def scripts() -> list[str]:
    """What the docs and the example tell a runner to do, step by step."""
    text = (ROOT / "docs" / "ci.md").read_text()
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    ]
    jobs = [block["steps"] for block in blocks if isinstance(block, dict)]
    return [
        step["run"] for job in [*jobs, steps()] for step in job if re.search("edgec (build|check)", step.get("run", ""))
    ]


@pytest.mark.parametrize("script", scripts())
def test_a_step_fails_where_edgec_does_also_without_pipefail(tmp_path: Path, script: str) -> None:
    program = tmp_path / ".venv" / "bin" / "edgec"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    assert run(script, tmp_path, {}, edgec="#!/bin/sh\nexit 3\n").returncode == 3


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


def test_the_action_installs_what_its_own_tag_holds(tmp_path: Path) -> None:
    """A newer release must not change what a pinned action does."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (install,) = (step for step in action["runs"]["steps"] if "pip install" in step["run"])
    (tmp_path / "python3").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    place = {"PATH": str(tmp_path), "GITHUB_ACTION_PATH": "/actions/edgec edgec/v0.1.0"}
    command = [str(shutil.which("bash")), "-e", "-c", install["run"]]
    done = subprocess.run(command, env=place, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["-m", "pip", "install", place["GITHUB_ACTION_PATH"]]


def test_templates_and_example_name_this_version() -> None:
    files = [path for path in EXAMPLE.rglob("*.yml") if path.is_file()] + [
        ROOT / "docs" / "ci-templates" / "gitlab.yml"
    ]
    text = "\n".join(path.read_text() for path in files)
    assert not re.findall(r"pip install '?edgec(?:\[\w+\])?'?$", text, re.MULTILINE), "an install without a version"
    named = re.findall(r"edgec(?:\[\w+\])?==([\w.]+)|edgec@v([\w.]+)|ref: v([\w.]+)", text)
    assert {version for found in named for version in found if version} == {__version__}
    assert len(named) == 5


def test_both_pipelines_build_alike() -> None:
    pipeline = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())
    assert pipeline["build"]["script"] == [step["run"] for step in steps() if "run" in step]
