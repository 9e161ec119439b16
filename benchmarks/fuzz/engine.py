"""One target under libFuzzer, whose options these are: `python engine.py TARGET CORPUS -max_total_time=600`."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

atheris: Any = import_module("atheris")  # it declares fewer names than it has

sys.path[0] = str(Path(__file__).resolve().parents[1])

from fuzz import load  # noqa: E402 - found by the path above


def main() -> None:
    name, corpus, *options = sys.argv[1:]
    with atheris.instrument_imports(include=_instrumented(name), enable_loader_override=False):
        target = load(name)
    for number, data in enumerate(target.seeds()):
        (Path(corpus) / f"seed-{number}").write_bytes(data)
    mutate = getattr(target, "mutate", None)
    own = {"custom_mutator": lambda data, most, seed: mutate(data, most, seed, atheris.Mutate)} if mutate else {}
    atheris.Setup([sys.argv[0], corpus, *options], target.check, **own)
    atheris.Fuzz()


def _instrumented(name: str) -> list[str]:
    """What the target names, read without importing it: only what is imported later can be instrumented."""
    tree = ast.parse((Path(__file__).with_name(f"{name}.py")).read_text(encoding="utf-8"))
    return next(
        list(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "INSTRUMENTED"
    )


main()
