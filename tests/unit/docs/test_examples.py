"""README and docs: commands run, configs bind, code works.

In a block of `console`, lines that begin with `$ edgec` or `$ .venv/bin/edgec` are run one after another, page by page;
`build` as a dry run. Blocks of `console devices` are run by `tests/integration/test_readme.py`. A block of `toml` is a config,
unless its first line names another schema; where it names a file, the commands of the page find it there.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.calibrate.recipe import Recipe
from edgec.cli import main
from edgec.core.declaration import read_declaration
from edgec.core.target import Target
from edgec.package import write_archive
from edgec.pipeline.config import BuildConfig, read_config

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))
SCHEMAS = {"target": Target, "recipe": Recipe}
BUNDLE = "build/digits-jetson-orin-nano-8gb"
DEPLOYED = "build/deployed"
STAND_INS = ("weights.safetensors", "network.onnx", "data/train/cat.png", "data/test/cat.png", "data/any/cat.png")
"""Files that commands and configs name. Configs are bound, so nothing looks inside."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block."""

    page: Path
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        return next((word for word in self.words if "." in word), None)


def blocks(page: Path) -> Iterator[Block]:
    fences = re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for fence in fences:
        yield Block(page=page, language=fence[1], words=tuple(fence[2].split()), text=fence[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(language: str) -> list[object]:
    chosen = [block for block in BLOCKS if block.language == language]
    return [pytest.param(block, id=f"{block.page.stem}-{number}") for number, block in enumerate(chosen)]


@pytest.fixture
def sandbox(make_pets: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with all that the pages name."""
    write_archive(make_pets(BUNDLE), tmp_path / f"{BUNDLE}.edgec")
    make_pets(DEPLOYED)
    shutil.copytree(ROOT / "docs" / "images", tmp_path / "docs" / "images")
    for name in STAND_INS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if importlib.util.find_spec("timm"):
        first_contact(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def first_contact(folder: Path) -> None:
    """A checkpoint of timm's training script, and pictures in folders."""
    import timm
    import torch

    net = timm.create_model("mobilenetv3_small_050", num_classes=2)
    torch.save({"epoch": 1, "state_dict": net.state_dict()}, folder / "best.pth")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)):
        path = folder / "pictures" / ("glass", "paper")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def typed(block: Block) -> list[str]:
    return [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]


def commands(page: Path) -> list[list[str]]:
    here = [block for block in blocks(page) if block.language == "console" and "devices" not in block.words]
    calls = [shlex.split(line) for block in here for line in typed(block)]
    edgec = [call[1:] for call in calls if call[0] in ("edgec", ".venv/bin/edgec")]
    return [[*call, "--dry-run"] if call[0] == "build" else call for call in edgec]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_of_a_page_succeed_one_after_another(page: Path, sandbox: Path) -> None:
    for block in blocks(page):
        if block.file:
            (sandbox / block.file).write_text(block.text, encoding="utf-8")
    for call in commands(page):
        if any(word.startswith("timm:") for word in call) and not importlib.util.find_spec("timm"):
            pytest.skip(f"timm is not installed, which this and what follows need: {shlex.join(call)}")
        with pytest.raises(SystemExit) as left:
            main(call)
        assert not left.value.code, shlex.join(call)


@pytest.mark.parametrize("block", of("toml"))
def test_a_file_binds(block: Block, sandbox: Path) -> None:
    path = sandbox / "example.toml"
    path.write_text(block.text, encoding="utf-8")
    schema = next((SCHEMAS[word] for word in block.words if word in SCHEMAS), BuildConfig)
    if schema is BuildConfig:
        read_config(path)
    else:
        read_declaration(path, schema, what="example")


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("block", of("python"))
def test_code_runs(block: Block) -> None:
    exec(compile(block.text, str(block.page), "exec"), {})  # noqa: S102  the docs are ours


@pytest.mark.parametrize("block", of("json"))
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


SET_UP = "python3 -m venv .venv && .venv/bin/pip install -e"
TWO_COMMANDS = (
    f"{SET_UP} '.[build]' && .venv/bin/edgec build --target jetson",
    f"{SET_UP} '.[build,dev]' && .venv/bin/pytest",
)


def test_the_readme_begins_with_the_two_commands_word_for_word() -> None:
    first, second, *_ = [line for block in blocks(README) for line in typed(block)]
    assert (first, second) == TWO_COMMANDS


def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    shown = [(block, line) for block in blocks(README) for line in typed(block)]
    devices = [line for block, line in shown if "devices" in block.words]
    here = [shlex.join(call) for call in commands(README)]
    assert devices
    assert len(TWO_COMMANDS) + len(here) + len(devices) == len(shown)
    assert not [block.text for block in blocks(README) if block.language not in ("console", "toml", "python", "json")]


def test_the_readme_fits_a_first_visit() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.partition("\n## Commands\n")[0].split()) <= 900
    picture = ROOT / "docs" / "images" / "report.png"
    assert "](docs/images/report.png)" in text.partition("\n## ")[0]
    with Image.open(picture) as image:
        assert image.width == 1280
    assert picture.stat().st_size < 150_000
