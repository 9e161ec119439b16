"""The C++ program of `examples/cpp`, compiled: it makes of a picture what edgec makes of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec, normalise

SOURCE = Path(__file__).resolve().parents[3] / "examples" / "cpp" / "preprocess.cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    made = tmp_path_factory.mktemp("cpp") / "preprocess"
    subprocess.run([compiler, "-std=c++17", "-ffp-contract=off", "-Wall", "-Werror", SOURCE, "-o", made], check=True)
    return made


@pytest.mark.parametrize(("height", "width"), [(61, 97), (301, 200), (32, 32), (20, 41)])
def test_the_program_gives_the_bits_that_edgec_gives(program: Path, height: int, width: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    spec = InputSpec(height=56, width=56, resize="short-side", crop_share=0.875)
    done = subprocess.run(
        [program, str(width), str(height), "64", "56"], input=pixels.tobytes(), capture_output=True, check=True
    )
    got = np.frombuffer(done.stdout, np.float32).reshape(3, 56, 56)
    np.testing.assert_array_equal(got, normalise(fit_pixels(pixels, spec)[None], spec)[0])
