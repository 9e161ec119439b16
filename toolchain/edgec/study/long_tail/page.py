"""A long-tail study as a Markdown page: the tables, the gains, the paper's figures, and how our setting differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from edgec.core.plain import in_markdown
from edgec.study.long_tail.findings import Findings, Measured
from edgec.study.long_tail.published import IMBALANCE, PAPER
from edgec.study.long_tail.table import GAINED, Gain, Row, gains, rows
from edgec.study.wording import format_points, format_seconds, format_spread, markdown_table, network_name

__all__ = ["notes", "render_page"]

_COLUMNS = {
    "accuracy": "top-1",
    "head_accuracy": "head",
    "medium_accuracy": "medium",
    "tail_accuracy": "tail",
    "worst_class_accuracy": "worst class",
}


def render_page(findings: Findings, *, plot: str) -> str:
    """The page.

    Args:
        findings: What to show.
        plot: Name of the plot's file, which stands beside the page.
    """
    parts = [
        f"# Long-tail study: {findings.study.plan.config.name}",
        _setting(findings),
        f"![Accuracy and tail by loss and adjustment]({plot})",
    ]
    found = gains(findings)
    for title, group in groupby(rows(findings), key=lambda row: row.group):
        parts += [f"## {in_markdown(title)}", _table(list(group))]
        if own := [gain for gain in found if gain.group == title]:
            parts += ["What losses and adjustments bring, in points:", _gain_table(own)]
    parts += ["## In the paper", _paper_table()]
    parts += ["## Notes", "\n".join(f"- {in_markdown(note)}" for note in notes(findings))]
    return "\n\n".join(parts) + "\n"


def _setting(findings: Findings) -> str:
    study = findings.study
    images = next(o.result.images for o in findings.outcomes if isinstance(o.result, Measured))
    return (
        f"{in_markdown(network_name(study.plan.model.name))}, {len(findings.labels)} classes, {images:,} test images. "
        f"Every teacher is trained from scratch for {study.grid.taught.length} on a long tail, every student for "
        f"{study.grid.training.length} on the same images. Accuracies in percent, mean ± deviation over seeds."
    )


def _table(group: Sequence[Row]) -> str:
    return markdown_table(("loss", "adjusted", "seeds", *_COLUMNS.values(), "s/run"), map(_line, group))


def _line(row: Row) -> tuple[str, ...]:
    first = (row.cell.loss, row.cell.adjusted)
    if not row.spreads:
        return (*first, "0", f"does not apply: {row.reason}")
    figures = (format_spread(row.spreads.get(name)) for name in _COLUMNS)
    return (*first, str(row.spreads["accuracy"].n), *figures, format_seconds(row.spreads["seconds"].mean))


def _gain_table(found: Sequence[Gain]) -> str:
    head = ("loss", "over", "seeds", *(_COLUMNS[name] for name in GAINED))
    lines = (
        (
            *(gain.cell.name, gain.over.name, str(gain.spreads["accuracy"].n)),
            *(format_points(gain.spreads[name]) if name in gain.spreads else "–" for name in GAINED),
        )
        for gain in found
    )
    return markdown_table(head, lines)


def _paper_table() -> str:
    head = ("ImageNet-LT", "loss", *(f"{what} at γ = {ratio}" for ratio in IMBALANCE for what in ("tail", "all")))
    lines = (
        (row.pair, row.loss, *(f"{figure:.2f}" for both in zip(row.tail, row.whole, strict=True) for figure in both))
        for row in PAPER
    )
    return markdown_table(head, lines)


def notes(findings: Findings) -> Iterator[str]:
    """What a reader should know, the difference to the paper's setting among it."""
    grid = findings.study.grid
    yield "deviation: of the sample of seeds (n − 1)"
    yield "gains are differences in pairs of the same seed, with the 95 % interval of their mean (Student's t)"
    yield (
        "head, medium, tail: a third of the classes each, by training images. Which classes are rare differs from seed "
        "to seed; teacher and students of a seed share them"
    )
    yield (
        f"losses: those of the logits at temperature {grid.temperature:g}, weighed as by default (docs/methods.md §3), "
        "beside the labels' cross-entropy of weight 1; -alone leaves the labels out; LTKD has three groups"
    )
    yield (
        "adjusted: the class frequencies are taken out of the labels' loss, the teacher's logits, or both (logit "
        "adjustment, τ = 1)"
    )
    if "few" in grid.data:
        yield (
            "pruned: the teacher is pruned, then recovered with few samples by [compress]; features is that recovery "
            "as it is, which compares no logits"
        )
    measured = [(o, o.result) for o in findings.outcomes if isinstance(o.result, Measured)]
    tails = {
        o.group: f"{o.group}: {max(r.counts)} to {min(r.counts)}, {sum(r.counts):,} in all"
        for o, r in measured
        if o.cell.loss == "teacher"
    }
    yield f"the teacher's training images of a class, {'; '.join(tails.values())}"
    yield f"s/run: the last training or compression alone, on {' and on '.join(sorted({r.where for _, r in measured}))}"
    yield (
        "in the paper (arXiv 2506.18496): other nets, on ImageNet-LT and with the whole of it; α, β, temperature and "
        "what stands beside the losses are not given in what we could read. So gains may be compared, levels may not"
    )
