"""Proof without a GPU: TensorRT's parser and builder, in their RTX flavour, take the graph and see int8 everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.errors import UnsupportedError
from edgec.core.facts import FloatOperator, TensorRTCheck

if TYPE_CHECKING:
    from edgec.core.target import Target

__all__ = ["prove", "rtx_version"]

TIME_LIMIT_S = 600.0
"""A net of 100 million weights takes less than a minute on two cores."""
_BATCH = 8
_ATTENTION = "a product of two activations, as in attention: in floating point by the rule of docs/targets.md §3"
_KEPT = "kept in floating point by this build"
_HINT = "see docs/targets.md §3; without the package tensorrt-rtx the build goes on and says that nothing was proven"


def prove(
    model: Path, target: Target, *, kept: Collection[str] = (), time_limit_s: float = TIME_LIMIT_S
) -> TensorRTCheck:
    """Parses and builds a graph ahead of time, and looks at every convolution and matrix product.

    It runs in a process of its own, which may crash or hang: that proves nothing, and the verdict says so.

    Args:
        model: The file that ships.
        target: Its scheme says whether int8 is promised.
        kept: Names of operators that stay in floating point on purpose.
        time_limit_s: Then it is given up.

    Raises:
        UnsupportedError: The parser or the builder refuses the graph, or an operator is in floating point that nobody
            asked for.
    """
    tool = rtx_version()
    if tool is None:
        return _unproven(
            None, "not proven: tensorrt-rtx is not installed; pip install 'edgec[trt-check]' on x86-64 or aarch64"
        )
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        found = _examined(model, Path(folder), time_limit_s)
    if isinstance(found, str):
        return _unproven(tool, f"not proven: {found}")
    return _judged(found, target, tool, frozenset(kept))


def rtx_version() -> str | None:
    """`tensorrt-rtx` and its version; None where it is not installed."""
    if find_spec("tensorrt_rtx") is None:
        return None
    try:
        return f"tensorrt-rtx {version('tensorrt-rtx')}"
    except PackageNotFoundError:
        return "tensorrt-rtx"


def _examined(model: Path, folder: Path, time_limit_s: float) -> dict[str, Any] | str:
    """What the worker found, or why it found nothing."""
    request, answer = folder / "request.json", folder / "answer.json"
    request.write_text(json.dumps({"model": str(model.resolve()), "batch": _BATCH}), encoding="utf-8")
    worker = Path(__file__).with_name("ahead_worker.py")
    command = [sys.executable, str(worker), str(request), str(answer)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=time_limit_s, check=False)
    except subprocess.TimeoutExpired:
        return f"the builder did not end within {time_limit_s:g} s"
    if done.returncode or not answer.exists():
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return f"the builder ended with status {done.returncode}: {last[0]}"
    return json.loads(answer.read_text(encoding="utf-8"))


def _judged(found: dict[str, Any], target: Target, tool: str, kept: frozenset[str]) -> TensorRTCheck:
    if found["refused"]:
        raise UnsupportedError(f"{tool} refuses the graph: {_first(found['refused'])}", hint=_HINT)
    operators: list[dict[str, Any]] = found["operators"]
    int8 = [each for each in operators if all(each["int8"])]
    rest = [each for each in operators if not all(each["int8"])]
    if target.quantization.scheme.is_int8:
        wrong = [each["name"] for each in rest if each["weights"] and each["name"] not in kept]
        if wrong:
            raise UnsupportedError(
                f"{tool} sees {len(wrong)} of {len(operators)} convolutions and matrix products in floating point that "
                f"were to be int8: {_first(wrong)}",
                hint=_HINT,
            )
    if not found["built"]:
        why = _first(found["messages"] or ["no message"])
        raise UnsupportedError(f"{tool} cannot build the graph: {why}", hint=_HINT)
    floats = [FloatOperator(name=each["name"], reason=_KEPT if each["weights"] else _ATTENTION) for each in rest]
    return TensorRTCheck(
        tool=tool,
        proven=True,
        int8=dict(sorted(Counter(each["operator"] for each in int8).items())),
        floats=tuple(floats) if target.quantization.scheme.is_int8 else (),
        engine_bytes=found["engine_bytes"],
        seconds=found["seconds"],
        note=_verdict(tool, target, len(int8), len(floats)),
    )


def _verdict(tool: str, target: Target, int8: int, floats: int) -> str:
    promised = f"{int8} convolutions and matrix products in int8 on both inputs, {floats} in floating point on purpose"
    what = f"; {promised}" if target.quantization.scheme.is_int8 else ""
    newer = f" Its parser is newer than the device's {target.runtime.version}." if target.runtime.version else ""
    return (
        f"{tool} parsed the graph and built an engine ahead of time, without a GPU{what}. It is the RTX flavour of "
        f"TensorRT: that proves parser, types and placement, not speed.{newer}"
    )


def _unproven(tool: str | None, note: str) -> TensorRTCheck:
    return TensorRTCheck(tool=tool, proven=False, int8={}, floats=(), engine_bytes=0, seconds=0.0, note=note)


def _first(texts: Sequence[str]) -> str:
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return f"{texts[0]}{more}"
