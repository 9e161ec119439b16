"""`edgec track`: a bundle's numbers and files into MLflow."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from edgec.cli.say import say

__all__ = ["command"]


@click.command("track")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--to",
    envvar="MLFLOW_TRACKING_URI",
    required=True,
    metavar="URI",
    help="MLflow's tracking server, as in http://localhost:5000. Default: MLFLOW_TRACKING_URI.",
)
@click.option(
    "--experiment",
    envvar="MLFLOW_EXPERIMENT_NAME",
    default="edgec",
    show_default=True,
    metavar="NAME",
    help="MLflow experiment; created if it does not exist.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(bundle: Path, *, to: str, experiment: str, as_json: bool) -> None:
    """Write a BUNDLE's metrics, parameters and files into MLflow as one run, and print its address.

    BUNDLE is a folder or an archive. A bundle that MLflow has already, by its digest, is not written again.
    """
    from edgec.track.mlflow import track_bundle

    found = track_bundle(bundle, to=to, experiment=experiment)
    if not found.is_new:
        say("note: this bundle had been tracked before", err=True)
    say(json.dumps(asdict(found)) if as_json else found.url or found.run)
