"""What DESIGN and STYLE promise of the code as a whole: who imports whom, what stays light, what is public."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import edgec
from edgec.cli import COMMANDS, GROUPS, group

ROOT = Path(edgec.__file__).parent
ROOMS = {
    "core": set(),
    "graph": {"core"},
    "data": {"core"},
    "models": {"core", "graph", "runtime"},
    "learn": {"core", "models"},
    "compress": {"core", "learn", "models"},
    "calibrate": {"core", "graph"},
    "quantize": {"core", "graph", "learn", "calibrate"},
    "export": {"core", "graph"},
    "package": {"core"},
    "runtime": {"core", "package"},
    "evaluate": {"core", "runtime"},
    "bench": {"core", "runtime", "evaluate"},
    "latency": {"core", "graph", "runtime"},
    "render": {"core", "graph", "evaluate"},
    "serve": {"core", "package", "runtime"},
    "deploy": {"core", "package", "runtime"},
}
"""Each room below the pipeline, and the rooms that it may import from."""
STAGES = set(ROOMS)
OUTER = {
    "pipeline": STAGES - {"serve", "deploy"},
    "track": {"core", "evaluate", "package", "pipeline"},
    "study": {"core", "compress", "data", "evaluate", "learn", "models", "pipeline", "quantize"},
    "tuning": {"bench", "compress", "core", "latency", "learn", "package", "pipeline", "render", "runtime"},
    "api": {"core", "evaluate", "package", "pipeline", "render", "runtime", "tuning"},
    "cli": {*STAGES, "pipeline", "track", "study", "tuning"},
    "__init__": {"api", "core"},
    "__main__": {"cli"},
}
EDGES = ROOMS | OUTER
MOST_OF_THE_LINES = 0.15
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "tensorrt", "ray", "sklearn", "lightning_fabric", "jinja2"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "tools", "lib"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A module, parsed."""

    path: Path
    tree: ast.Module

    @property
    def part(self) -> str:
        """The package below edgec that it lies in, or its own name."""
        first = self.path.relative_to(ROOT).parts[0]
        return first.removesuffix(".py")

    @property
    def name(self) -> str:
        """As in `edgec.core.errors`."""
        parts = self.path.relative_to(ROOT.parent).with_suffix("").parts
        return ".".join(parts).removesuffix(".__init__")

    def imports(self) -> Iterator[str]:
        """Dotted names of what is imported anywhere in it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


SOURCES = [Source(path=path, tree=ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(ROOT.rglob("*.py"))]


def lines_with(source: Source, found: Callable[[ast.AST], bool]) -> list[str]:
    """Places in a module as `name:line`."""
    return [f"{source.name}:{getattr(node, 'lineno', 0)}" for node in ast.walk(source.tree) if found(node)]


def test_every_room_has_its_place() -> None:
    """A new room must be listed, with what it may import, before anything may import it."""
    assert {source.part for source in SOURCES} <= {*EDGES, "__init__"}


def test_rooms_import_only_what_is_listed() -> None:
    wrong = []
    for source in SOURCES:
        for name in source.imports():
            whole, _, rest = name.partition(".")
            imported = rest.partition(".")[0]
            if whole == "edgec" and imported in EDGES and imported not in {source.part, *EDGES[source.part]}:
                wrong.append(f"{source.name} imports {name}")
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Local imports count: two modules that need each other are one idea, or three."""
    names = {source.name for source in SOURCES}
    graph = {source.name: {_module_of(name, names) for name in source.imports()} for source in SOURCES}
    graph["edgec"] = set()  # it names the door's types for checkers, and loads them when they are used
    left = {name: imported & names - {name} for name, imported in graph.items()}
    while free := {name for name, imported in left.items() if not imported}:
        left = {name: imported - free for name, imported in left.items() if name not in free}
    assert sorted(left) == []


def _module_of(imported: str, names: set[str]) -> str:
    """The module that `from module import name` reads: `module.name` where that is a module."""
    return imported if imported in names else imported.rpartition(".")[0]


def test_no_room_is_too_large() -> None:
    lines: dict[str, int] = {}
    for source in SOURCES:
        lines[source.part] = lines.get(source.part, 0) + source.path.read_text(encoding="utf-8").count("\n")
    limit = MOST_OF_THE_LINES * sum(lines.values())
    assert [room for room, count in lines.items() if count > limit] == []


def test_stages_hand_each_other_values_and_no_dicts() -> None:
    stages = [source for source in SOURCES if source.path.is_relative_to(ROOT / "pipeline" / "stages")]
    assert len(stages) > 8
    assert [s.name for s in stages if "Mapping[str, Any]" in s.path.read_text(encoding="utf-8")] == []


