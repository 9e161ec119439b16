"""A study as a Markdown page: the table, the gains, and in what our setting differs from the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.core.plain import in_markdown
from edgec.learn.config import Budget
from edgec.pipeline.config import DataConfig
from edgec.study.few_sample.findings import Findings, Measured
from edgec.study.few_sample.table import Gain, Row, gains, rows
from edgec.study.wording import format_points, format_seconds, format_share, format_spread, markdown_table, network_name

__all__ = ["format_figure", "notes", "render_page"]


def render_page(findings: Findings, *, plot: str) -> str:
    """The page.

    Args:
        findings: What to show.
        plot: Name of the plot's file, which stands beside the page.
    """
    plan, table = findings.study.plan, rows(findings)
    parts = [
        f"# Few-sample study: {plan.config.name}",
        _setting(findings),
        f"![Accuracy and worst class by method and variant]({plot})",
        markdown_table(_head(table), _body(findings, table)),
    ]
    if found := gains(findings.outcomes):
        parts += ["## What the recipe brings, and what the OOD images bring", _gain_table(found)]
    parts += ["## Notes", "\n".join(f"- {in_markdown(note)}" for note in notes(findings, table))]
    return "\n\n".join(parts) + "\n"


def _setting(findings: Findings) -> str:
    plan = findings.study.plan
    budget = plan.config.compress
    return (
        f"{in_markdown(network_name(plan.model.name))}, {len(findings.labels)} classes, "
        f"{findings.teacher.images:,} test images. "
        f"Every method is to keep {_budget(budget)}, and has {budget.steps:,} steps "
        "to recover. Accuracies in percent, mean ± deviation over seeds."
    )


def _budget(budget: Budget) -> str:
    setting, value = budget.asked
    kinds = {"keep_flops": "% of the multiply-adds", "keep_latency": "% of the latency", "max_latency_ms": "ms"}
    return f"{value if setting == 'max_latency_ms' else 100 * value:g} {kinds[setting]}"


_COLUMNS = {
    "accuracy": "top-1",
    "worst_class_accuracy": "worst class",
    "head_accuracy": "head",
    "medium_accuracy": "medium",
    "tail_accuracy": "tail",
}


def _head(table: Sequence[Row]) -> tuple[str, ...]:
    paper = ("published",) if any(row.paper for row in table) else ()
    return ("method", "variant", "M", "imbalance", "seeds", *_COLUMNS.values(), "FLOPs kept", "s/run", *paper)


def _body(findings: Findings, table: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    teacher = [format_share(getattr(findings.teacher, name)) for name in ("accuracy", "worst_class_accuracy")]
    yield ("teacher", "", "", "", "", *teacher)
    for row in table:
        cell = row.cell
        first = (cell.method, cell.variant.name, str(cell.samples), f"{cell.imbalance:g}")
        if not row.spreads:
            yield (*first, "0", f"does not apply: {row.reason}")
            continue
        shares = (format_spread(row.spreads.get(name)) for name in _COLUMNS)
        yield (
            *(*first, str(row.spreads["accuracy"].n), *shares),
            format_share(row.spreads["kept_flops"].mean),
            format_seconds(row.spreads["seconds"].mean),
            format_figure(row),
        )


def format_figure(row: Row) -> str:
    """The paper's figure, with a mark where something speaks against it."""
    return f"{format_share(row.paper.accuracy)}{'†' if row.paper.remark else ''}" if row.paper else ""


def _gain_table(found: Sequence[Gain]) -> str:
    head = ("method", "variant", "over", "M", "imbalance", "seeds", "top-1, points", "worst class, points")
    lines = (
        (
            *(gain.cell.method, gain.cell.variant.name, gain.over),
            *(str(gain.cell.samples), f"{gain.cell.imbalance:g}"),
            str(gain.spreads["accuracy"].n),
            *(format_points(gain.spreads[name]) for name in ("accuracy", "worst_class_accuracy")),
        )
        for gain in found
    )
    return markdown_table(head, lines)


def notes(findings: Findings, table: Sequence[Row]) -> Iterator[str]:
    """What a reader should know, the difference to the paper's setting among it."""
    yield "deviation: of the sample of seeds (n − 1)"
    yield "gains are differences in pairs of the same seed, with the 95 % interval of their mean (Student's t)"
    yield "few over plain is what the recipe brings, ours over few what the OOD images bring"
    yield (
        "head, medium, tail: a third of the classes each, by few samples; a dash where all classes have as many. "
        "Which classes are rare differs from seed to seed"
    )
    measured = [(o.cell.draw, o.result) for o in findings.outcomes if isinstance(o.result, Measured)]
    if measured:
        counts = {draw: f"{draw}, {min(result.counts)} to {max(result.counts)}" for draw, result in measured}
        yield f"few samples of a class: {'; '.join(counts.values())}"
        yield f"s/run: the compression alone, on {' and on '.join(sorted({result.where for _, result in measured}))}"
    yield from _paper_notes(findings, table)


def _paper_notes(findings: Findings, table: Sequence[Row]) -> Iterator[str]:
    """In what our setting differs, where a figure of the paper stands in the table."""
    figures = [row.paper for row in table if row.paper]
    if not figures:
        return
    config, seeds = findings.study.plan.config, findings.study.grid.seeds
    network = network_name(config.model.name)
    tables = " and ".join(sorted({str(figure.table) for figure in figures}))
    yield (
        f"published (arXiv 2502.05832, table {tables}): {figures[0].setting}, each method at the pruning rate of its "
        "own paper, five runs, accuracy of the teacher and source of the OOD images not given. "
        f"Here: {network}, {_budget(config.compress)}, "
        f"{len(seeds)} seed{'s' * (len(seeds) > 1)}, OOD images from {_ood(config.data)}. "
        "So gains may be compared, levels may not"
    )
    yield from sorted({f"†: {figure.remark}" for figure in figures if figure.remark})


def _ood(data: DataConfig) -> str:
    return f"'{data.ood.name}'" if data.ood else "the built-in source"
