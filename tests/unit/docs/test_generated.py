"""README and docs: what follows from the code is not stale."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return import_module("generate")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_follows_from_the_code_is_not_stale(generate: ModuleType, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generate.filled(text) == text, "run: python docs/generate.py"


def test_the_json_schemas_are_not_stale(generate: ModuleType) -> None:
    for path, text in generate.schemas().items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/generate.py"


def test_every_part_stands_somewhere(generate: ModuleType) -> None:
    found = {
        name for page in PAGES for name in re.findall(r"<!-- begin ([\w-]+) -->", page.read_text(encoding="utf-8"))
    }
    assert found == set(generate.PARTS)


def test_a_part_that_nobody_generates_is_a_mistake(generate: ModuleType) -> None:
    with pytest.raises(KeyError, match="nobody"):
        generate.filled("<!-- begin nobody -->\n<!-- end nobody -->")


def test_a_part_is_replaced_whole_and_the_text_around_it_kept(generate: ModuleType) -> None:
    filled = generate.filled("before\n<!-- begin recipes -->\nold\n<!-- end recipes -->\nafter\n")
    assert filled.startswith("before\n<!-- begin recipes -->\n| recipe |")
    assert filled.endswith("|\n<!-- end recipes -->\nafter\n")
    assert "old" not in filled
    assert generate.filled(filled) == filled


def test_the_settings_of_every_compression_method_are_documented(generate: ModuleType) -> None:
    methods = pytest.importorskip("edgec.compress.methods", reason="torch is not installed").methods
    documented = generate.METHODS["compress.options"]
    assert {f"compress.{name}": methods[name].config for name in methods} == documented


def test_every_setting_has_a_meaning_or_a_name_that_says_it(generate: ModuleType) -> None:
    from edgec.pipeline.config import BuildConfig

    sections = {section.name: section for section in generate.settings_of(BuildConfig, generate.METHODS)}
    silent = {name: [row.key for row in section.rows if not row.meaning] for name, section in sections.items()}
    explained_above = {"model.input", "calibrate", "quantize", "export"}
    assert {name for name, keys in silent.items() if keys} <= explained_above
    assert all(sections[name].about for name in explained_above)


@pytest.mark.parametrize("arguments", [["--check"]])
def test_the_script_runs_from_anywhere(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
