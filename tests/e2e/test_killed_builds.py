"""Builds that are killed at any moment: nothing half-written has a name, and the next run ends where it would have.

The builds are real processes, killed with SIGKILL. They are forked from a server that has imported everything already,
so that a build takes seconds and the moments fall on its stages and not on Python's imports.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.digest import digest_value
from edgec.core.errors import DataError
from edgec.core.files import DRAFT
from edgec.package import open_bundle
from support.brief import main

pytestmark = pytest.mark.slow

CONTEXT = multiprocessing.get_context("forkserver")
PRELOAD = [  # some are torch's own; the server passes over those that another torch does not have
    *("edgec.cli.build", "edgec.cli.console", "edgec.cli.summary", "edgec.compress.methods", "edgec.compress.oefsmc"),
    *("edgec.data", "edgec.export.onnx", "edgec.models.load", "edgec.models.checkpoint", "edgec.quantize.qdq"),
    *("edgec.pipeline.build", "edgec.pipeline.stages.evaluate", "edgec.pipeline.stages.package", "edgec.render.page"),
    *("lightning_fabric", "networkx", "onnxruntime.quantization", "sklearn.datasets", "torch_pruning", "torchvision"),
    *("onnxscript.function_libs.torch_lib", "torch._dynamo", "torch._export.db.logging", "torch._inductor"),
    *("torch.export.pt2_archive.constants", "torch.onnx._internal.exporter._core", "torch._dynamo.precompile_context"),
    "support.warm",
]
STEPS = (
    "compress.steps=2",
    'compress.oefsmc.parts=["compression", "finetuning"]',
    "compress.oefsmc.finetune.steps=2",
    "data.ood_count=60",
)
SEPARATE, CHAINED = 5, 15
"""Kills of builds that start from nothing, and of one build that is started again and again."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a build works."""

    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def archive(self) -> Path:
        return self.folder / "bundle.edgec"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def faults(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.faults")

    def start(self, *settings: str) -> ForkServerProcess:
        options = [part for setting in (*STEPS, *settings) for part in ("--set", setting)]
        places = ["--cache", str(self.cache), "--output", str(self.bundle)]
        arguments = ["build", "--target", "jetson", "--device", "cpu", *places, *options]
        process = CONTEXT.Process(target=main, args=(arguments, self.faults))
        process.start()
        return process

    def finish(self, *settings: str) -> tuple[str, Any]:
        """Builds undisturbed; gives what must not depend on how often it was killed before."""
        process = self.start(*settings)
        process.join()
        assert process.exitcode == 0, self.faults.read_text()
        model = hashlib.sha256((self.bundle / "model.onnx").read_bytes()).hexdigest()
        return model, json.loads((self.bundle / "manifest.json").read_bytes())["lineage"]

    def require_sound(self, *, before: set[str]) -> None:
        """Whatever has a name is whole; `before` are the names of the bundles that may stand there, '' for none."""
        for place in (self.bundle, self.archive):
            try:
                bundle = open_bundle(place)
                bundle.verify()
            except DataError:
                assert not place.exists()
                assert "" in before
            else:
                assert bundle.manifest.name in before
        visible = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
        assert visible <= {"bundle", "bundle.edgec", "cache"}
        for path in self.cache.glob("ranges/[!.]*"):
            held = json.loads(path.read_bytes())
            assert held["digest"] == digest_value([held["key"], held["ranges"]])
        for output in (path for path in self.cache.glob("[!.]*/[!.]*") if path.parent.name != "ranges"):
            record = json.loads((output / "stage.json").read_bytes())
            for name, digest in record["files"].items():
                assert hashlib.sha256((output / name).read_bytes()).hexdigest() == digest
        hidden = [*self.folder.glob(".*"), *self.cache.glob("*/.*")]
        assert all(path.name.endswith(DRAFT) for path in hidden)


def kill_after(place: Place, delay_s: float, *settings: str) -> bool:
    """Whether the build was still running when its time was up, and so was killed."""
    process = place.start(*settings)
    time.sleep(delay_s)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An undisturbed build."""

    result: tuple[str, Any]
    seconds: float


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    CONTEXT.set_forkserver_preload(PRELOAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # the server does not know this path yet
        Place(folder=tmp_path_factory.mktemp("first")).finish()  # starts the server, which imports
    place = Place(folder=tmp_path_factory.mktemp("reference"))
    started = time.perf_counter()
    result = place.finish()
    return Reference(result=result, seconds=time.perf_counter() - started)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def test_a_build_that_is_killed_at_any_moment_resumes_to_the_same_bytes(
    reference: Reference, rng: np.random.Generator, tmp_path: Path
) -> None:
    moments = (np.arange(SEPARATE) + rng.random(SEPARATE)) / SEPARATE  # one in each fifth of the build
    for number, moment in enumerate(moments):
        place = Place(folder=tmp_path / str(number))
        delay_s = moment * reference.seconds
        while not kill_after(place, delay_s):  # it was faster than the one that was timed
            shutil.rmtree(place.folder)
            delay_s /= 2
        if place.folder.exists():
            place.require_sound(before={"", "digits"})
        assert place.finish() == reference.result
        place.require_sound(before={"digits"})


def test_a_build_that_is_killed_again_and_again_gets_there_and_the_old_bundle_stays_until_then(
    reference: Reference, rng: np.random.Generator, tmp_path: Path
) -> None:
    place = Place(folder=tmp_path)
    place.finish("name=old")
    shutil.rmtree(place.cache)
    kills = 0
    while kills < CHAINED:
        delay_s = rng.uniform(0, reference.seconds / 2)
        if kill_after(place, delay_s):
            kills += 1
        else:
            shutil.rmtree(place.cache)
        place.require_sound(before={"old", "digits"})
    assert place.finish() == reference.result
    place.require_sound(before={"digits"})


INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import edgec.__main__ as m; m.main()"
)
"""The command, also where a shell that runs the tests in the background has SIGINT ignored, which children inherit."""


def test_ctrl_c_ends_a_build_with_130_and_without_a_traceback(tmp_path: Path) -> None:
    places = ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "bundle")]
    long = ["--set", "data.ood_count=20000"]
    command = [sys.executable, "-c", INTERRUPTIBLE, "build", "--device", "cpu", *places, *long]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            stdout, stderr = _interrupted(process)
        finally:
            process.kill()
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.split()[-1:] == ["interrupted"]
    assert "Traceback" not in stderr
    assert not (tmp_path / "bundle").exists()
    assert list((tmp_path / "cache").glob("*/*")) == []


def _interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a build says that gets Ctrl-C in its first stage."""
    assert process.stderr is not None
    while line := process.stderr.readline():
        if line.endswith("] data\n"):
            break
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=60)
