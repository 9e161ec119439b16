"""The command line called in this process, and builds that many tests look at, made once for all processes of a run."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from edgec.cli import main
from support.brief import brief_measuring

QUICK = ("compress.steps=20", "data.ood_count=60")
"""Settings of a build that takes seconds. What it makes is a bundle like any other, but no good classifier."""
CLASSES = tuple("0123456789")
WHOLE = frozenset({"e2e", "integration"})
"""Folders of tests that build, train and deploy."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command did."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def last(self) -> Any:
        """The JSON of the last line of stdout."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def failure(self) -> tuple[str, str]:
        """Error and hint of a command that failed; stderr holds no other, and no traceback."""
        lines = self.stderr.splitlines()
        errors, hints = ([line for line in lines if line.startswith(word)] for word in ("error: ", "hint: "))
        assert (len(errors), len(hints)) == (1, 1), self.stderr
        assert "Traceback" not in self.stderr
        return errors[0].removeprefix("error: "), hints[0].removeprefix("hint: ")


@dataclass(frozen=True, kw_only=True)
class Build:
    """A finished build."""

    bundle: Path
    cache: Path
    arguments: tuple[str, ...]
    outcome: Outcome

    @property
    def archive(self) -> Path:
        return self.bundle.with_name(f"{self.bundle.name}.edgec")

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.bundle / "manifest.json").read_bytes())

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.bundle / "report.json").read_bytes())


Edgec = Callable[..., Outcome]
Builder = Callable[..., Build]


def run_edgec(*arguments: object, briefly: bool = True) -> Outcome:
    """`edgec ARGUMENTS`, in this process. Builds measure latencies briefly, unless told otherwise."""
    out, err = io.StringIO(), io.StringIO()
    measuring = brief_measuring() if briefly and arguments[:1] == ("build",) else contextlib.nullcontext()
    with (
        measuring,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main([str(argument) for argument in arguments])
    return Outcome(exit_code=int(ended.value.code or 0), stdout=out.getvalue(), stderr=err.getvalue())


def run_build(
    folder: Path,
    *arguments: object,
    settings: tuple[str, ...] = QUICK,
    cache: Path | None = None,
    briefly: bool = True,
) -> Build:
    """`edgec build` into a folder, with a cache of its own where none is given; it must succeed."""
    cache = cache or folder / "cache"
    options = [option for setting in settings for option in ("--set", setting)]
    whole = (
        "--device",
        "cpu",
        "--cache",
        str(cache),
        "--output",
        str(folder / "bundle"),
        *options,
        *map(str, arguments),
    )
    outcome = run_edgec("build", *whole, briefly=briefly)
    assert outcome.exit_code == 0, outcome.stderr
    return Build(bundle=folder / "bundle", cache=cache, arguments=whole, outcome=outcome)


def pytest_configure(config: pytest.Config) -> None:
    """Gives each of several processes a core of its own, in one thread: threads of two that share cores slow both."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        if config.getoption("numprocesses", default=None):
            os.environ["OMP_NUM_THREADS"] = "1"  # inherited by processes that are yet to start, and to import torch
    elif hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files come first, then those of whole builds: no process has a long one left when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, WHOLE.isdisjoint(item.path.parts)))


def pytest_collection_finish() -> None:
    """Where tests export, the exporter is made faster."""
    if "edgec.export.onnx" in sys.modules:
        importlib.import_module("support.exporter")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run see."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def once(shared_folder: Path) -> Callable[[str, Callable[[Path], Any]], Any]:
    """What is made in a folder by the first process that asks for it; others wait, and get the same. Pickled."""

    def get(name: str, make: Callable[[Path], Any]) -> Any:
        kept = shared_folder / f"{name}.pickle"
        with FileLock(shared_folder / f"{name}.lock"):
            if not kept.exists():
                (shared_folder / name).mkdir(exist_ok=True)
                kept.write_bytes(pickle.dumps(make(shared_folder / name)))
        return pickle.loads(kept.read_bytes())

    return get


@pytest.fixture(scope="session")
def edgec() -> Edgec:
    """Runs a command in this process."""
    return run_edgec


@pytest.fixture(scope="session")
def builder() -> Builder:
    """Runs a build in this process."""
    return run_build


@pytest.fixture(scope="session")
def digits(once: Callable[[str, Callable[[Path], Any]], Any]) -> Build:
    """The embedded default for a Jetson, with plain compression beside it and two gates. Nobody may change it."""
    gates = ("--set", "gates.min_accuracy=0.01", "--set", "gates.max_class_drop=1.0")
    return once("digits", lambda folder: run_build(folder, "--target", "jetson", *gates))


@pytest.fixture(scope="session")
def plain_cache(shared_folder: Path) -> Path:
    """A cache that builds without compression share: their images are drawn once."""
    return shared_folder / "plain-cache"


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as PNG files: `train` and `test` with a folder per class, `ood` with noise in one folder."""
    from edgec.data import load_digits_splits

    root = tmp_path_factory.mktemp("images")
    for name, samples, count in zip(("train", "test"), load_digits_splits(), (6, 8), strict=True):
        for label, class_name in enumerate(samples.classes):
            folder = root / name / class_name
            folder.mkdir(parents=True)
            for position in np.flatnonzero(samples.labels == label)[:count]:
                pixels = samples.pixels[np.array([position])][0, ..., 0]
                Image.fromarray(pixels).save(folder / f"{position}.png")
    (root / "ood").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for position, pixels in enumerate(noise):
        Image.fromarray(pixels).save(root / "ood" / f"{position}.png")
    return root
