"""What a pydantic schema asks of a person, as rows for a table: key, value, default, meaning."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgec.cli.check import command as check
from edgec.evaluate.gate_settings import Gates, require_share

__all__ = ["Row", "Section", "Tables", "settings_of"]

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", date: "date"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting."""

    key: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table of a TOML file.

    Attributes:
        name: Dotted; empty at the top.
        optional: Whether leaving it out means something of its own.
        repeated: Whether it may stand there several times.
        about: What it is for.
        rows: Its settings.
    """

    name: str
    optional: bool
    repeated: bool
    about: str
    rows: tuple[Row, ...]


Tables = Mapping[str, Mapping[str, type[BaseModel]]]
"""For a field that may hold any table: those that it may be, with the schema of each."""


def settings_of(schema: type[BaseModel], tables: Tables) -> Iterator[Section]:
    """A schema's tables, each with its settings, those inside it after it.

    Args:
        schema: Of the whole file.
        tables: What stands in a field that may hold any table, by its dotted name.
    """
    yield from _sections(schema, "", tables, field=FieldInfo(annotation=schema))


def _sections(schema: type[BaseModel], name: str, tables: Tables, *, field: FieldInfo) -> Iterator[Section]:
    meanings = _meanings(schema)
    rows: list[Row] = []
    inner: list[tuple[str, type[BaseModel], FieldInfo]] = []
    for key, inside in schema.model_fields.items():
        dotted = f"{name}.{key}" if name else key
        model = _model_in(inside.annotation)
        any_name = f"{dotted}.NAME" if get_origin(inside.annotation) is dict else dotted
        if dotted in tables:
            inner.extend((table, options, inside) for table, options in tables[dotted].items())
        elif model is not None:
            inner.append((any_name, model, inside))
        else:
            rows.append(_row(key, inside, meanings))
    optional, repeated = field.default is None, get_origin(field.annotation) is tuple
    yield Section(name=name, optional=optional, repeated=repeated, about=_about(schema), rows=tuple(rows))
    for dotted, model, inside in inner:
        yield from _sections(model, dotted, tables, field=inside)


def _row(key: str, field: FieldInfo, meanings: Mapping[str, str]) -> Row:
    default = "required" if field.is_required() else _toml(field.get_default(call_default_factory=True))
    return Row(key=key, kind=_kind(field.annotation, field.metadata), default=default, meaning=meanings.get(key, ""))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model`, `Model | None`, `tuple[Model, ...]` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """What may stand there, in words: `number, > 0`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, UnionType):
        return "; or ".join(_kind(part, metadata) for part in arguments if part is not NoneType)
    choices = arguments if origin is Literal else _members(annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if arguments:
        if origin is not tuple:
            return f"table: {_kind(arguments[1], [])}"
        long = "" if arguments[-1] is Ellipsis else f" of {len(arguments)}"
        return f"list{long}: {_kind(arguments[0], [])}"
    return ", ".join((_WORDS.get(annotation, "any value"), *_bounds(metadata)))


def _members(annotation: Any) -> list[str]:
    """The values of an enumeration; none where it is another type."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    return []


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for constraint in metadata:
        # Field(ge=…) comes as it is where it stands inside Annotated.
        for part in constraint.metadata if isinstance(constraint, FieldInfo) else [constraint]:
            if getattr(part, "func", None) is require_share:
                yield "0 to 1"
            yield from (f"{sign} {getattr(part, name):g}" for name, sign in _SIGNS.items() if hasattr(part, name))


def _toml(value: Any) -> str:
    """A default as it would stand in the file; a dash where leaving the key out means something of its own."""
    if value is None or value in ((), {}):
        return "–"
    plain = value.value if isinstance(value, Enum) else value
    return f"`{json.dumps(plain)}`"


def _about(schema: type[BaseModel]) -> str:
    """The class docstring without its list of attributes."""
    return re.split(r"\n\s*Attributes:\n", inspect.getdoc(schema) or "")[0].strip()


def _meanings(schema: type[BaseModel]) -> dict[str, str]:
    """What the fields mean: by the docstrings of the class and its bases, and by the strings below the fields."""
    found: dict[str, str] = {}
    for owner in reversed(schema.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            found |= {**_listed(owner), **_below(owner)}
    if schema is Gates:
        gates = {option.name: getattr(option, "help", None) for option in check.params}
        found = {key: text for key in schema.model_fields if (text := found.get(key) or gates.get(key))}
    return found


def _listed(owner: type) -> dict[str, str]:
    """The section `Attributes:` of a Google docstring."""
    _, _, listed = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _below(owner: type) -> dict[str, str]:
    """String literals that follow a field."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
