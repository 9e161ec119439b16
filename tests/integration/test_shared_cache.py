"""`--cache-from` and `--cache-to`: a machine with an empty cache builds from what another one left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.deploy import http
from support.registry import REGISTRY, Registry


@pytest.fixture(scope="module")
def shared(digits: Any, edgec: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What the digits' build keeps in a shared folder, and what it says. Nobody may change it."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(digits.cache, folder / "own")
    return folder / "cache", rebuild(edgec, digits, folder, "own", "--cache-to", folder / "cache")


def rebuild(edgec: Any, digits: Any, folder: Path, cache: str, *arguments: object) -> Any:
    places = ("--cache", folder / cache, "--output", folder / f"{cache}-bundle")
    outcome = edgec("build", *digits.arguments, *places, *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def names(line: str, lead: str) -> list[str]:
    """The stages that a line lists."""
    return line.strip().removeprefix(lead).split(", ")


def test_every_stage_is_kept_for_others_and_it_is_said(shared: tuple[Path, Any], digits: Any) -> None:
    place, outcome = shared
    stages = {path.name for path in digits.cache.glob("[!.]*")} - {"ranges"}
    assert {path.name for path in place.glob("[!.]*")} == stages
    assert set(names(outcome.stderr.splitlines()[-1], f"stages to {place}: ")) == stages


def test_another_machine_takes_the_finished_bundle(
    shared: tuple[Path, Any], digits: Any, edgec: Any, tmp_path: Path
) -> None:
    outcome = rebuild(edgec, digits, tmp_path, "empty", "--cache-from", shared[0], "--json")
    assert outcome.last["fetched"] == {"package": str(shared[0])}
    assert "package" in outcome.last["cached"]
    assert f"stages from {shared[0]}: package" in outcome.stderr
    archives = [path.with_suffix(".edgec").read_bytes() for path in (tmp_path / "empty-bundle", digits.bundle)]
    assert archives[0] == archives[1]


def test_where_the_last_stage_differs_all_before_it_are_taken(
    shared: tuple[Path, Any], digits: Any, edgec: Any, tmp_path: Path
) -> None:
    outcome = rebuild(edgec, digits, tmp_path, "empty", "--cache-from", shared[0], "--json", "--set", "name=other")
    stages = {path.name for path in shared[0].glob("[!.]*")} - {"package"}
    assert set(outcome.last["fetched"]) == set(outcome.last["cached"]) == stages


def test_a_damaged_shared_cache_costs_time_and_nothing_else(
    shared: tuple[Path, Any], digits: Any, edgec: Any, tmp_path: Path
) -> None:
    shutil.copytree(shared[0], tmp_path / "damaged")
    (record,) = (tmp_path / "damaged" / "package").glob("[!.]*/stage.json")
    record.write_bytes(record.read_bytes()[:-20])
    outcome = rebuild(edgec, digits, tmp_path, "empty", "--cache-from", tmp_path / "damaged", "--json")
    assert "package" not in outcome.last["cached"]
    assert "is not used: its record cannot be read" in outcome.stderr


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    if REGISTRY is None:
        pytest.skip("docker-registry is not installed (Debian's package of that name)")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(http.random, "uniform", lambda *_: 0.0)
    registry = Registry(folder=tmp_path / "registry")
    registry.start()
    yield registry
    registry.stop()


@pytest.mark.network
def test_a_registry_is_a_shared_cache_too_and_loses_nothing_when_it_is_down(
    digits: Any, edgec: Any, tmp_path: Path, registry: Registry
) -> None:
    place = f"oci://127.0.0.1:{registry.port}/cameras/cache"
    shutil.copytree(digits.cache, tmp_path / "own")
    sent = rebuild(edgec, digits, tmp_path, "own", "--cache-to", place)
    assert "warning" not in sent.stderr
    taken = rebuild(edgec, digits, tmp_path, "empty", "--cache-from", place, "--json", "--set", "name=other")
    assert set(taken.last["fetched"].values()) == {place}
    assert set(taken.last["cached"]) == set(taken.last["fetched"])
    registry.stop()
    down = rebuild(edgec, digits, tmp_path, "own", "--cache-from", place, "--cache-to", place)
    assert down.stdout.splitlines()[-1] == str(tmp_path / "own-bundle")
    assert down.stderr.count(f"warning: shared cache {place}: registry '127.0.0.1:{registry.port}' cannot be") == 1


def test_a_place_that_is_neither_is_refused(edgec: Any, tmp_path: Path) -> None:
    outcome = edgec("build", "--cache-from", "s3://bucket/cache", "--cache", tmp_path)
    assert outcome.exit_code == 2
    message, hint = outcome.failure
    assert "'s3://bucket/cache' names no repository for stages" in message
    assert "oci://registry.example.com/cameras/cache" in hint
