"""Wheel and sdist: what is wrong with them is found before they are published. And what .ci/run runs."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
METADATA = (
    "Metadata-Version: 2.4\nName: edgec\nVersion: {version}\nProject-URL: Issues, https://github.com/edgec/edgec\n"
)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Without the install, which takes the network."""
    module = import_module("check_release")
    monkeypatch.setattr(module, "bad_install", lambda wheel: [])
    return module


@pytest.fixture
def make(check: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """A folder with a wheel and an sdist, each with every file but one."""

    def made(*, lacking: str = "", version: str = "0.1.0", metadata: str = METADATA) -> Path:
        with zipfile.ZipFile(tmp_path / "edgec-0.1.0-py3-none-any.whl", "w") as wheel:
            for name in check.wheel_files() - {lacking}:
                wheel.writestr(name, "")
            wheel.writestr("edgec-0.1.0.dist-info/METADATA", metadata.format(version=version))
        with tarfile.open(tmp_path / "edgec-0.1.0.tar.gz", "w:gz") as sdist:
            for name in check.sdist_files() - {lacking}:
                sdist.addfile(tarfile.TarInfo(f"edgec-0.1.0/{name}"))
        return tmp_path

    return made


def test_a_whole_release_passes(check: ModuleType, make: Callable[..., Path]) -> None:
    assert check.faults_in(make()) == []
    with pytest.raises(SystemExit) as left:
        check.main(make())
    assert not left.value.code


@pytest.mark.parametrize(
    "name",
    [
        "edgec/py.typed",
        "edgec/models/digits.safetensors",
        "edgec/_data/targets/host.toml",
        "edgec/_data/calibration/balanced.toml",
    ],
)
def test_a_file_that_a_wheel_lacks_is_named(check: ModuleType, make: Callable[..., Path], name: str) -> None:
    assert check.faults_in(make(lacking=name)) == [f"edgec-0.1.0-py3-none-any.whl lacks {name}"]


def test_every_template_must_be_inside(check: ModuleType) -> None:
    assert len([name for name in check.wheel_files() if "/templates/" in name]) > 5


def test_a_test_that_the_sdist_lacks_is_named(check: ModuleType, make: Callable[..., Path]) -> None:
    with pytest.raises(SystemExit, match=r"edgec-0.1.0.tar.gz lacks tests/conftest.py"):
        check.main(make(lacking="tests/conftest.py"))


def test_bad_metadata_are_told(check: ModuleType, make: Callable[..., Path]) -> None:
    assert check.faults_in(make(version="0.2.0")) == ["versions differ: 0.1.0, 0.2.0"]
    (fault,) = check.faults_in(make(metadata=METADATA + "Requires-Python: what\n"))
    assert "requires-python" in fault
    (fault,) = check.faults_in(make(metadata="Metadata-Version: 2.4\nName: edgec\nVersion: 0.1.0\n"))
    assert fault == "edgec-0.1.0-py3-none-any.whl names no project URLs"


def test_an_older_build_beside_the_new_one_is_refused(check: ModuleType, make: Callable[..., Path]) -> None:
    (make() / "edgec-0.0.9-py3-none-any.whl").touch()
    (fault,) = check.faults_in(make())
    assert "holds 2 wheels and 1 sdists" in fault


def test_ci_runs_the_commands_of_the_readme_and_of_nox() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    steps = re.findall(r"^    step (.*)$", script, re.MULTILINE)
    assert steps[0] == 'python3 -m venv "$venv"'
    assert "-e '.[build,dev]'" in steps[1]
    assert steps[-1] == '"$venv/bin/pytest"'
    (sessions,) = (step.partition("--sessions ")[2].split() for step in steps if "/nox" in step)
    defined = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"lint", "types"} <= set(sessions) <= set(defined)
