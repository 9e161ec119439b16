"""`edgec init`: a commented `edgec.toml` that builds as it is, or one for a model and images that are given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import click

from edgec.cli.build import FLAGS, parse_setting
from edgec.cli.say import say

__all__ = ["command", "config_text"]

_TEMPLATE = Path(__file__).with_name("templates") / "edgec.toml"
_TABLE = re.compile(r"#?\[\[?([a-z.]+)\]\]?")
_SETTING = re.compile(r"#?([a-z_.]+) = .*?(\s+#.*)?")


@click.command("init")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("edgec.toml"), show_default=True, help="The file."
)
@click.option("--target", metavar="NAME|FILE", default="host", show_default=True, help="Device profile to build for.")
@click.option("--model", metavar="NAME", help="A model of your own, as for edgec build.")
@click.option("--weights", type=click.Path(), help="Its .safetensors or .pt file.")
@click.option("--train", type=click.Path(), help="Your labelled images: class folders, a table, .npz and others.")
@click.option("--test", type=click.Path(), help="Labelled test images. [default: found in --train, or drawn from it]")
@click.option("--ood", type=click.Path(), help="Unlabelled images of anything: a folder or .npz.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="A setting, as in compress.keep_flops=0.7.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(*, output: Path, settings: tuple[str, ...], force: bool, **flags: Any) -> None:
    """Write a commented edgec.toml that builds as it is, and print its path.

    Without a model, it spells out what `edgec build` does without a config, with an example of every setting that is
    off. With --model and --train, the model is loaded and the images are opened: size and normalisation as the model
    says, classes, and test images go into the file. Where there are none, a fifth of the images is drawn for testing
    and listed in a table beside it.
    """
    from edgec.core.files import require_writable, write_bytes
    from edgec.core.target import load_target

    given = {FLAGS[name]: value for name, value in flags.items() if value is not None}
    given |= dict(map(parse_setting, settings))
    load_target(given["target"])
    _require_free(output, force=force)
    require_writable(output)
    if given.keys() > {"target"}:
        given = _looked_at(given, output, force=force)
    write_bytes(output, config_text(given).encode())
    say(output)
    say(f"build it with: edgec build --config {output}", err=True)


def _looked_at(given: Mapping[str, Any], output: Path, *, force: bool) -> dict[str, Any]:
    """The settings as a file beside `output` has them, with what model and images say."""
    from edgec.cli.console import ConsoleProgress
    from edgec.core.errors import ConfigError
    from edgec.core.files import write_bytes
    from edgec.pipeline.build import require_build_extra
    from edgec.pipeline.draft import draft_config
    from edgec.pipeline.paths import paths_from

    for flag, name in (("--model", "model.name"), ("--train", "data.train")):
        if name not in given:
            raise ConfigError(
                f"edgec init: {flag} is missing: a model and its images are looked at together",
                hint=f"give {flag} too, or none: then the demonstration's config is written",
            )
    require_build_extra()
    table = output.with_name(f"{output.stem}-images.csv")
    draft = draft_config(given, table=table, progress=ConsoleProgress())
    if draft.table is not None:
        _require_free(table, force=force)
        write_bytes(table, draft.table)
    return paths_from(output.parent, draft.settings)


def config_text(settings: Mapping[str, Any]) -> str:
    """The commented config with these settings, by dotted name, switched on; what it does not mention is added."""
    template = _TEMPLATE.read_text(encoding="utf-8").splitlines()
    places = list(_places(template))
    tables = {table for table, _ in places}
    added: dict[str, dict[str, Any]] = {}
    for name in settings.keys() - {f"{table}{key}" for table, key in places if key}:
        table = max((each for each in tables if name.startswith(each)), key=len)
        added.setdefault(table, {})[name.removeprefix(table)] = settings[name]
    lines = list[str]()
    for line, (table, key) in zip(template, places, strict=True):
        if _TABLE.fullmatch(line):
            is_on = any(name.startswith(table) for name in settings)
            lines.append(line.lstrip("#") if is_on else line)
            lines += [f"{name} = {_as_toml(value)}" for name, value in sorted(added.get(table, {}).items())]
        else:
            lines.append(_switched(line, f"{table}{key}", settings))
    return "\n".join(lines) + "\n"


def _places(template: list[str]) -> Iterator[tuple[str, str]]:
    """Of each line the table that it is in, with a dot at its end, and the setting that it holds, if one."""
    table = ""
    for line in template:
        header, setting = _TABLE.fullmatch(line), _SETTING.fullmatch(line)
        table = f"{header[1]}." if header else table
        yield table, setting[1] if setting else ""


def _switched(line: str, name: str, settings: Mapping[str, Any]) -> str:
    """A line of a setting with its new value, if there is one; its comment stays."""
    setting = _SETTING.fullmatch(line)
    if setting is None or name not in settings:
        return line
    return f"{setting[1]} = {_as_toml(settings[name])}{setting[2] or ''}"


def _as_toml(value: Any) -> str:
    """A JSON string, number or list is one of TOML; dates have no quotes."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(name)} = {_as_toml(each)}' for name, each in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


def _require_free(output: Path, *, force: bool) -> None:
    """A config that somebody has edited is not lost by a slip.

    Raises:
        ConfigError: Something stands there already.
    """
    from edgec.core.errors import ConfigError

    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder", hint=f"name a file, such as {output / 'edgec.toml'}")
    if output.exists() and not force:
        raise ConfigError(f"'{output}' exists already", hint="name another --output, or replace it with --force")
