"""A Raspberry Pi's bundle, run by edgec's own runtime on emulated Arm cores, as docs/targets.md §5 has it.

qemu, an Arm Python and its libraries come from Debian's packages, unpacked without being installed; the base
dependencies are wheels for Arm. All of it is kept in the folder `EDGEC_ARM_CACHE`, where that is set. Takes minutes, so that
a plain `pytest` passes it over: `pytest -m slow tests/e2e/test_arm.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.runtime import load_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKED = Path(os.environ.get("EDGEC_DATA", ROOT.parent / "shared" / "data"))
IMAGES = 200
MIRROR = "http://deb.debian.org/debian"
QEMU = "trixie"
"""Debian 12's qemu 7.2 crashes in onnxruntime 1.31."""
SYSTEM = ("bookworm", "python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
PYTHON = "3.11"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
FETCH_S = 240
RUN_S = 420

RUN = """
import json, platform, sys
from pathlib import Path
import numpy as np
from edgec.core.host import this_host
from edgec.runtime import load_model

model = load_model(Path(sys.argv[1]))
with np.load(sys.argv[2]) as given:
    logits = np.concatenate([model.session.logits(image[None]) for image in given["pixels"]])
np.save(sys.argv[3], logits)
model.smoke_test()
loaded = sorted({name.partition(".")[0] for name in sys.modules})
told = {"machine": platform.machine(), "features": sorted(this_host().features), "note": model.note, "loaded": loaded}
print(json.dumps(told))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # fetching, a build without compression, and twice 200 images under emulation
    pytest.mark.skipif(not (PACKED / "cifar10_test.webp").is_file(), reason=f"no packed CIFAR-10 in {PACKED}"),
    pytest.mark.skipif(
        platform.machine() != "x86_64" or not all(map(shutil.which, ("apt-get", "dpkg", "tar"))),
        reason="emulation is set up from Debian's packages for x86-64: no apt-get and dpkg here",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What stands in for a device: emulator, system and wheels."""

    qemu: Path
    system: Path
    wheels: Path

    def python(self, cpu: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs Python on an emulated core, with edgec from the source tree and nothing of this machine's own."""
        paths = f"{self.wheels}:{ROOT / 'toolchain'}"
        python = self.system / "usr/bin" / f"python{PYTHON}"
        command = [self.qemu, "-cpu", cpu, "-L", self.system, python, "-W", "error", *arguments]
        environment = {"PYTHONHOME": str(self.system / "usr"), "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [str(word) for word in command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )


@pytest.fixture(scope="module")
def arm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Arm:
    kept = os.environ.get("EDGEC_ARM_CACHE")
    if not kept and "slow" not in request.config.option.markexpr:
        pytest.skip("minutes of downloads and emulation: run it with -m slow, or set EDGEC_ARM_CACHE")
    folder = Path(kept).resolve() if kept else tmp_path_factory.mktemp("arm")
    done = folder / "complete"
    if not done.is_file():
        for part in ("qemu", "system", "wheels"):
            shutil.rmtree(folder / part, ignore_errors=True)
        unpack_packages(folder / "qemu", "amd64", QEMU, "qemu-user", only="./usr/bin/qemu-aarch64")
        unpack_packages(folder / "system", "arm64", *SYSTEM)
        fetch_wheels(folder / "wheels")
        done.touch()
    qemu = folder / "qemu" / "root" / "usr/bin/qemu-aarch64"
    return Arm(qemu=qemu, system=folder / "system" / "root", wheels=folder / "wheels")


def fetch(command: list[str], what: str) -> None:
    """Runs a command that downloads; the tests are skipped where it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{what} took more than {FETCH_S} s")
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        pytest.skip(f"{what} cannot be fetched: {last}")


def unpack_packages(folder: Path, architecture: str, suite: str, *packages: str, only: str = ".") -> None:
    """Debian packages and what they need below `folder/root`; apt keeps its state there and touches no other."""
    for part in ("state/lists/partial", "cache/archives/partial", "root"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb {MIRROR} {suite} main\n", encoding="utf-8")
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::Retries": 2,
        "Debug::NoLocking": 1,
    }
    apt = [
        "apt-get",
        "--quiet",
        "--yes",
        *(word for pair in options.items() for word in ("-o", "=".join(map(str, pair)))),
    ]
    fetch([*apt, "update"], f"the list of Debian's packages for {architecture}")
    fetch(
        [*apt, "install", "--download-only", "--no-install-recommends", *packages], f"{packages[0]} for {architecture}"
    )
    for package in sorted((folder / "cache" / "archives").glob("*.deb")):
        data = subprocess.run(["dpkg", "--fsys-tarfile", str(package)], capture_output=True, check=True).stdout
        command = ["tar", "--extract", "--directory", str(folder / "root"), only]
        subprocess.run(command, input=data, capture_output=True, check=True)


def fetch_wheels(folder: Path) -> None:
    """The base dependencies, for Arm."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("pip") or ""]
    if not pip[0]:
        pytest.skip("no pip here to fetch wheels with")
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    how = ["--quiet", "--no-compile", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    requirements = [text for text in project["dependencies"] if "python_version" not in text]
    fetch([*pip, "install", "--target", str(folder), *platforms, *how, *requirements], "wheels for Arm")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 as the build reads it, and of its test images those that are compared."""
    folder = tmp_path_factory.mktemp("cifar10")
    command = [sys.executable, str(ROOT / "benchmarks" / "unpack_mosaics.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "EDGEC_DATA": str(PACKED)})
    with np.load(folder / "cifar10_test.npz") as given:
        images = {name: given[name] if name == "names" else given[name][:IMAGES] for name in given.files}
    np.savez(folder / "cifar10_test.npz", **images)
    return folder


@pytest.fixture(scope="module")
def build(builder: Any, cifar: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds ResNet-20 as it was trained, in int8, for a target."""
    images = {"train": "cifar10_train", "test": "cifar10_test", "ood": "cifar100_ood"}
    flags = [part for flag, name in images.items() for part in (f"--{flag}", cifar / f"{name}.npz")]
    config = ROOT / "benchmarks" / "configs" / "cifar10-resnet20.toml"
    weights = ["--weights", PACKED / "resnet20_cifar10.safetensors"]
    cache = tmp_path_factory.mktemp("cache")

    def make(target: str) -> Path:
        folder = tmp_path_factory.mktemp(target)
        chosen = ["--config", config, "--target", target, *weights, *flags]
        return builder(folder, *chosen, settings=("compress.method=none",), cache=cache).bundle

    return make


@pytest.mark.parametrize(("target", "cpu"), [("raspberry-pi-4", "cortex-a72"), ("raspberry-pi-5", "cortex-a76")])
def test_a_bundle_says_the_same_on_arm(
    target: str, cpu: str, arm: Arm, build: Any, cifar: Path, tmp_path: Path, record_property: Any
) -> None:
    bundle = build(target)
    with np.load(cifar / "cifar10_test.npz") as given:
        pixels = given["images"]
    np.savez(tmp_path / "images.npz", pixels=pixels)
    (tmp_path / "run.py").write_text(RUN, encoding="utf-8")

    done = arm.python(cpu, tmp_path / "run.py", bundle, tmp_path / "images.npz", tmp_path / "logits.npy")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["machine"] == "aarch64"
    assert ("asimddp" in told["features"]) == (cpu == "cortex-a76")
    assert told["note"] is None
    assert not {"torch", "onnx", "sklearn", "openvino"} & set(told["loaded"])

    here = load_model(bundle).session.logits(pixels)
    on_arm = np.load(tmp_path / "logits.npy")
    same = float((here.argmax(1) == on_arm.argmax(1)).mean())
    record_property("same_class", same)
    assert same >= 0.99  # the bar
