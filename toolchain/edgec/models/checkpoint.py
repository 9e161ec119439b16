"""A compressed classifier on disk: weights and history; its architecture is its teacher's with fewer channels."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

from edgec.core.classifier import Classifier, Step
from edgec.core.files import read_json, write_bytes, write_json
from edgec.models.rebuild import rebuild_
from edgec.models.weights import read_weights

__all__ = ["load_student", "save_student"]

WEIGHTS = "student.safetensors"
HISTORY = "history.json"


def save_student(student: Classifier, folder: Path) -> None:
    """Writes weights and history into a folder."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in student.module.cpu().state_dict().items()}
    write_bytes(folder / WEIGHTS, save(state))
    write_json(folder / HISTORY, [asdict(step) for step in student.history])


def load_student(teacher: Classifier, folder: Path) -> Classifier:
    """The student that was saved, as a classifier of its own."""
    module = copy.deepcopy(teacher.module)
    rebuild_(module, read_weights(folder / WEIGHTS))
    history = tuple(Step(**step) for step in read_json(folder / HISTORY))
    return replace(teacher, module=module.eval(), history=history)
