"""TOML files that people edit, checked against a schema: every fault becomes one line that names file and field."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from edgec.core.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["bind", "field_names", "is_file_name", "read_declaration"]

Schema = TypeVar("Schema", bound=BaseModel)


def read_declaration(path: Path, schema: type[Schema], *, what: str) -> Schema:
    """The value that a TOML file declares.

    Args:
        path: The file.
        schema: What it must hold.
        what: What such a file is called in messages, as in `target profile`.

    Raises:
        ConfigError: The file is missing, is not TOML, or does not fit the schema; one line, the first fault in full.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {what} '{path}': {error.strerror or error}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} '{path}' is not UTF-8 text", hint="save the file as UTF-8") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{what} '{path}' is not valid TOML: {_one_line(str(error))}", hint="correct the line"
        ) from error
    return bind(values, schema, where=f"{what} '{path}'")


def is_file_name(name_or_path: str) -> bool:
    """Whether a text names a file rather than a declaration that ships: it ends in `.toml` or holds a separator."""
    return name_or_path.endswith(".toml") or "/" in name_or_path or os.sep in name_or_path


def bind(values: dict[str, Any], schema: type[Schema], *, where: str) -> Schema:
    """The value that a parsed table declares; `where` begins the message of a fault.

    Raises:
        ConfigError: The table does not fit the schema.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        # A mistyped key makes two faults, the key that is unknown and the one that is missing: the first one helps.
        faults = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
        message, hint = _explain(faults[0], schema)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ConfigError(f"{where}: {message}{more}", hint=hint) from error


def field_names(schema: type[BaseModel]) -> Iterator[str]:
    """Dotted names of a schema's fields, tables and what is in them: `compute`, `compute.int8_tops`, …."""
    for name, field in schema.model_fields.items():
        yield name
        inner = _model_in(field.annotation)
        yield from (f"{name}.{deeper}" for deeper in (field_names(inner) if inner else ()))


def _explain(fault: ErrorDetails, schema: type[BaseModel]) -> tuple[str, str]:
    """Message and hint for one fault."""
    location = fault["loc"]
    field = ".".join(str(part) for part in location)
    match fault["type"]:
        case "extra_forbidden":
            return _explain_unknown(field, location, schema)
        case "missing":
            return f"field '{field}' is missing", f"add '{location[-1]}'"
        case "value_error":
            message = _one_line(fault["msg"]).removeprefix("Value error, ")
            return f"field '{field}': {message}" if field else message, "correct the values"
        case _:
            got, expected = reprlib.repr(fault["input"]), _expectation(fault["msg"])
            return f"field '{field}': got {got}, expected {expected}", "correct the value"


def _explain_unknown(field: str, location: tuple[int | str, ...], schema: type[BaseModel]) -> tuple[str, str]:
    """Message and hint for a key that the schema does not have."""
    known = sorted(_model_at(schema, location[:-1]).model_fields)
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "remove the key"
    return f"unknown key '{field}'; known: {', '.join(known)}", hint


def _model_at(schema: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The schema of the table that stands at a place of the whole."""
    for part in location:
        field = schema.model_fields.get(str(part))
        schema = (field and _model_in(field.annotation)) or schema
    return schema


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model`, `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _expectation(message: str) -> str:
    """What pydantic expected: `Input should be greater than 0` to `greater than 0`."""
    text = re.sub(r"^\w+ should (be )?", "", _one_line(message))
    text = re.sub(r"^a valid dictionary or instance of \w+", "a table", text)
    return re.sub(r"^match pattern", "text that matches", text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
