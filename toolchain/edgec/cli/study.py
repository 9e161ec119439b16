"""`edgec study`: a paper's tables, run again on a person's own model and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgec.cli.build import parse_setting
from edgec.cli.caches import shared_caches
from edgec.cli.options import together
from edgec.cli.study_run import Kind, Outlet, carry_out, few_sample_record, imbalance_record, long_tail_record
from edgec.cli.study_tables import print_few_sample, print_imbalance, print_long_tail

if TYPE_CHECKING:
    from edgec.study.lists import Lists

__all__ = ["command"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
GridT = TypeVar("GridT", bound="Lists")


class ListType(click.ParamType):
    """Values with commas between them; the grid says what each must be."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The values as text."""
        del param, ctx
        return tuple(part.strip() for part in value.split(",") if part.strip())


@click.group("study", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Rerun a paper's tables on your own model and images."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


_config = click.option(
    "--config", type=click.Path(path_type=Path), help="An edgec.toml; without one, the digits are studied."
)
_seeds = click.option(
    "--seeds", type=ListType(), metavar="NUMBERS", help="Seeds of every draw and training. [default: 0,1,2]"
)


def _shared_options(*, output: str, setting: str) -> Callable[[FunctionT], FunctionT]:
    """Options that every study has, behind its own."""
    return together(
        click.option(
            "--set", "settings", metavar="KEY=VALUE", multiple=True, help=f"Override a setting, as in {setting}."
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where to train.",
        ),
        click.option("--output", type=click.Path(path_type=Path), help=f"Folder for the results. [default: {output}]"),
        click.option(
            "--cache",
            type=click.Path(path_type=Path),
            default=Path(".edgec/cache"),
            show_default=True,
            help="Folder that keeps finished runs.",
        ),
        shared_caches,
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Processes that make runs, which share the cores. Each holds model and images of its own.",
        ),
        click.option("--dry-run", is_flag=True, help="Print what would run and stop."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."),
    )


def _training_options(*, steps: str) -> Callable[[FunctionT], FunctionT]:
    """Options of studies that train nets from scratch."""
    return together(
        click.option(
            "--samples",
            type=int,
            help="Training images of the most frequent class. [default: as many as every class has]",
        ),
        click.option("--steps", type=int, help=f"{steps} [default: 200]"),
        click.option("--epochs", type=int, help="Epochs instead of steps."),
        click.option("--batch-size", type=int, help="Images a step. [default: 32]"),
        click.option("--learning-rate", type=float, help="Peak learning rate. [default: 0.1]"),
        click.option("--weight-decay", type=float, help="Of all weights. [default: 0.0002]"),
    )


@command.command("few-sample")
@_config
@click.option(
    "--methods", type=ListType(), metavar="NAMES", help="Compression methods. [default: all that take any net]"
)
@click.option(
    "--variants", type=ListType(), metavar="NAMES", help="Some of plain, paper, few, ours. [default: all four]"
)
@click.option("--samples", type=ListType(), metavar="NUMBERS", help="Total labelled samples. [default: 50]")
@click.option(
    "--imbalance",
    type=ListType(),
    metavar="NUMBERS",
    help="Samples of the most frequent class over those of the rarest. [default: 100]",
)
@click.option("--seeds", type=ListType(), metavar="NUMBERS", help="Seeds of every draw. [default: 0,1,2]")
@click.option(
    "--without",
    type=ListType(),
    metavar="PARTS",
    help="Ablations: leave out nothing, compression, finetuning or all, one after the other.",
)
@_shared_options(output="study/NAME", setting="compress.steps=500")
def few_sample(
    *,
    config: Path | None,
    settings: tuple[str, ...],
    device: str,
    **options: Any,
) -> None:
    """Compress with every method: alone, with OE-FSMC as published, and with our recipe, without and with OOD images.

    Each is run for every total of samples, imbalance and seed; lists are given as in --samples 10,20,50. A run is
    stored when it is finished: a study that was cut short is resumed.
    """
    from edgec.core.declaration import bind
    from edgec.pipeline.accelerator import Accelerator
    from edgec.study.few_sample.grid import Grid
    from edgec.study.few_sample.plan import general_methods, plan_study
    from edgec.study.few_sample.run import run_study
    from edgec.study.few_sample.write import write_study

    outlet = Outlet.taken(options)
    given = {name: values for name, values in options.items() if values is not None}
    grid = bind({"methods": general_methods(), **given}, Grid, where="study few-sample")
    study = plan_study(config, [parse_setting(text) for text in settings], grid, accelerator=Accelerator(device))
    kind = Kind(name="few-sample", run=run_study, write=write_study, show=print_few_sample, record=few_sample_record)
    carry_out(kind, study, outlet)


@command.command("imbalance")
@_config
@click.option("--profiles", type=ListType(), metavar="NAMES", help="Some of step, linear. [default: both]")
@click.option(
    "--minority", type=ListType(), metavar="NUMBERS", help="Numbers of rare classes in the step profile. [default: 5]"
)
@click.option(
    "--imbalance",
    type=ListType(),
    metavar="NUMBERS",
    help="Images of the most frequent class over those of the rarest. [default: 20]",
)
@click.option(
    "--compressions",
    type=ListType(),
    metavar="NAMES",
    help="pruned-mild, pruned-moderate, pruned-severe, a8w4 and the like, distilled-a8w4 and the like. [default: "
    "pruned-moderate,pruned-severe,a8w4,a3w3,distilled-a3w3]",
)
@_seeds
@_training_options(steps="Steps of every training, and again after compression.")
@_shared_options(output="study/NAME-imbalance", setting="compress.flip=false")
def imbalance(
    *,
    config: Path | None,
    settings: tuple[str, ...],
    device: str,
    **options: Any,
) -> None:
    """Train on imbalanced classes, compress, and compare how much accuracy the imbalance costs.

    Every net is trained from scratch on balanced classes, and on every profile, imbalance and seed; then it is pruned,
    quantised (DoReFa), or distilled into its quantised self. Lists are given as in --imbalance 10,100. A run is stored
    when it is finished: a study that was cut short is resumed.
    """
    from edgec.pipeline.accelerator import Accelerator
    from edgec.study.imbalance.grid import Grid
    from edgec.study.imbalance.plan import plan_study
    from edgec.study.imbalance.run import run_study
    from edgec.study.imbalance.write import write_study

    outlet = Outlet.taken(options)
    grid = _trained_grid(Grid, options, where="study imbalance")
    study = plan_study(config, [parse_setting(text) for text in settings], grid, accelerator=Accelerator(device))
    kind = Kind(name="imbalance", run=run_study, write=write_study, show=print_imbalance, record=imbalance_record)
    carry_out(kind, study, outlet)


@command.command("long-tail")
@_config
@click.option(
    "--pairs",
    type=ListType(),
    metavar="NAMES",
    help="TEACHER/STUDENT architectures, as in resnet56/resnet20. [default: the config's, which teaches itself]",
)
@click.option(
    "--imbalance",
    type=ListType(),
    metavar="NUMBERS",
    help="Images of the most frequent class over those of the rarest. [default: 50]",
)
@click.option(
    "--losses",
    type=ListType(),
    metavar="NAMES",
    help="labels; kd, dkd, dist, ltkd beside the labels; kd-alone, ltkd-alone and the like without. [default: "
    "labels,kd,dkd,dist,ltkd,ltkd-alone]",
)
@click.option(
    "--adjusted",
    type=ListType(),
    metavar="NAMES",
    help="What the class frequencies are taken out of: nothing, labels, teacher, both. [default: nothing,labels,both]",
)
@click.option(
    "--data",
    type=ListType(),
    metavar="NAMES",
    help="whole: students learn from the whole long tail; few: the teacher is pruned and recovered with few samples. "
    "[default: whole]",
)
@_seeds
@click.option("--temperature", type=float, help="Of the losses of logits. [default: 4]")
@click.option("--teacher-steps", type=int, help="Steps of the teacher's training. [default: as the student's]")
@_training_options(steps="Steps of every training.")
@_shared_options(output="study/NAME-long-tail", setting="compress.flip=false")
def long_tail(
    *,
    config: Path | None,
    settings: tuple[str, ...],
    device: str,
    **options: Any,
) -> None:
    """Train teachers on a long tail of classes, and students from them with every loss.

    Teacher and student are trained from scratch for every pair, imbalance and seed; the student learns from labels,
    from the teacher's logits (KD, DKD, DIST, LTKD), or both, with the class frequencies left in or taken out. Lists are
    given as in --imbalance 10,100. A run is stored when it is finished: a study that was cut short is resumed.
    """
    from edgec.pipeline.accelerator import Accelerator
    from edgec.study.long_tail.grid import Grid
    from edgec.study.long_tail.plan import plan_study
    from edgec.study.long_tail.run import run_study
    from edgec.study.long_tail.write import write_study

    outlet = Outlet.taken(options)
    grid = _trained_grid(Grid, options, where="study long-tail")
    study = plan_study(config, [parse_setting(text) for text in settings], grid, accelerator=Accelerator(device))
    kind = Kind(name="long-tail", run=run_study, write=write_study, show=print_long_tail, record=long_tail_record)
    carry_out(kind, study, outlet)


def _trained_grid(schema: type[GridT], varied: Mapping[str, Any], *, where: str) -> GridT:
    """The grid of a study that trains nets from scratch: what is varied, and how nets are trained."""
    from edgec.core.declaration import bind
    from edgec.study.config import Training

    given = {name: value for name, value in varied.items() if value is not None}
    training = {name: given.pop(name) for name in Training.model_fields if name in given}
    return bind({**given, "training": training}, schema, where=where)
