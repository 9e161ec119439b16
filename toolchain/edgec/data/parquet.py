"""Parquet and Arrow files, as Hugging Face's `datasets` write them: pictures inside, class names in the schema."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.errors import DataError, MissingDependencyError
from edgec.data.records import MOST_BYTES, Record, Source
from edgec.data.split_names import Choice, NoSplitError

if TYPE_CHECKING:
    from pyarrow import Table


__all__ = ["find_dataset", "holds_pictures", "read_dataset", "read_parquet_rows"]


def find_dataset(folder: Path, choose: Choice) -> list[Path]:
    """The files of a split below a folder that `datasets` wrote; none where it is no such folder.

    A split's files are those in a folder of its name, or that begin with its name: `test-00000-of-00001.parquet`.
    """
    files = sorted(
        path for kind in ("*.parquet", "*.arrow") for path in folder.rglob(kind) if _is_visible(path, folder)
    )
    splits = {path: _split_of(path, folder) for path in files}
    named = sorted({split for split in splits.values() if split})
    wanted = choose(named)
    if named and wanted is None:
        raise NoSplitError.among(named, folder)
    return [path for path in files if splits[path] == wanted] if named else files


def read_dataset(files: Sequence[Path]) -> Source:
    """Pictures of columns `image` and `label`.

    Raises:
        DataError: Not such files, columns are missing, or there is more than memory should hold.
        MissingDependencyError: Without pyarrow.
    """
    size = sum(path.stat().st_size for path in files)
    if size > MOST_BYTES:
        raise DataError(
            f"'{files[0].parent}' holds {size / 2**30:.1f} GiB, {MOST_BYTES >> 30} are read from Parquet at most",
            hint="save the pictures as files in class folders",
        )
    records, names = [], None
    for file in files:
        table = _table(file)
        missing = [name for name in ("image", "label") if name not in table.column_names]
        if missing:
            raise DataError(
                f"'{file}' has no column '{missing[0]}', only {', '.join(table.column_names)}",
                hint="rename the columns to image and label",
            )
        names = names or _class_names(table)
        records += _records(table, file)
    return Source(records=tuple(records), names=names)


def holds_pictures(path: Path) -> bool:
    """Whether a Parquet file has a column of pictures rather than of paths."""
    _require_arrow(path)
    from pyarrow import ArrowException, parquet, types

    try:
        schema = parquet.read_schema(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"'{path}' is damaged: {error}", hint="make the file again") from error
    kind = schema.field("image").type if "image" in schema.names else None
    return kind is not None and (types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _require_arrow(path: Path) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingDependencyError(
            f"'{path}' is read by pyarrow, which is not installed", hint="pip install 'edgec[tables]'"
        )


def read_parquet_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a table without pictures in it."""
    return _table(path).to_pylist()


def _records(table: Table, file: Path) -> Iterator[Record]:
    columns = (table.column(name).to_pylist() for name in ("image", "label"))
    for number, (image, label) in enumerate(zip(*columns, strict=True)):
        content = image.get("bytes") if isinstance(image, Mapping) else image
        if not isinstance(content, bytes) or label is None:
            raise DataError(
                f"'{file}': row {number} has no picture's bytes or no label",
                hint="write it with datasets' Image feature and the pictures embedded",
            )
        yield Record(name=f"{file.name}[{number}]", content=content, label=str(label))


def _class_names(table: Table) -> tuple[str, ...] | None:
    """What `datasets` says that labels 0, 1, … mean."""
    try:
        told = json.loads((table.schema.metadata or {})[b"huggingface"])
        names = told["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names))


def _table(path: Path) -> Table:
    _require_arrow(path)
    from pyarrow import ArrowException, OSFile, ipc, parquet

    try:
        if path.suffix == ".parquet":
            return parquet.ParquetFile(path).read()
        with OSFile(str(path)) as file:
            return ipc.open_stream(file).read_all()
    except (ArrowException, OSError) as error:
        raise DataError(f"'{path}' is damaged: {error}", hint="make the file again") from error


def _is_visible(path: Path, folder: Path) -> bool:
    return not any(part.startswith(".") or part == "metadata.parquet" for part in path.relative_to(folder).parts)


def _split_of(path: Path, folder: Path) -> str:
    """By the first part of the file's name, or the folder that it is in."""
    from_name = path.name.split("-")[0].split(".")[0].lower()
    parents = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    known = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "calibration"}
    return next((name for name in (from_name, *reversed(parents)) if name in known), "")
