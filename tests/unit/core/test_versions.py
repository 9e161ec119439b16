"""Versions of tools and the digest of edgec's own code."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import edgec
from edgec.core import versions


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Nothing is remembered from before, and no other test meets what was made up here."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    versions.tool_versions.cache_clear()
    versions.source_digest.cache_clear()


def test_edgec_python_and_the_installed_tools_are_named() -> None:
    found = versions.tool_versions()
    assert found["edgec"] == edgec.__version__
    assert found["python"] == platform.python_version()
    assert "onnxruntime" in found


def test_a_tool_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name.startswith("torch"):
            raise PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(versions, "version", version)
    found = versions.tool_versions()
    assert found["numpy"] == "1.2.3"
    assert not any(name.startswith("torch") for name in found)


def test_versions_are_read_without_importing_the_tools() -> None:
    code = """import sys; from edgec.core.versions import source_digest, tool_versions
tool_versions(), source_digest(); print(*{'torch', 'onnx', 'onnxruntime', 'sklearn'} & set(sys.modules))"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split() == []


def test_a_changed_line_of_code_changes_the_digest_and_its_place_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(root: str, **files: str) -> str:
        package = tmp_path / root / "edgec"
        shutil.rmtree(package, ignore_errors=True)
        for name, text in {"core_versions": "x = 1", **files}.items():
            path = package / f"{name.replace('_', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (package / "notes.md").write_text(root)
        monkeypatch.setattr(versions, "__file__", str(package / "core" / "versions.py"))
        versions.source_digest.cache_clear()
        return versions.source_digest()

    one = digest("one", cli="y = 1")
    assert digest("elsewhere", cli="y = 1") == one
    assert digest("one", cli="y = 2") != one
    assert digest("one", console="y = 1") != one
