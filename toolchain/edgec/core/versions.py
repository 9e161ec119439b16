"""Versions of the tools that a result depends on, read without importing them."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgec import __version__
from edgec.core.digest import digest_file, digest_value

__all__ = ["source_digest", "tool_versions"]

TOOLS = (
    *("numpy", "onnx", "onnxruntime", "onnxscript", "openvino"),
    *("scikit-learn", "torch", "torch-pruning", "torchvision"),
)


@cache
def tool_versions() -> dict[str, str]:
    """Versions by distribution name; what is not installed is left out."""
    found = {"edgec": __version__, "python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def source_digest() -> str:
    """SHA-256 over edgec's own code: a changed line makes old results old, in a checkout as after an upgrade."""
    package = Path(__file__).resolve().parents[1]
    files = sorted(p for p in package.rglob("*") if p.suffix in (".css", ".j2", ".js", ".py"))
    return digest_value([(p.relative_to(package).as_posix(), digest_file(p)) for p in files])
