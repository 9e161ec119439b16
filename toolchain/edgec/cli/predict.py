"""`edgec predict`: what the device does, on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgec.cli.say import say
from edgec.cli.trust import find_trust, signed_by
from edgec.core.errors import DataError

if TYPE_CHECKING:
    from edgec.runtime import Model, Prediction

__all__ = ["command"]


@click.command("predict")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@signed_by
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each image.")
@click.option("--top", type=click.IntRange(min=1), metavar="K", help="Show the K best labels (table: 1, JSON: all).")
@click.option("--unknown", is_flag=True, help="Answer 'unknown' where the confidence is below the bundle's threshold.")
def command(
    bundle: Path,
    files: tuple[Path, ...],
    *,
    key: Path | None,
    certificate: Path | None,
    as_json: bool,
    top: int | None,
    unknown: bool,
) -> None:
    """Classify images with a BUNDLE, as the device would.

    FILE is an image (JPEG, PNG, TIFF and others) or a folder, which means all images below it.
    """
    from edgec.runtime import load_model

    model = load_model(bundle, trust=find_trust(key, certificate), tell=partial(say, err=True))
    if model.note:
        say(f"note: {model.note}", err=True)
    answers: list[tuple[Path, Prediction]] = []
    errors: list[DataError] = []
    for outcome in _outcomes(model, files, unknown=unknown):
        if isinstance(outcome, DataError):
            errors.append(outcome)
        elif as_json:
            click.echo(_json_line(*outcome, top))
        else:
            answers.append(outcome)
    if answers:
        _print_table(answers, top or 1)
    _require_none(errors)


def _require_none(errors: Sequence[DataError]) -> None:
    """Raises the one error, or names all of them and raises their sum."""
    if len(errors) == 1:
        raise errors[0]
    for error in errors:
        say(f"left out: {error}", err=True)
    if errors:
        raise DataError(f"{len(errors)} of the inputs could not be predicted", hint="each is named in a line above")


def _outcomes(model: Model, files: Iterable[Path], *, unknown: bool) -> Iterator[tuple[Path, Prediction] | DataError]:
    """What became of each image, in order."""
    from edgec.runtime import predict_files, prediction_of

    empty: list[DataError] = []
    for file, scores in predict_files(model, _images(files, empty)):
        if isinstance(scores, DataError):
            yield scores
        else:
            yield file, prediction_of(model, scores, unknown=unknown)
    yield from empty


def _images(given: Iterable[Path], empty: list[DataError]) -> Iterator[Path]:
    """Files themselves; of a folder its images, by name, those of its folders included. One without adds an error."""
    from edgec.core.images import SUFFIXES, image_files

    for path in given:
        if not path.is_dir():
            yield path
            continue
        found, _ = image_files(path)
        yield from found
        if not found:
            endings = ", ".join(sorted(SUFFIXES))
            empty.append(DataError(f"folder '{path}' holds no image ({endings})", hint="name image files, or a folder"))


def _json_line(file: Path, found: Prediction, top: int | None) -> str:
    scores = dict(islice(found.scores.items(), top))
    fields = {"file": str(file), "label": found.label, "score": found.score, "scores": scores}
    return json.dumps(fields if found.unknown is None else fields | {"unknown": found.unknown})


def _print_table(answers: Iterable[tuple[Path, Prediction]], top: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    table = Table("file", "label")
    table.add_column("score", justify="right")
    for file, found in answers:
        name = click.format_filename(file)
        if found.unknown:
            table.add_row(Text(name, overflow="fold"), f"({found.label})", "")
            name = ""
        for label, score in islice(found.scores.items(), top):
            table.add_row(Text(name, overflow="fold"), Text(label, overflow="fold"), f"{score:.4f}")
            name = ""
    Terminal().print(table)
