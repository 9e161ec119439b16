"""Installs the peers, each in a virtual environment of its own, with the versions that are written here.

    python benchmarks/peers/environments.py [PEER ...] [--environments FOLDER]

Uses uv where it is there, else the standard library's venv and pip. AIMET and ModelOpt bring torch with its CUDA
libraries, some gigabytes. An environment whose versions are those written here is left as it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["DEFAULT", "PINS", "NotInstalledError", "interpreter"]

DEFAULT = Path("~/.cache/edgec-peers")
PINS = {
    "onnxruntime": ("onnxruntime==1.31.1", "onnx==1.23.2", "numpy==2.4.6", "sympy==1.14.0"),
    "nncf": ("nncf==3.4.0", "onnxruntime==1.31.1", "onnx==1.23.2", "numpy==2.4.6"),
    "modelopt": (
        "nvidia-modelopt[onnx]==0.47.0",
        "onnxruntime-gpu==1.24.4; platform_machine == 'x86_64'",
        "onnx==1.21.0",
        "numpy==2.4.6",
        "torch==2.15.0",
    ),
    "aimet": ("aimet-onnx==2.42.0", "onnxruntime==1.31.1", "onnx==1.23.2", "numpy==2.4.6", "torch==2.15.0"),
}
RECORD = "edgec-peer.txt"
"""Written into a finished environment: what was asked for."""


class NotInstalledError(Exception):
    """An environment cannot be made here; the message is the installer's last line."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PINS)}; all where none is named")
    parser.add_argument("--environments", type=Path, default=DEFAULT, metavar="FOLDER", help=f"default: {DEFAULT}")
    given = parser.parse_args()
    if unknown := [name for name in given.peers if name not in PINS]:
        parser.error(f"no peer '{unknown[0]}'; expected one of {', '.join(PINS)}")
    failed = False
    for name in given.peers or PINS:
        try:
            print(f"{name}: {interpreter(name, given.environments)}")
        except NotInstalledError as error:
            failed = True
            print(f"{name}: does not install here: {error}")
    return int(failed)


def interpreter(name: str, folder: Path) -> Path:
    """The Python of a peer's environment, which is made where it is not there in these versions.

    Raises:
        NotInstalledError: The installer fails.
    """
    environment = folder.expanduser().absolute() / name
    record, wanted = environment / RECORD, "\n".join(PINS[name])
    python = environment / "bin" / "python"
    if not record.is_file() or record.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(environment, ignore_errors=True)
        _install(environment, python, PINS[name])
        record.write_text(wanted, encoding="utf-8")
    return python


def _install(environment: Path, python: Path, pins: tuple[str, ...]) -> None:
    if shutil.which("uv"):
        _call("uv", "venv", "--quiet", "--python", sys.executable, str(environment))
        _call("uv", "pip", "install", "--quiet", "--python", str(python), *pins)
    else:
        _call(sys.executable, "-m", "venv", str(environment))
        _call(str(python), "-m", "pip", "install", "--quiet", *pins)


def _call(*command: str) -> None:
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"'{command[0]}' ended with {error.returncode}"]
        raise NotInstalledError(lines[-1].strip()) from error
    except OSError as error:
        raise NotInstalledError(f"'{command[0]}' does not start: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
