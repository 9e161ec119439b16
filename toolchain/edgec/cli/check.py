"""`edgec check`: holds a bundle against gates, for CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.trust import find_trust, signed_by
from edgec.core.errors import ConfigError, GateFailed

if TYPE_CHECKING:
    from edgec.core.progress import Progress
    from edgec.evaluate.gate_settings import Gates
    from edgec.evaluate.gates import GateResult

__all__ = ["command"]


class ShareType(click.ParamType):
    """A share from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; 90 is refused, because it was meant as a percentage."""
        from edgec.evaluate.gate_settings import require_share

        del ctx
        try:
            return require_share(float(value))
        except ValueError as error:
            flag = param.opts[0] if param else "share"
            raise ConfigError(f"{flag}: {error}", hint="shares run from 0 to 1: write 0.9 for 90 %") from error


class FloorType(click.ParamType):
    """A class and the share that it must reach."""

    name = "name=share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Name and share; a name may hold `=`, because the last one parts them."""
        label, found, share = value.rpartition("=")
        if not found or not label:
            raise ConfigError(f"--class-floor {value}: expected NAME=SHARE", hint="as in --class-floor cat=0.8")
        return label, ShareType().convert(share, param, ctx)


@click.command("check")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Take the [gates] of an edgec.toml.")
@click.option("--min-accuracy", type=ShareType(), help="Least accuracy on the test images.")
@click.option("--min-worst-class", "min_worst_class_accuracy", type=ShareType(), help="Least accuracy of any class.")
@click.option("--min-head", "min_head_accuracy", type=ShareType(), help="Least accuracy over the most frequent third.")
@click.option("--min-medium", "min_medium_accuracy", type=ShareType(), help="Least accuracy over the middle third.")
@click.option("--min-tail", "min_tail_accuracy", type=ShareType(), help="Least accuracy over the rarest third.")
@click.option("--min-macro-f1", type=ShareType(), help="Least macro F1.")
@click.option(
    "--class-floor", "floors", type=FloorType(), multiple=True, help="Least accuracy of one class; repeatable."
)
@click.option(
    "--min-agreement", "min_teacher_agreement", type=ShareType(), help="Least share of images with the teacher's class."
)
@click.option("--min-corrupted", "min_corrupted_accuracy", type=ShareType(), help="Least accuracy on corrupted images.")
@click.option(
    "--min-corrupted-worst-class",
    "min_corrupted_worst_class_accuracy",
    type=ShareType(),
    help="Least accuracy of any class on corrupted images.",
)
@click.option(
    "--min-ood-auroc",
    type=ShareType(),
    help="Least area under the ROC curve that separates test images from OOD images.",
)
@click.option("--max-calibration-error", type=ShareType(), help="Most expected calibration error.")
@click.option("--max-drop", "max_accuracy_drop", type=ShareType(), help="Most accuracy lost against the teacher.")
@click.option("--max-class-drop", type=ShareType(), help="Most accuracy lost against the teacher in any class.")
@click.option(
    "--max-tail-drop", type=ShareType(), help="Most accuracy lost against the teacher, mean over the rarest third."
)
@click.option("--max-macro-f1-drop", type=ShareType(), help="Most macro F1 lost against the teacher.")
@click.option("--baseline", type=click.Path(path_type=Path), metavar="BUNDLE", help="The bundle deployed now.")
@click.option("--test", type=click.Path(path_type=Path), metavar="PATH", help="Run the bundles on these images first.")
@click.option("--max-regression", type=ShareType(), help="Most accuracy lost against the baseline.")
@click.option(
    "--max-class-regression",
    type=ShareType(),
    help="Most accuracy lost against the baseline in any class. [default: 0 with --baseline]",
)
@click.option(
    "--max-tail-regression",
    type=ShareType(),
    help="Most accuracy lost against the baseline, mean over the rarest third.",
)
@click.option("--max-macro-f1-regression", type=ShareType(), help="Most macro F1 lost against the baseline.")
@click.option("--max-latency-ms", "max_latency_ms_p50", type=float, metavar="MS", help="Highest median latency.")
@click.option(
    "--max-latency-p90-ms",
    "max_latency_ms_p90",
    type=float,
    metavar="MS",
    help="Highest 90th percentile of the latency.",
)
@click.option(
    "--max-latency-p95-ms",
    "max_latency_ms_p95",
    type=float,
    metavar="MS",
    help="Highest 95th percentile of the latency.",
)
@click.option(
    "--max-latency-p99-ms",
    "max_latency_ms_p99",
    type=float,
    metavar="MS",
    help="Highest 99th percentile of the latency.",
)
@click.option("--max-size-bytes", type=int, metavar="BYTES", help="Largest model file.")
@click.option("--max-memory-mb", "max_peak_memory_mb", type=float, metavar="MB", help="Most peak memory.")
@click.option("--max-energy-j", type=float, metavar="J", help="Most energy for an image.")
@click.option(
    "--bench", type=click.Path(path_type=Path), metavar="FILE", help="The output of edgec bench --json on the device."
)
@signed_by
@click.option(
    "--policy",
    type=click.Choice(["strict", "confident", "prove"]),
    help="Fail by the estimate, fail only what is proven, or pass only what is.",
)
@click.option("--allow-predicted", is_flag=True, default=None, help="Let a predicted latency decide.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write what --json prints to a file.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write JUnit XML.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write a table for a job's summary.")
@click.option("--code-quality", type=click.Path(path_type=Path), metavar="FILE", help="Write GitLab's report.")
@click.option("--annotate", is_flag=True, help="Print GitHub's annotations.")
def command(
    bundle: Path,
    *,
    config: Path | None,
    baseline: Path | None,
    test: Path | None,
    bench: Path | None,
    key: Path | None,
    certificate: Path | None,
    floors: Sequence[tuple[str, float]],
    as_json: bool,
    output: Path | None,
    junit: Path | None,
    markdown: Path | None,
    code_quality: Path | None,
    annotate: bool,
    **limits: float | str | None,
) -> None:
    """Compare a BUNDLE with gates; exit 3 when one blocks it.

    BUNDLE is a folder or an archive. Gates come from the options and --config, options first; with neither, from the
    configuration that the bundle was built with. With --baseline, no class may be worse than in that bundle. Nothing is
    run, unless --test names labelled images. The file of --bench decides on latency, memory and energy.
    """
    from edgec.core.plain import in_json
    from edgec.core.progress import Silent
    from edgec.evaluate.gates import Check
    from edgec.pipeline.check import check_bundle
    from edgec.render import ci as outlets

    given = {name: limit for name, limit in limits.items() if limit is not None}
    asked = _asked(config, given | ({"min_class_accuracy": dict(floors)} if floors else {}))
    progress = _progress() if test else Silent()
    trust = find_trust(key, certificate)
    results = check_bundle(bundle, asked, baseline=baseline, test=test, bench=bench, trust=trust, progress=progress)
    name = bundle.resolve().name
    told = in_json(Check.of(results).model_dump_json())
    _write(
        {
            output: f"{told}\n".encode(),
            junit: outlets.junit(results, bundle=name),
            markdown: outlets.markdown(results, bundle=name).encode(),
            code_quality: outlets.code_quality(results, bundle=name).encode(),
        }
    )
    if annotate:
        click.echo(outlets.github_annotations(results), nl=False)
    blocking = [result for result in results if result.blocks]
    if as_json:
        click.echo(told)
    else:
        _print_table(results)
    if blocking:
        raise GateFailed(_summary(blocking, len(results)), hint=f"edgec report {bundle} shows every class")


