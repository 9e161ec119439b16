"""`edgec build`: the main job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.quantities import SIZE
from edgec.cli.say import say

if TYPE_CHECKING:
    from edgec.evaluate.gates import GateResult
    from edgec.pipeline.build import Built
    from edgec.pipeline.plan import Plan
    from edgec.pipeline.store import Store

__all__ = ["command", "parse_setting"]

FLAGS = {
    "target": "target",
    "seed": "seed",
    "model": "model.name",
    "weights": "model.weights",
    "train": "data.train",
    "test": "data.test",
    "calibration": "data.calibration",
    "validation": "data.validation",
    "unlabelled": "data.unlabelled",
    "ood": "data.ood",
}
"""Flags that stand for a setting of the config, by its dotted name."""


@click.command("build")
@click.option("--config", type=click.Path(path_type=Path), help="An edgec.toml; write one with: edgec init.")
@click.option("--target", metavar="NAME|FILE", help="Device profile; see: edgec targets list. [default: host]")
@click.option(
    "--model",
    metavar="NAME",
    help="torchvision:NAME, timm:NAME, transformers:FOLDER, module:factory, or a FILE.onnx.",
)
@click.option("--weights", type=click.Path(), help="The model's .safetensors or .pt file.")
@click.option("--train", type=click.Path(), help="Labelled samples: class folders, a table, .npz and others.")
@click.option("--test", type=click.Path(), help="Labelled test images.")
@click.option("--calibration", type=click.Path(), help="Labelled images for the ranges alone.")
@click.option("--validation", type=click.Path(), help="Labelled images by which edgec tune chooses.")
@click.option("--unlabelled", type=click.Path(), help="Unlabelled images of the classes: a folder or .npz.")
@click.option("--ood", type=click.Path(), help="Unlabelled images of anything: a folder or .npz.")
@click.option("--output", type=click.Path(path_type=Path), help="The bundle's folder. [default: build/NAME-TARGET]")
@click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a setting, as in compress.steps=500."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seeds every draw. [default: 0]")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option(
    "--cache", type=click.Path(path_type=Path), default=Path(".edgec/cache"), show_default=True, help="Stage cache."
)
@click.option(
    "--cache-limit", type=SIZE, default="10GB", show_default=True, help="Size to which the stage cache is cut back."
)
@click.option(
    "--from-trial", type=click.IntRange(min=0), metavar="N", help="Take the settings of edgec tune's candidate."
)
@click.option(
    "--tuned", type=click.Path(path_type=Path), help="The folder of --from-trial's search. [default: tune/NAME-TARGET]"
)
@click.option("--fail-on-gates", is_flag=True, help="Exit 3 when one of the config's [gates] blocks the bundle.")
@click.option("--dry-run", is_flag=True, help="Load the weights, open the images, print the plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    *,
    config: Path | None,
    output: Path | None,
    settings: tuple[str, ...],
    device: str,
    cache: Path,
    cache_limit: int,
    from_trial: int | None,
    tuned: Path | None,
    fail_on_gates: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Compress, calibrate, quantise, export, evaluate and package a classifier.

    Without a model and data, the embedded digits demonstration is built.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.core.errors import GateFailed
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.budget import on_top
    from edgec.pipeline.build import build
    from edgec.pipeline.check import check_own_gates
    from edgec.pipeline.config import read_config
    from edgec.pipeline.plan import plan_build
    from edgec.pipeline.rehearsal import rehearse
    from edgec.pipeline.store import Store
    from edgec.render.headline import gate_text

    given = [(FLAGS[name], value) for name, value in flags.items() if value is not None]
    given += map(parse_setting, settings)
    plan = plan_build(read_config(config, given), accelerator=Accelerator.named(device))
    if from_trial is not None:
        more = _of_trial(plan, from_trial, tuned or Path("tune") / f"{plan.config.name}-{plan.target.name}")
        plan = plan_build(read_config(config, on_top(given, more)), accelerator=Accelerator.named(device))
    store = Store(cache)
    if dry_run:
        rehearse(plan, store, ConsoleProgress())
        _print_plan(plan, store, as_json=as_json)
        return
    built = build(plan, store=store, output=output, cache_limit_bytes=cache_limit, progress=ConsoleProgress())
    gates = check_own_gates(built.bundle)
    _print_result(built, gates, as_json=as_json)
    blocking = [gate for gate in gates if gate.blocks]
    if blocking and fail_on_gates:
        raise GateFailed(
            f"{len(blocking)} of {len(gates)} gates not passed, first: {gate_text(blocking[0])}",
            hint=f"the bundle was written: edgec report {built.bundle} shows every class",
        )


def _of_trial(plan: Plan, number: int, folder: Path) -> dict[str, Any]:
    """What a candidate of a search sets, and from how many it is chosen."""
    from edgec.core.errors import ConfigError
    from edgec.tuning.search import identity_of, read_tuned

    tuned = read_tuned(folder)
    candidates = tuned.candidates
    if tuned.identity != identity_of(plan):
        raise ConfigError(
            f"--from-trial {number}: the search at '{folder}' had another config, other images or another version",
            hint="give the config, --set, --seed, --target and --validation of that search",
        )
    if number >= len(candidates):
        raise ConfigError(
            f"--from-trial {number}: the search at '{folder}' has candidates 0 to {len(candidates) - 1}",
            hint=f"{folder}/tune.html shows them",
        )
    if candidates[number].error is not None:
        raise ConfigError(
            f"--from-trial {number}: it could not be built: {candidates[number].error}",
            hint=f"{folder}/tune.html shows those that could",
        )
    return {**candidates[number].settings, "report.chosen_from": len(candidates)}


def parse_setting(text: str) -> tuple[str, Any]:
    """`compress.steps=500` as a dotted name and a value; values are read as TOML, else as text."""
    from edgec.core.errors import ConfigError
    from edgec.pipeline.config import parse_value

    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {text}: expected KEY=VALUE", hint="as in --set compress.keep_flops=0.4")
    return name.strip(), parse_value(value.strip())


def _print_plan(plan: Plan, store: Store, *, as_json: bool) -> None:
    from edgec.pipeline.build import stage_keys

    if as_json:
        stages = [{"stage": key.stage, "key": key.key, "cached": store.holds(key)} for key in stage_keys(plan)]
        click.echo(json.dumps({"target": plan.target.name, "stages": stages}))
        return
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    table = Table("stage", "key", "state", box=None, pad_edge=False)
    for key in stage_keys(plan):
        table.add_row(key.stage, key.key[:12], "cached" if store.holds(key) else "to do")
    Terminal().print(Text(f"plan for {plan.target.title}"), table, sep="\n")


def _print_result(built: Built, gates: Sequence[GateResult], *, as_json: bool) -> None:
    if as_json:
        from edgec.evaluate.report import parse_report

        path = built.bundle / "report.json"
        report = parse_report(path.read_bytes(), where=str(path))
        answer = {
            "bundle": str(built.bundle),
            "report": str(path),
            "seconds": round(built.seconds, 3),
            "cached": list(built.cached),
            "passed": not any(gate.blocks for gate in gates) if gates else None,
            "loss": report.loss and report.loss.model_dump(mode="json"),
            "teacher": report.teacher and {**report.teacher.model_dump(mode="json"), "warning": report.teacher.warning},
            "costs": [row.model_dump(mode="json") for row in report.costs],
            "left_out": report.data.left_out,
            "leaks": [leak.model_dump(mode="json") for leak in report.data.leaks],
            "contradictions": list(report.data.contradictions),
        }
        click.echo(json.dumps(answer))
        return
    from edgec.cli.summary import print_summary

    print_summary(built, gates)
    say(built.bundle)
