"""edgec: bring an image classifier to an edge device without losing its rare classes.

What is listed here is public and kept; everything else may change in any release. Names are loaded when they are first
used, so `import edgec` takes a millisecond.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost more than all the rest
if TYPE_CHECKING:
    from edgec.api import (
        Bundle,
        Family,
        Model,
        Prediction,
        Report,
        Tuning,
        Verdict,
        build,
        build_family,
        check,
        load,
        report,
        targets,
        tune,
    )
    from edgec.core.errors import EdgecError

__all__ = [
    "Bundle",
    "EdgecError",
    "Family",
    "Model",
    "Prediction",
    "Report",
    "Tuning",
    "Verdict",
    "__version__",
    "build",
    "build_family",
    "check",
    "load",
    "report",
    "targets",
    "tune",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Loads a public name (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'edgec' has no attribute '{name}'")
    from importlib import import_module

    found = getattr(import_module("edgec.api"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What is public."""
    return sorted(__all__)
