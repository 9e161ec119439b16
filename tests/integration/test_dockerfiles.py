"""The images, as far as they can be checked without a container engine: parsed, linted, and their install line run."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instruction and value, in order, without comments."""
    parser = DockerfileParser(fileobj=io.BytesIO(dockerfile.read_bytes()))
    return [(item["instruction"], item["value"]) for item in parser.structure if item["instruction"] != "COMMENT"]


def final_stage(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions of the last FROM."""
    found = instructions(dockerfile)
    start = max(position for position, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def copied(dockerfile: Path) -> list[str]:
    """Sources that come from the checkout."""
    lines = [shlex.split(value) for name, value in instructions(dockerfile) if name in {"ADD", "COPY"}]
    local = [words for words in lines if not any(word.startswith("--from=") for word in words)]
    return [word for words in local for word in words[:-1] if not word.startswith("--")]


def pip_requirements(dockerfile: Path) -> list[str]:
    """What `pip install` lines ask for."""
    found = []
    for name, value in instructions(dockerfile):
        for command in re.split(r"&&|;|\|\|", value) if name == "RUN" else ():
            words = shlex.split(command)
            if "install" in words and any(Path(word).name in {"pip", "pip3"} for word in words):
                found += [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]
    return found


def test_there_are_three_images():
    assert [path.stem for path in DOCKERFILES] == ["build-gpu", "cpu", "jetson"]


@each
def test_bases_are_pinned(dockerfile):
    stages = set()
    for name, value in instructions(dockerfile):
        if name != "FROM":
            continue
        image, *rest = [word for word in value.split() if not word.startswith("--")]
        if image not in stages:
            tag = image.rpartition("/")[2].partition(":")[2]
            assert tag or "@sha256:" in image, f"{image} has no tag"
            assert tag != "latest"
        stages.update(rest[1:])


@each
def test_the_image_does_not_run_as_root(dockerfile):
    stage = final_stage(dockerfile)
    users = [value for name, value in stage if name == "USER"]
    assert users
    assert users[-1].partition(":")[0] not in {"root", "0"}
    positions = [position for position, (name, _) in enumerate(stage) if name in {"USER", "ENTRYPOINT"}]
    assert stage[positions[-1]][0] == "ENTRYPOINT"


@each
def test_the_user_exists(dockerfile):
    runs = " ".join(value for name, value in final_stage(dockerfile) if name == "RUN")
    user = next(value for name, value in final_stage(dockerfile) if name == "USER")
    assert re.search(rf"useradd\b[^&]*--uid {user}\b", runs)


@each
def test_nothing_is_fetched_by_add(dockerfile):
    assert [value for name, value in instructions(dockerfile) if name == "ADD"] == []


@each
def test_what_is_copied_exists(dockerfile):
    missing = [source for source in copied(dockerfile) if not (ROOT / source).exists()]
    assert missing == []


@each
def test_what_is_copied_gets_past_dockerignore(dockerfile):
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert {source.rstrip("/") for source in copied(dockerfile)} <= let_in


@each
def test_what_the_wheel_is_made_from_is_copied(dockerfile):
    sources = {source.rstrip("/") for source in copied(dockerfile)}
    assert {
        "pyproject.toml",
        PROJECT["readme"],
        *PROJECT["license-files"],
        "toolchain",
        "targets",
        "calibration",
    } <= sources


@each
def test_what_is_installed_is_this_package_with_extras_that_it_has(dockerfile):
    requirements = pip_requirements(dockerfile)
    assert requirements
    for requirement in requirements:
        match = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", requirement)
        assert match, requirement
        extras = set(match[1].split(",")) if match[1] else set()
        assert extras <= set(PROJECT["optional-dependencies"])
        assert extras == ({"build"} if dockerfile.stem == "build-gpu" else {"serve"})


@each
def test_the_image_starts_the_console_script(dockerfile):
    entrypoints = [value for name, value in final_stage(dockerfile) if name == "ENTRYPOINT"]
    assert entrypoints == ['["edgec"]']
    assert "edgec" in PROJECT["scripts"]


@pytest.mark.parametrize("name", ["cpu", "jetson"])
def test_an_image_for_devices_serves_what_is_mounted(name):
    """Its words are `edgec serve`'s own, and others may reach the port that it listens on."""
    from edgec.cli.serve import command

    stage = final_stage(ROOT / "docker" / f"{name}.Dockerfile")
    (words,) = [json.loads(value) for instruction, value in stage if instruction == "CMD"]
    assert words[0] == "serve"
    given = command.make_context("serve", words[1:]).params
    assert given["host"] == "0.0.0.0"  # noqa: S104  # in a container
    assert [value for instruction, value in stage if instruction == "EXPOSE"] == [str(given["port"])]


@each
def test_the_readme_tells_of_the_image(dockerfile):
    readme = (ROOT / "docker" / "README.md").read_text(encoding="utf-8")
    bases = {value.split()[0] for name, value in instructions(dockerfile) if name == "FROM"}
    assert f"`{dockerfile.name}`" in readme
    assert all(f"`{base}`" in readme for base in bases)


@each
@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing(dockerfile):
    result = subprocess.run(["hadolint", str(dockerfile)], capture_output=True, text=True, check=False)
    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.slow
def test_what_the_cpu_image_installs_starts_and_holds_no_torch(tmp_path):
    dockerfile = ROOT / "docker" / "cpu.Dockerfile"
    context = tmp_path / "src"
    context.mkdir()
    for source in copied(dockerfile):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, context / source)
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    # Not where the checkout is importable, and not with this interpreter's search path.
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean = {"cwd": tmp_path, "env": settings | {"PATH": str(programs)}}

    pip = [str(programs / "pip")]
    probe = subprocess.run([*pip, "download", "--no-deps", "click"], **clean, capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("no package registry can be reached")
    install = [*pip, "install", "--quiet", "--no-compile"]  # most of what is installed is not imported here
    subprocess.run([*install, *pip_requirements(dockerfile)], **clean | {"cwd": context}, check=True)

    for argument in ("--version", "--help"):
        answer = subprocess.run(
            [str(programs / "edgec"), argument], **clean, capture_output=True, text=True, check=True
        )
        assert "edgec" in answer.stdout
    listed = subprocess.run(["edgec", "targets", "list"], **clean, capture_output=True, text=True, check=True)
    assert "jetson-orin-nano-8gb" in listed.stdout
    torch = subprocess.run([str(programs / "python"), "-c", "import torch"], **clean, capture_output=True, check=False)
    assert torch.returncode != 0
