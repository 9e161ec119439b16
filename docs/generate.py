"""Writes the parts of README.md and docs/ that follow from the code, and the figures that benchmarks measured.

    python docs/generate.py            writes them anew
    python docs/generate.py --check    names the files that are stale, and exits 1

Such a part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; a test fails when one is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path

import click
import measured
from figures import NotMeasured, markdown
from pydantic import BaseModel
from settings import Section, Tables, settings_of

from edgec.calibrate.recipe import Recipe, known_recipes
from edgec.cli import COMMANDS, GROUPS
from edgec.compress.config import CdConfig, FskdConfig, LearngeneConfig, MirConfig, PractiseConfig
from edgec.core.errors import EdgecError
from edgec.core.target import Target, known_targets
from edgec.evaluate.gates import Check
from edgec.evaluate.report import Report
from edgec.package import Manifest
from edgec.pipeline.config import BuildConfig

ROOT = Path(__file__).resolve().parents[1]
METHODS = {
    "compress.options": {
        "compress.cd": CdConfig,
        "compress.fskd": FskdConfig,
        "compress.learngene": LearngeneConfig,
        "compress.mir": MirConfig,
        "compress.practise": PractiseConfig,
    }
}
"""Settings that compression methods bring with them, by the table that they stand in."""
_PART = re.compile(r"(<!-- begin (?P<name>[\w-]+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)


def documents() -> tuple[Path, ...]:
    """Every page that may hold generated parts."""
    return (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def schemas() -> dict[Path, str]:
    """What other programs may read of ours, as JSON Schema."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    models = {"check": Check, "manifest": Manifest, "report": Report}
    return {
        ROOT
        / "docs"
        / "schemas"
        / f"{name}.json": f"{_json(dialect | model.model_json_schema(mode='serialization'))}\n"
        for name, model in models.items()
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def filled(text: str) -> str:
    """The text with every generated part written anew, but for figures that were not measured yet.

    Raises:
        KeyError: A part of a name that nobody generates.
    """
    return _PART.sub(_filled, text)


def _filled(part: re.Match[str]) -> str:
    try:
        return f"{part[1]}{PARTS[part['name']]()}\n{part[3]}"
    except NotMeasured:
        return part[0]


@click.command()
@click.option("--check", is_flag=True, help="Change nothing.")
def main(*, check: bool) -> None:
    """Write the generated parts of README.md and docs/."""
    wanted = {path: filled(path.read_text(encoding="utf-8")) for path in documents()} | schemas()
    stale = {path: text for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        click.echo(path.relative_to(ROOT))
        if not check:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if check and stale else 0)


def _commands() -> str:
    rows = [(title, f"`edgec {name}`", COMMANDS[name]) for title, names in GROUPS.items() for name in names]
    return markdown(("", "command", "what it does"), rows)


def _reference() -> str:
    """Every command with its arguments and options."""
    return "\n\n".join(
        part
        for name in chain.from_iterable(GROUPS.values())
        for part in _command(import_module(f"edgec.cli.{name}").command, "edgec")
    )


def _command(command: click.Command, parent: str) -> Iterator[str]:
    name = f"{parent} {command.name}"
    context = click.Context(command, info_name=name)
    yield f"## `{name}`"
    yield f"```text\n{name} {' '.join(command.collect_usage_pieces(context))}\n```"
    yield "\n\n".join(" ".join(line.split()) for line in (command.help or "").split("\n\n"))
    options = [option for option in command.params if isinstance(option, click.Option)]
    if options:
        yield markdown(("option", "what it does"), ((_spelling(option), _help(option)) for option in options))
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _command(inner, name)


def _spelling(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} `{_metavar(option)}`"


def _metavar(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    return option.metavar or (option.type.name or "text").upper().removesuffix(" RANGE")


def _help(option: click.Option) -> str:
    default = f" Default: `{option.default}`." if option.show_default else ""
    repeat = " Repeatable." if option.multiple and "repeat" not in (option.help or "") else ""
    return f"{option.help or ''}{repeat}{default}"


def _settings(schema: type[BaseModel], tables: Tables | None = None) -> str:
    sections = settings_of(schema, tables or {})
    return "\n\n".join(part for section in sections for part in _section(section))


def _section(section: Section) -> Iterator[str]:
    if section.name:
        heading = f"[[{section.name}]]" if section.repeated else f"[{section.name}]"
        yield f"### `{heading}`{' (optional)' if section.optional else ''}"
        yield section.about
    meant = any(row.meaning for row in section.rows)
    rows = [(f"`{row.key}`", row.kind, row.default, row.meaning)[: 3 + meant] for row in section.rows]
    if rows:
        yield markdown(("key", "value", "default", "meaning")[: 3 + meant], rows)


def _recipes() -> str:
    rows = [(f"`{name}`", recipe.title) for name, recipe in known_recipes().items()]
    return markdown(("recipe", "what it does"), rows)


def _targets() -> str:
    rows = []
    for name, target in sorted(known_targets().items()):
        here = target.family == "host"
        runtime = " ".join(filter(None, (target.runtime.engine, target.runtime.version)))
        aliases = ", ".join(f"`{alias}`" for alias in target.aliases)
        title = target.title.partition(":")[0]
        scheme = "what its CPU is fast at" if here else target.quantization.scheme.value
        latency = "predicted" if target.compute else "measured where it is built"
        rows.append((f"`{name}`", aliases, title, runtime, scheme, latency))
    return markdown(("name", "aliases", "device", "runtime", "scheme", "latency on it"), rows)


def _exits() -> str:
    codes: dict[int, list[str]] = {0: ["success"], 1: ["any other expected failure"]}
    for kind in sorted(EdgecError.__subclasses__(), key=lambda kind: kind.__name__):
        if kind.exit_code > 1:
            codes.setdefault(kind.exit_code, []).append((kind.__doc__ or "").rstrip("."))
    return markdown(("exit code", "meaning"), ((str(code), "; ".join(said)) for code, said in sorted(codes.items())))


PARTS: dict[str, Callable[[], str]] = {
    "cli": _reference,
    "commands": _commands,
    "configuration": lambda: _settings(BuildConfig, METHODS),
    "exits": _exits,
    "profile": lambda: _settings(Target),
    "recipe": lambda: _settings(Recipe),
    "recipes": _recipes,
    "targets": _targets,
    **measured.PARTS,
}

if __name__ == "__main__":
    main()
