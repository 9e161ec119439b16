"""Checks a wheel and an sdist before they are published.

    python -m build && python tools/check_release.py dist

It checks the metadata, looks for the files that must be inside, and has the wheel find its profiles in a fresh
environment where nothing else is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

from packaging.metadata import ExceptionGroup, Metadata
from packaging.utils import parse_sdist_filename, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "toolchain" / "edgec"
DECLARED = ("targets", "calibration")


def main(folder: Path) -> None:
    """Exits with 1 and the faults, or with 0."""
    sys.exit("\n".join(faults_in(folder)) or None)


def faults_in(folder: Path) -> list[str]:
    """What is wrong with the one wheel and the one sdist in the folder."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if (len(wheels), len(sdists)) != (1, 1):
        return [
            f"{folder} holds {len(wheels)} wheels and {len(sdists)} sdists, expected one of each: empty it and build"
        ]
    wheel, sdist = wheels[0], sdists[0]
    faults = [*missing(wheel_names(wheel), wheel_files(), wheel), *missing(sdist_names(sdist), sdist_files(), sdist)]
    return [*faults, *bad_metadata(wheel, sdist), *bad_install(wheel)]


def missing(held: set[str], wanted: set[str], archive: Path) -> Iterator[str]:
    """Files that an archive lacks."""
    yield from (f"{archive.name} lacks {name}" for name in sorted(wanted - held))


def wheel_files() -> set[str]:
    """All of the package, and the declarations as its data."""
    package = {f"edgec/{path.relative_to(SOURCE).as_posix()}" for path in package_files()}
    return package | {f"edgec/_data/{path.relative_to(ROOT).as_posix()}" for path in declarations()}


def sdist_files() -> set[str]:
    """What builds the wheel again, and runs the tests."""
    tests = (ROOT / "tests", ROOT / "benchmarks", ROOT / "benchmarks" / "support")  # the last one is a link
    code = [*package_files(), *declarations(), *(path for folder in tests for path in folder.rglob("*.py"))]
    named = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")]
    return {path.relative_to(ROOT).as_posix() for path in (*code, *named)}


def package_files() -> list[Path]:
    """Modules, templates, weights and py.typed."""
    return [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def declarations() -> list[Path]:
    """Device profiles and calibration recipes."""
    return [path for name in DECLARED for path in (ROOT / name).glob("*.toml")]


def wheel_names(wheel: Path) -> set[str]:
    """Files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sdist_names(sdist: Path) -> set[str]:
    """Files in an sdist, without the folder that all of them are in."""
    with tarfile.open(sdist) as archive:
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}


def bad_metadata(wheel: Path, sdist: Path) -> Iterator[str]:
    """Faults of the metadata, and versions that differ."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name)
    try:
        held = Metadata.from_email(text)
    except ExceptionGroup as error:
        yield from (f"{wheel.name}: {fault}" for fault in error.exceptions)
        return
    versions = {str(held.version), str(parse_wheel_filename(wheel.name)[1]), str(parse_sdist_filename(sdist.name)[1])}
    if len(versions) > 1:
        yield f"versions differ: {', '.join(sorted(versions))}"
    if not BytesParser().parsebytes(text)["Project-URL"]:
        yield f"{wheel.name} names no project URLs"


def bad_install(wheel: Path) -> Iterator[str]:
    """What fails where only the wheel and its dependencies are installed."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        for command in (
            ["-m", "pip", "install", "--quiet", str(wheel.resolve())],
            ["-c", "import sys, edgec.runtime, edgec.package; assert 'torch' not in sys.modules"],
            ["-m", "edgec", "targets", "show", "jetson"],
        ):
            done = subprocess.run([python, *command], cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                yield f"{wheel.name}: python {' '.join(command)}: {done.stderr.strip()}"
                return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
