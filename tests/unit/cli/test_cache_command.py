"""`edgec cache`: lists and prunes, in units that people write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel

from edgec.cli.build import command as build_command
from edgec.cli.cache import command
from edgec.cli.quantities import AGE, SIZE
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.pipeline.store import LIMIT_BYTES, StageKey, Store


class Facts(BaseModel):
    """A stage that found nothing."""


def run(*arguments: str, columns: int = 100) -> Result:
    result = CliRunner().invoke(command, arguments, env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    if isinstance(result.exception, (ConfigError, UnsupportedError)):
        raise result.exception
    return result


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A stage of 2 kB that is four hours old, and one of 1 kB that has just been used."""
    store = Store(tmp_path / "cache")
    for stage, size, hours in (("data", 2000, 4), ("export", 1000, 0)):

        def write(folder: Path, size: int = size) -> Facts:
            (folder / "file").write_bytes(b"x" * size)
            return Facts()

        with store.used_by("digits for host", ()):
            folder = store.get(StageKey(stage=stage, settings={}, sources={}), Facts, write).folder
        then = folder.stat().st_mtime - hours * 3600 - 60
        os.utime(folder / "uses.txt", (then, then))
    return store.folder


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_the_list_names_stage_size_age_and_build(
    cache: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cache.parent)
    cache.rename(cache.parent / "moved")
    (cache.parent / ".edgec").mkdir()
    (cache.parent / "moved").rename(cache.parent / ".edgec" / "cache")
    lines = run(*arguments).stdout.splitlines()
    assert lines[0].split() == ["stage", "key", "size", "last", "used", "builds"]
    rows = [" ".join(line.split()) for line in lines[2:4]]
    assert rows[0].startswith("export ")
    assert rows[0].endswith(" kB 1 min ago digits for host")
    assert rows[1].startswith("data ")
    assert rows[1].endswith(" kB 4 h ago digits for host")
    assert lines[4].startswith("2 entries (")
    assert lines[4].endswith(" kB) in .edgec/cache")


def test_what_is_in_use_is_marked(cache: Path) -> None:
    with Store(cache).used_by("digits for host", [StageKey(stage="data", settings={}, sources={})]):
        assert "in use" in run("list", "--cache", str(cache)).stdout
    assert "in use" not in run("list", "--cache", str(cache)).stdout


def test_a_list_for_machines(cache: Path) -> None:
    told = json.loads(run("list", "--cache", str(cache), "--json").stdout)
    assert [(entry["stage"], entry["builds"], entry["in_use"]) for entry in told["entries"]] == [
        ("export", ["digits for host"], False),
        ("data", ["digits for host"], False),
    ]
    assert told["size_bytes"] == sum(entry["size_bytes"] for entry in told["entries"]) > 3000
    assert [entry["age_s"] // 3600 for entry in told["entries"]] == [0, 4]


def test_an_empty_cache_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    assert run("list", "--cache", str(folder)).stdout == f"0 entries (0 bytes) in {folder}\n"
    assert (
        run("prune", "--cache", str(folder), "--max-size", "0").stdout == f"0 entries (0 bytes) removed from {folder}\n"
    )
    assert not folder.exists()


@pytest.mark.parametrize(
    ("by", "gone"),
    [
        (("--older-than", "3h"), ["data"]),
        (("--older-than", "30d"), []),
        (("--max-size", "2kB"), ["data"]),
        (("--max-size", "0"), ["data", "export"]),
        (("--older-than", "1w", "--max-size", "1GB"), []),
    ],
)
def test_pruning_removes_what_is_old_or_too_much(cache: Path, by: tuple[str, ...], gone: list[str]) -> None:
    would = json.loads(run("prune", "--cache", str(cache), *by, "--dry-run", "--json").stdout)
    assert len(json.loads(run("list", "--cache", str(cache), "--json").stdout)["entries"]) == 2
    done = json.loads(run("prune", "--cache", str(cache), *by, "--json").stdout)
    assert [entry["stage"] for entry in would["removed"]] == [entry["stage"] for entry in done["removed"]] == gone
    left = json.loads(run("list", "--cache", str(cache), "--json").stdout)["entries"]
    assert {entry["stage"] for entry in left} == {"data", "export"} - set(gone)


def test_pruning_by_nothing_is_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match="neither --older-than nor --max-size") as caught:
        run("prune", "--cache", str(cache))
    assert caught.value.hint == "as in: edgec cache prune --older-than 30d --max-size 5GB"


def test_a_cache_that_cannot_be_locked_is_left_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UnsupportedError, match="cannot be locked, so that builds may be using it: Operation not supp"):
        run("prune", "--cache", str(cache), "--max-size", "0")
    assert len(run("list", "--cache", str(cache)).stdout.splitlines()) == 5


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (SIZE, "5GB", 5 * 10**9),
        (SIZE, "1.5 mb", 1_500_000),
        (SIZE, "0", 0),
        (AGE, "30d", 30 * 86400),
        (AGE, "90min", 5400),
        (AGE, "2w", 14 * 86400),
    ],
)
def test_quantities_have_units(kind: click.ParamType, text: str, value: int) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize("text", ["5", "5 bananas", "-5GB", "GB", ""])
def test_a_quantity_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        SIZE.convert(text, None, None)
    assert caught.value.message == f"'{text}': expected a number and a unit (kb, mb, gb, tb), as in 5GB"


def test_builds_from_the_command_line_and_from_python_have_one_limit() -> None:
    import inspect

    from edgec import build

    (option,) = [each for each in build_command.params if each.name == "cache_limit"]
    given = option.type_cast_value(click.Context(build_command), option.get_default(click.Context(build_command)))
    assert given == inspect.signature(build).parameters["cache_limit_bytes"].default == LIMIT_BYTES