def test_no_import_is_relative() -> None:
    def relative(node: ast.AST) -> bool:
        return isinstance(node, ast.ImportFrom) and node.level > 0

    assert [place for source in SOURCES for place in lines_with(source, relative)] == []


def test_modules_are_named_for_what_they_do() -> None:
    assert [s.name for s in SOURCES if VAGUE & set(s.name.split("."))] == []


def test_modules_say_what_they_are_for() -> None:
    assert [source.name for source in SOURCES if not ast.get_docstring(source.tree)] == []


def test_every_public_name_is_there() -> None:
    wrong = []
    for source in SOURCES:
        if source.path in (ROOT / "__init__.py", ROOT / "__main__.py"):
            continue
        module = importlib.import_module(source.name)
        public = getattr(module, "__all__", None)
        if public is None:
            wrong.append(f"{source.name} has no __all__")
        wrong += [f"{source.name}.{name}" for name in public or () if not hasattr(module, name)]
    assert wrong == []


def test_modules_are_short() -> None:
    assert [s.name for s in SOURCES if s.path.read_text(encoding="utf-8").count("\n") > 400] == []


def test_the_product_has_no_assert() -> None:
    """`python -O` drops it."""
    found = [place for source in SOURCES for place in lines_with(source, lambda node: isinstance(node, ast.Assert))]
    assert found == []


def test_the_library_never_prints() -> None:
    def prints(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"

    assert [place for source in SOURCES for place in lines_with(source, prints)] == []


MUST_LIVE = {
    *("edgec.cli", "edgec.core.confined", "edgec.deploy.agent", "edgec.deploy.rollout"),
    *("edgec.serve.pool", "edgec.serve.versions"),
}
"""The command line's boundary, and loops that go on whatever one turn of theirs meets: they tell of it or log it."""


def test_only_boundaries_and_loops_that_must_live_catch_everything() -> None:
    def broad(node: ast.AST) -> bool:
        if not isinstance(node, ast.ExceptHandler):
            return False
        caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else {"Exception"}
        return not caught.isdisjoint({"Exception", "BaseException"})

    found = [place for source in SOURCES for place in lines_with(source, broad)]
    assert {place.partition(":")[0] for place in found} <= MUST_LIVE


@pytest.mark.parametrize("part", ["cli", "core/errors.py"])
def test_the_command_line_and_the_errors_import_nothing_heavy_by_themselves(part: str) -> None:
    for source in SOURCES:
        if source.path.is_relative_to(ROOT / part):
            assert not HEAVY & {name.partition(".")[0] for name in source.imports()}, source.name


def modules_after(*statements: str) -> set[str]:
    """Top-level packages in a fresh process after these statements."""
    code = "\n".join(("import json, sys", *statements, "print(json.dumps([m.partition('.')[0] for m in sys.modules]))"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_loads_neither_torch_nor_pydantic_nor_rich() -> None:
    found = modules_after("from edgec.cli import main", "try: main(['--help'])", "except SystemExit: pass")
    assert not found & (HEAVY | {"pydantic", "rich", "numpy", "PIL"})


def test_importing_edgec_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import edgec; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout in ("['edgec']\n", "['__future__', 'edgec']\n")


@pytest.mark.parametrize("module", ["edgec.core.errors", "edgec.package", "edgec.runtime", "edgec.core.target"])
def test_what_a_device_installs_needs_no_build_tools(module: str) -> None:
    assert not modules_after(f"import {module}") & (HEAVY - {"onnxruntime"})


def test_help_answers_in_a_third_of_a_second() -> None:
    """The bar is the issue's, put on processor time, which other processes of a busy machine do not add to."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "edgec", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(seconds) <= 0.3


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand by its whole name."""
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())


def test_every_command_and_option_is_explained() -> None:
    silent = [name for name, command in commands() if not command.help]
    for name, command in commands():
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        silent += [f"{name} {option.opts[0]}" for option in options if not option.help]
    assert silent == []


def test_the_list_of_commands_is_what_there_is() -> None:
    shared = {
        "__init__",
        "caches",
        "console",
        "devices",
        "options",
        "quantities",
        "say",
        "study_run",
        "study_tables",
        "summary",
        "trust",
    }
    modules = {path.stem for path in (ROOT / "cli").glob("*.py")} - shared
    assert set(COMMANDS) == modules
    assert group.list_commands(click.Context(group)) == sorted(COMMANDS)


def test_every_command_stands_in_one_group_of_the_help() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def test_the_version_is_written_once() -> None:
    try:
        installed = importlib.metadata.version("edgec")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("edgec is not installed here: it runs from the checkout")
    assert edgec.__version__ == installed
