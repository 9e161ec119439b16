"""Lists of labelled files: CSV, TSV, JSON lines or Parquet with columns `path` and `label`, or COCO's JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.core.errors import DataError
from edgec.data.parquet import read_parquet_rows
from edgec.data.records import Record, Source
from edgec.data.split_names import Choice, NoSplitError

__all__ = ["METADATA", "SUFFIXES", "has_labels", "read_coco", "read_table", "referenced"]

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""What Hugging Face's imagefolder has beside the pictures."""
_PATH = ("path", "file_name", "filename", "file", "image")
_LABEL = ("label", "class", "category")
_COLUMNS = "name the columns path and label, and perhaps split and group"


def read_table(path: Path, choose: Choice | None) -> Source:
    """The rows of the split that is wanted; all rows where there is no column `split`, or none is wanted.

    Paths count from the table's folder.

    Raises:
        DataError: Not such a table, a column is missing, or there is no such split.
    """
    rows = _rows(path)
    if not rows:
        raise DataError(f"'{path}' has no rows", hint=_COLUMNS)
    file, label = (_column(rows[0], names, path) for names in (_PATH, _LABEL))
    if choose is not None and "split" in rows[0]:
        rows = _of_split(rows, path, choose)
    records = []
    for number, row in enumerate(rows, 1):
        if row.get(file) in (None, "") or row.get(label) in (None, ""):
            raise DataError(f"'{path}': row {number} has no {file} or no {label}", hint="fill it in, or take it out")
        group = row.get("group")
        place = path.parent / str(row[file])
        told = None if group in (None, "") else str(group)
        records.append(Record(name=str(place), content=place, label=str(row[label]), group=told))
    return Source(records=tuple(records))


def read_coco(path: Path) -> Source:
    """Pictures of a COCO file in which every picture's annotations are of one category; others have no label.

    Raises:
        DataError: Not such a file, or pictures with several categories.
    """
    table = _json(path.read_text(encoding="utf-8"), path)
    try:
        files = {image["id"]: image["file_name"] for image in table["images"]}
        names = {category["id"]: str(category["name"]) for category in table["categories"]}
        found: dict[Any, set[str]] = {}
        for annotation in table["annotations"]:
            found.setdefault(annotation["image_id"], set()).add(names[annotation["category_id"]])
        many = [files[image] for image, labels in found.items() if len(labels) > 1]
        labelled = [(files[image], next(iter(labels))) for image, labels in found.items()]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"'{path}' is no COCO file: {type(error).__name__} {error}", hint="it has images, annotations, categories"
        ) from error
    if many:
        raise DataError(
            f"'{path}': {len(many)} of {len(found)} pictures have several categories, as '{many[0]}'",
            hint="a classifier takes one label a picture: cut the objects out, or take those pictures out",
        )
    folders = (path.parent, path.parent / "images")
    records = []
    for name, label in labelled:
        place = next((folder / name for folder in folders if (folder / name).is_file()), path.parent / name)
        records.append(Record(name=str(place), content=place, label=label))
    return Source(records=tuple(records), names=tuple(names[key] for key in sorted(names)))


def has_labels(path: Path) -> bool:
    """Whether a table has a column of labels, which a list of captions has not."""
    rows = _rows(path)
    return bool(rows) and any(name in rows[0] for name in _LABEL)


def referenced(source: Source) -> list[Path]:
    """The files that records name and that are there."""
    paths = [record.content for record in source.records if isinstance(record.content, Path)]
    return [path for path in paths if path.is_file()]


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    kind = path.suffix.lower()
    if kind == ".parquet":
        return read_parquet_rows(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8: {error}", hint="save it as UTF-8") from error
    if kind == ".jsonl":
        return [_json(line, path) for line in text.splitlines() if line.strip()]
    delimiter = "\t" if kind == ".tsv" or "\t" in text.partition("\n")[0] else ","
    return list(csv.DictReader(text.splitlines(), delimiter=delimiter))


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not valid JSON: {error}", hint="make the file again") from error
    if not isinstance(value, dict):
        raise DataError(f"'{path}' holds a {type(value).__name__}, expected names with values", hint=_COLUMNS)
    return value


def _column(row: Mapping[str, Any], names: Sequence[str], path: Path) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        shown = ", ".join(str(name) for name in row)
        raise DataError(f"'{path}' has no column '{names[0]}', only {shown}", hint=_COLUMNS)
    return found


def _of_split(rows: Sequence[Mapping[str, Any]], path: Path, choose: Choice) -> Sequence[Mapping[str, Any]]:
    found = list(dict.fromkeys(str(row["split"]) for row in rows))
    wanted = choose(found)
    if wanted is None:
        raise NoSplitError.among(found, path)
    return [row for row in rows if str(row["split"]) == wanted]
