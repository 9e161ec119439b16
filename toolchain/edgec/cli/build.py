"""`edgec build`: the main job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.caches import opened_store, shared_caches
from edgec.cli.quantities import SIZE
from edgec.cli.say import say

if TYPE_CHECKING:
    from edgec.evaluate.gates import GateResult
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.build import Built
    from edgec.pipeline.family import BuiltFamily
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
@click.option(
    "--target",
    metavar="NAME|FILE,…",
    help="Device profile; see: edgec targets list. Several make a family. [default: host]",
)
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
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="The bundle's folder. [default: build/NAME-TARGET; of a family build/NAME]",
)
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
@shared_caches
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
    cache_from: tuple[str, ...],
    cache_to: tuple[str, ...],
    from_trial: int | None,
    tuned: Path | None,
    fail_on_gates: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Compress, calibrate, quantise, export, evaluate and package a classifier.

    Without a model and data, the embedded digits demonstration is built. Several targets, as in --target A,B,C or the
    config's [family], make a family: a folder with a bundle for each, which share what they have in common.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.build import build
    from edgec.pipeline.check import check_own_gates
    from edgec.pipeline.family import build_family
    from edgec.pipeline.rehearsal import rehearse
    from edgec.pipeline.store import Store

    given = [(FLAGS[name], value) for name, value in flags.items() if value is not None]
    given += map(parse_setting, settings)
    plans = _plans(config, given, Accelerator.named(device), trial=from_trial, tuned=tuned)
    progress = ConsoleProgress()
    if dry_run:
        store = Store(cache)
        for plan in plans:
            rehearse(plan, store, progress)
        _print_plans(plans, store, as_json=as_json)
        return
    with opened_store(cache, cache_from=cache_from, cache_to=cache_to, progress=progress) as store:
        if len(plans) == 1:
            built = build(plans[0], store=store, output=output, cache_limit_bytes=cache_limit, progress=progress)
            members, gates = (built,), (check_own_gates(built.bundle),)
            _print_result(built, gates[0], as_json=as_json)
        else:
            family = build_family(plans, store=store, output=output, cache_limit_bytes=cache_limit, progress=progress)
            members, gates = family.members, tuple(check_own_gates(each.bundle) for each in family.members)
            _print_family(family, gates, as_json=as_json)
    if fail_on_gates:
        _require_passed(members, gates)


def _plans(
    config: Path | None,
    given: list[tuple[str, Any]],
    accelerator: Accelerator,
    *,
    trial: int | None,
    tuned: Path | None,
) -> tuple[Plan, ...]:
    """One build, or the members of a family, whose targets the command line names, or else the config."""
    from edgec.core.errors import ConfigError
    from edgec.pipeline.budget import on_top
    from edgec.pipeline.config import read_config
    from edgec.pipeline.family import family_configs, plan_family
    from edgec.pipeline.plan import plan_build

    asked = dict(given).get("target")
    configs = family_configs(config, given, None if asked is None else [name.strip() for name in str(asked).split(",")])
    target = configs[0].target
    if len(configs) > 1 and trial is not None:
        raise ConfigError(f"--from-trial {trial}: a search has one target", hint=f"name it: --target {target}")
    plans = plan_family(configs, accelerator=accelerator)
    if trial is None:
        return plans
    more = _of_trial(plans[0], trial, tuned or Path("tune") / f"{plans[0].config.name}-{plans[0].target.name}")
    one = [*given, ("target", target)]
    return (plan_build(read_config(config, on_top(one, more)), accelerator=accelerator),)


def _require_passed(members: Sequence[Built], gates: Sequence[Sequence[GateResult]]) -> None:
    """Ends where a bundle is blocked by its own gates.

    Raises:
        GateFailed: One is.
    """
    from edgec.core.errors import GateFailed
    from edgec.render.headline import gate_text

    for built, results in zip(members, gates, strict=True):
        if blocking := [gate for gate in results if gate.blocks]:
            where = f"{built.bundle.name}: " if len(members) > 1 else ""
            raise GateFailed(
                f"{where}{len(blocking)} of {len(results)} gates not passed, first: {gate_text(blocking[0])}",
                hint=f"the bundle was written: edgec report {built.bundle} shows every class",
            )


def _of_trial(plan: Plan, number: int, folder: Path) -> dict[str, Any]:
    """What a candidate of a search sets, and from how many it is chosen."""
    from edgec.core.errors import ConfigError
    from edgec.tuning.search import identity_of, read_tuned

    tuned = read_tuned(folder)
    candidates = tuned.candidates
    if tuned.identity != identity_of(plan, tuned.timed_on):
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


def _print_plans(plans: Sequence[Plan], store: Store, *, as_json: bool) -> None:
    from edgec.pipeline.build import stage_keys

    if as_json:
        shown = [
            {
                "target": plan.target.name,
                "stages": [
                    {"stage": key.stage, "key": key.key, "cached": store.holds(key)} for key in stage_keys(plan)
                ],
            }
            for plan in plans
        ]
        click.echo(json.dumps(shown[0] if len(shown) == 1 else {"members": shown}))
        return
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    planned: set[str] = set()
    for plan in plans:
        table = Table("stage", "key", "state", box=None, pad_edge=False)
        for key in stage_keys(plan):
            state = "cached" if store.holds(key) else "shared" if key.key in planned else "to do"
            table.add_row(key.stage, key.key[:12], state)
            planned.add(key.key)
        Terminal().print(Text(f"plan for {plan.target.title}"), table, sep="\n")


def _print_result(built: Built, gates: Sequence[GateResult], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_answer(built, gates)))
        return
    from edgec.cli.summary import print_summary

    print_summary(built, gates)
    say(built.bundle)


def _print_family(family: BuiltFamily, gates: Sequence[Sequence[GateResult]], *, as_json: bool) -> None:
    if as_json:
        answers = [_answer(built, results) for built, results in zip(family.members, gates, strict=True)]
        seconds = round(family.seconds, 3)
        click.echo(json.dumps({"family": str(family.folder), "seconds": seconds, "members": answers}))
        return
    from edgec.cli.summary import print_family

    print_family(family.members, gates)
    say(family.page)
    say(family.folder)


def _answer(built: Built, gates: Sequence[GateResult]) -> dict[str, Any]:
    from edgec.evaluate.report import parse_report

    path = built.bundle / "report.json"
    report = parse_report(path.read_bytes(), where=str(path))
    return {
        "bundle": str(built.bundle),
        "report": str(path),
        "seconds": round(built.seconds, 3),
        "cached": list(built.cached),
        "fetched": dict(built.fetched),
        "passed": not any(gate.blocks for gate in gates) if gates else None,
        "loss": report.loss and report.loss.model_dump(mode="json"),
        "teacher": report.teacher and {**report.teacher.model_dump(mode="json"), "warning": report.teacher.warning},
        "costs": [row.model_dump(mode="json") for row in report.costs],
        "left_out": report.data.left_out,
        "leaks": [leak.model_dump(mode="json") for leak in report.data.leaks],
        "contradictions": list(report.data.contradictions),
    }
