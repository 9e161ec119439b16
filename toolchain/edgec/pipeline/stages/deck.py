"""Stage `deck`: the members' graphs as one, behind a gate that is fitted without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.digest import digest_file
from edgec.core.files import write_bytes
from edgec.core.frozen import Frozen
from edgec.core.gate import Gate
from edgec.core.samples import Images
from edgec.learn.config import Robust
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data, export, quantize
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey

if TYPE_CHECKING:
    from edgec.learn.gate import Looked

__all__ = ["Facts", "Judged", "Member", "key", "run", "shipped_key"]

LEAST_GAIN = 0.01
"""Share of the best member's divergence that a gate has to save to be worth its members' size."""
READS = (
    *MODEL_SETTINGS,
    *("config.deck", "config.export", "config.seed", "accelerator", "target.runtime", "target.quantization"),
    "target.family",
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """What the stages before made of one member.

    Attributes:
        fp32: Its graph before quantisation.
        model: Its graph as it would ship alone.
    """

    fp32: Path
    model: Path


class Judged(Frozen):
    """A member on views that the gate was not fitted to.

    Attributes:
        robust: What its student saw.
        sha256: Of its graph.
        picked: The share of the views that it gets.
        divergence: From the teacher on all views, in nat.
    """

    robust: Robust
    sha256: str
    picked: float
    divergence: float


class Facts(Frozen):
    """What the gate does on views that it was not fitted to.

    Attributes:
        members: In the order of the graph's output `member`.
        gate: What picks one of them.
        views: How many there are.
        divergence: From the teacher behind the gate, in nat.
        least: By the best pick for each view.
    """

    members: tuple[Judged, ...]
    gate: Gate
    views: int
    divergence: float
    least: float

    @property
    def summary(self) -> str:
        """What the gate does, for people."""
        shares = ", ".join(f"'{each.robust}' {100 * each.picked:.0f} %" for each in self.members)
        alone = ", ".join(f"'{each.robust}' alone {each.divergence:.3g}" for each in self.members)
        best = min(self.members, key=lambda each: each.divergence)
        useless = (
            f"; that is no nearer than '{best.robust}' alone, which compress.robust makes a smaller bundle of"
            if self.divergence > (1 - LEAST_GAIN) * best.divergence
            else ""
        )
        return (
            f"deck: of {self.views} views that the gate was not fitted to, {shares}; divergence from the teacher "
            f"{self.divergence:.3g} nat behind the gate, {alone}, {self.least:.3g} at best{useless}"
        )


def key(plan: Plan) -> StageKey | None:
    """The joined graph; None where there is no deck."""
    if not plan.is_deck:
        return None
    own = plan.key("deck", READS, opens=("model", "prior"), after=(data.key(plan), compress.key(plan)))
    graphs = {f"quantize, {each.config.compress.robust}": quantize.key(each).key for each in plan.members}
    return replace(own, sources={**own.sources, **graphs})


def shipped_key(plan: Plan) -> StageKey:
    """The stage whose graph ships: the deck, or what was quantised."""
    return key(plan) or quantize.key(plan)


def run(
    sources: Sources,
    folder: Path,
    *,
    images: Prepared,
    members: Mapping[Robust, Member],
    ood: compress.OodUse,
    trained_on: tuple[int, ...] | None,
) -> Facts:
    """Writes `fp32.onnx` and `model.onnx`.

    Args:
        sources: Plan and teacher.
        folder: Where the graphs go.
        images: The few samples, and the OOD images, of which views are made.
        members: In the order of `deck.members`.
        ood: What recovery made of the OOD images; the views are of the same.
        trained_on: Images of each class by which the graphs shift their logits; None where they do not.
    """
    import onnx

    from edgec.graph.deck import deck_of
    from edgec.learn.gate import fit_gate

    fitted, judged = (_looked(sources, images, members, ood, trained_on, seed=seed) for seed in (0, 1))
    gate = fit_gate(fitted)
    for name, graphs in {
        export.FP32: {label: member.fp32 for label, member in members.items()},
        quantize.MODEL: {label: member.model for label, member in members.items()},
    }.items():
        deck = deck_of({label: onnx.load(path) for label, path in graphs.items()}, gate)
        write_bytes(folder / name, deck.SerializeToString(deterministic=True))
    picks, mean = gate.picks_of(judged.spectra), judged.losses.mean(axis=0)
    return Facts(
        members=tuple(
            Judged(
                robust=label,
                sha256=digest_file(member.model),
                picked=float((picks == position).mean()),
                divergence=float(mean[position]),
            )
            for position, (label, member) in enumerate(members.items())
        ),
        gate=gate,
        views=len(picks),
        divergence=float(judged.losses[np.arange(len(picks)), picks].mean()),
        least=float(judged.losses.min(axis=1).mean()),
    )


def _looked(
    sources: Sources,
    images: Prepared,
    members: Mapping[Robust, Member],
    ood: compress.OodUse,
    trained_on: Sequence[int] | None,
    *,
    seed: int,
) -> Looked:
    """Views through teacher and members; another seed gives others."""
    from edgec.learn.gate import look_through
    from edgec.pipeline.confidence import as_taken, graph_run, shift_of, teacher_beside

    plan = sources.plan
    with ExitStack() as stack:
        runs = [graph_run(sources, sources.shipped_session(member.model)) for member in members.values()]
        return look_through(
            images.few,
            _pool(images, ood),
            plan.model.input,
            teacher=stack.enter_context(teacher_beside(sources, runs[0], shift_of(sources, trained_on))),
            members=runs,
            robust=tuple(members),
            share=plan.config.deck.share,
            taken=lambda batch: as_taken(sources, batch),
            seed=2 * plan.config.seed + seed,
        )


def _pool(images: Prepared, ood: compress.OodUse) -> Images:
    """The OOD images as recovery used them; none where it did not."""
    from edgec.compress.restyle import restyled

    if not ood.used:
        return images.ood.take(np.arange(0))
    return images.ood if ood.gap_restyled is None else restyled(images.ood, images.few)
