"""Settings that docs and benchmarks name are settings that a config has."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.pipeline.config import parse_value, read_config

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
SETTING = re.compile(r"(?:--set[ =]|--set\n\s+)[\"']?([a-z_0-9]+(?:\.[a-z_0-9]+)+)=([^\s`\"'\\]+)")


def settings_in(texts: list[Path]) -> Iterator[tuple[str, str]]:
    for path in texts:
        yield from dict.fromkeys(SETTING.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("key", "value"), dict.fromkeys((key, value) for key, value in settings_in([*PAGES, *SCRIPTS]) if "{" not in value)
)
def test_a_setting_that_is_named_is_known(key: str, value: str) -> None:
    read_config(None, [(key, parse_value(value))])


def candidates() -> dict[str, dict[str, object]]:
    folder = str(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("ablation_to_read", ROOT / "benchmarks" / "ablation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module.CANDIDATES


@pytest.mark.parametrize("settings", [pytest.param(each, id=name) for name, each in candidates().items()])
def test_candidates_of_the_ablation_are_known(settings: dict[str, object]) -> None:
    read_config(None, list(settings.items()))