def _progress() -> Progress:
    """Bars, for those who wait; what draws them takes longer to import than a check without images to run."""
    from edgec.cli.console import ConsoleProgress

    return ConsoleProgress()


def _write(files: Mapping[Path | None, bytes]) -> None:
    from edgec.core.files import require_writable, write_bytes

    for path, content in files.items():
        if path is not None:
            require_writable(path)
            write_bytes(path, content)


def _asked(config: Path | None, given: dict[str, Any]) -> Gates:
    """The gates of the options over those of the config file; floors class by class."""
    from pydantic import BaseModel, ConfigDict

    from edgec.core.declaration import bind, read_declaration
    from edgec.evaluate.gate_settings import Gates

    class Declared(BaseModel):
        """An edgec.toml, of which only the gates matter here."""

        model_config = ConfigDict(extra="ignore")
        gates: Gates

    declared = read_declaration(config, Declared, what="config").gates if config else Gates()
    asked = declared.model_dump(mode="json", exclude_defaults=True) | given
    floors = {**declared.min_class_accuracy, **given.get("min_class_accuracy", {})}
    return bind(asked | ({"min_class_accuracy": floors} if floors else {}), Gates, where="gates")


def _summary(failed: Sequence[GateResult], total: int) -> str:
    """One line: how many, and the first by name."""
    first = failed[0]
    what = f"{first.name} of '{first.label}'" if first.label else first.name
    return f"{len(failed)} of {total} gates not passed, first: {what} {first.verdict.value}"


def _print_table(results: Sequence[GateResult]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal
    from edgec.core.wording import format_amount
    from edgec.evaluate.gates import Verdict, fold_passes

    styles = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.add_column("gate", overflow="fold")
    for column in ("limit", "found", "verdict"):
        table.add_column(column, justify="right" if column != "verdict" else "left", no_wrap=True)
    reasons: dict[str, None] = {}
    for result, others in fold_passes(results):
        sign = "≥" if result.name.startswith("min_") else "≤"
        label = f" {result.label or ''}{f' and {others} more' if others else ''}"
        table.add_row(
            Text.assemble(result.name, (label, "bold")),
            f"{sign} {format_amount(result.name, result.limit)}",
            "–" if result.value is None else format_amount(result.name, result.value),
            Text(result.verdict.value, style=styles[result.verdict]),
        )
        if result.reason:
            reasons[f"{result.name}: {result.reason}"] = None
    console = Terminal()
    console.print(table)
    for reason in reasons:
        console.print(Text(reason, style="dim"))
    if told := dict.fromkeys(result.name for result in results if result.told and result.value is not None):
        console.print(Text(f"as the bundle says, not counted again: {', '.join(told)}", style="dim"))
