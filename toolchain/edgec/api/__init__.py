"""What `import edgec` promises: build a bundle, tune, check, run it and read its report, without the command line.

Every function is the one that the command of its name calls, and raises the same `EdgecError`. Values are frozen and
show themselves in a notebook.
"""

from __future__ import annotations

from edgec.api.calls import build, build_family, check, load, report, targets, tune
from edgec.api.values import Bundle, Family, Model, Prediction, Report, Tuning, Verdict
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
    "build",
    "build_family",
    "check",
    "load",
    "report",
    "targets",
    "tune",
]
