"""Which of torchvision's own weights tell how an architecture was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Likely", "likely_weights"]


@dataclass(frozen=True, kw_only=True)
class Likely:
    """Weights by the name of their enum, as in `ResNet18_Weights.IMAGENET1K_V1`.

    Attributes:
        certain: Whether a file is theirs, by its name, which ends in its digest.
    """

    name: str
    certain: bool


def likely_weights(architecture: str, file: str | Path | None) -> Likely | None:
    """Of the weights that torchvision has for an architecture those whose file this is, else the first ones.

    Args:
        architecture: `torchvision:NAME`, or the bare name; None comes of any other.
        file: A weights file, if one is given.
    """
    source, _, name = architecture.rpartition(":")
    if source not in ("", "torchvision") or name.lower().endswith(".onnx"):
        return None
    import torchvision

    try:
        enum = torchvision.models.get_model_weights(name)
    except ValueError:
        return None
    own = Path(file).name if file else None
    named = {weights.url.rpartition("/")[2]: weights for weights in enum}
    found = named.get(own or "")
    return Likely(name=f"{enum.__name__}.{(found or next(iter(enum))).name}", certain=found is not None)
