"""An imbalance study as a Markdown page: the table, and what a reader should know of the setting."""

from __future__ import annotations

from collections.abc import Iterator

from edgec.core.plain import in_markdown
from edgec.study.imbalance.findings import Findings, Measured
from edgec.study.imbalance.table import Row, rows
from edgec.study.spread import Spread
from edgec.study.wording import (
    format_points,
    format_seconds,
    format_spread,
    markdown_table,
    network_name,
)

__all__ = ["format_ratio", "notes", "render_page"]

_HEAD = (
    *("trained on", "compression", "seeds", "macro F1", "gap Δ", "Δ − uncompressed, points", "ratio", "robust"),
    *("top-1", "worst class", "tail", "weights", "Mibit", "s/run"),
)


def render_page(findings: Findings, *, plot: str) -> str:
    """The page.

    Args:
        findings: What to show.
        plot: Name of the plot's file, which stands beside the page.
    """
    parts = [
        f"# Imbalance study: {findings.study.plan.config.name}",
        _setting(findings),
        f"![Macro F1 and gap by training set and compression]({plot})",
        markdown_table(_HEAD, map(_line, rows(findings))),
        "## Notes",
        "\n".join(f"- {in_markdown(note)}" for note in notes(findings)),
    ]
    return "\n\n".join(parts) + "\n"


def _setting(findings: Findings) -> str:
    study, training = findings.study, findings.study.grid.training
    images = next(o.result.images for o in findings.outcomes if isinstance(o.result, Measured))
    return (
        f"{in_markdown(network_name(study.plan.model.name))}, {len(findings.labels)} classes, {images:,} test images. "
        "Every net is "
        f"trained from scratch for {training.length}, compressed or not, and trained for as many more. "
        "Scores in percent, mean ± deviation over seeds."
    )


def _line(row: Row) -> tuple[str, ...]:
    first = (row.cell.draw.name, row.cell.compression)
    if not row.spreads:
        return (*first, "0", f"does not apply: {row.reason}")
    spread = row.spreads.get
    return (
        *(*first, str(row.spreads["macro_f1"].n), format_spread(spread("macro_f1"))),
        *(format_spread(row.gap), _excess(row.excess)),
        *(format_ratio(row.ratio), row.robust.value if row.robust else "–"),
        *(format_spread(spread(name)) for name in ("accuracy", "worst_class_accuracy", "tail_accuracy")),
        f"{row.spreads['weights'].mean:,.0f}",
        f"{row.spreads['size_mibit'].mean:.2f}",
        format_seconds(row.spreads["seconds"].mean),
    )


def _excess(spread: Spread | None) -> str:
    """`+6.0 ± 3.4 (−2.4 to +14.4)`; a dash where there is none."""
    if spread is None:
        return "–"
    ends = [format_points(Spread(mean=end, deviation=None, n=1)) for end in spread.interval or ()]
    return format_points(spread) + (f" ({' to '.join(ends)})" if ends else "")


def format_ratio(ratio: float | None) -> str:
    """`1.32`; a dash where there is none."""
    return "–" if ratio is None else f"{ratio:.2f}"


def notes(findings: Findings) -> Iterator[str]:
    """What a reader should know, the difference to the paper's setting among it."""
    yield "gap: Δ = (F1 balanced − F1 imbalanced) / F1 balanced, of the same compression, in pairs of the same seed"
    yield ("ratio: mean Δ over that of the uncompressed net. A dash where imbalance costs the uncompressed net nothing")
    yield (
        "robust: yes where the ratio is at most 1, no where it is above, by the 95 % interval of Δ − uncompressed over "
        "the seeds (Student's, in brackets); where that holds 0, not settled: more seeds would tell"
    )
    yield "deviation: of the sample of seeds (n − 1)"
    yield "tail: the third of the classes with the fewest training images. Which these are differs from seed to seed"
    measured = [(o.cell.draw.name, o.result) for o in findings.outcomes if isinstance(o.result, Measured)]
    counts = {name: f"{name}: {max(r.counts)} to {min(r.counts)}, {sum(r.counts):,} in all" for name, r in measured}
    yield f"training images of a class, {'; '.join(counts.values())}"
    yield (
        "weights: of convolutions and linear layers; Mibit: 2^20 bits of them, of a quantised net 32 each in the first "
        "and the last layer"
    )
    yield f"s/run: the last training alone, on {' and on '.join(sorted({r.where for _, r in measured}))}"
