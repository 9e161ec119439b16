"""`edgec study few-sample` on the embedded digits: runs, goes on after a cut, and says what is wrong."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import UnsupportedError
from edgec.core.files import DRAFT
from edgec.pipeline.stages import compress

FILES = {"results.json", "results.csv", "results.md", "plot.svg"}
RUNS = 4
SMALL = (
    *("few-sample", "--methods", "mir", "--variants", "plain,ours", "--samples", "20", "--seeds", "0,1"),
    *("--set", "compress.steps=2", "--set", "data.ood_count=60"),
)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, study_place: Any) -> tuple[Any, Any]:
    """A finished study and what it printed. Nobody may change it."""
    place = study_place(tmp_path_factory.mktemp("study"), *SMALL)
    outcome = place.run()
    assert outcome.exit_code == 0, outcome.stderr
    return place, outcome


@pytest.fixture
def place(studied: tuple[Any, Any], tmp_path: Path, study_place: Any) -> Any:
    """A copy of the finished study's cache, without its output."""
    shutil.copytree(studied[0].cache, tmp_path / "cache")
    return study_place(tmp_path, *SMALL)


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lists the compressions that take place from now on; the n-th may fail."""

    def watch(*, failing: int = -1, error: BaseException | None = None) -> list[str]:
        seen: list[str] = []
        original = compress.compressed

        def compressed(sources: Any, *arguments: Any, **options: Any) -> Any:
            seen.append(sources.plan.config.compress.method)
            if error is not None and len(seen) - 1 == failing:
                raise error
            return original(sources, *arguments, **options)

        monkeypatch.setattr(compress, "compressed", compressed)
        return seen

    return watch


def test_the_files_are_there_and_the_last_line_names_the_page(studied: tuple[Any, Any]) -> None:
    place, outcome = studied
    assert {path.name for path in place.output.iterdir()} == FILES
    assert outcome.stdout.splitlines()[-1] == str(place.output / "results.md")


def test_every_run_is_in_the_results(studied: tuple[Any, Any]) -> None:
    results = studied[0].results()
    assert [(run["variant"], run["seed"]) for run in results["runs"]] == [
        ("plain", 0),
        ("ours", 0),
        ("plain", 1),
        ("ours", 1),
    ]
    for run in results["runs"]:
        assert run["images"] == 790
        assert sum(run["counts"]) == 20
        assert run["worst_class_accuracy"] == min(run["class_accuracy"].values())
        assert 0.05 < run["kept_flops"] <= 0.2
        assert run["seconds"] > 0
    assert results["teacher"]["accuracy"] > 0.98
    assert [row["variant"] for row in results["rows"]] == ["plain", "ours"]
    assert [gain["variant"] for gain in results["gains"]] == ["ours"]
    with (studied[0].output / "results.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == RUNS


def test_the_table_is_printed_and_runs_are_counted_with_the_time_left(studied: tuple[Any, Any]) -> None:
    outcome = studied[1]
    lines = [line.split() for line in outcome.stdout.splitlines()]
    assert ["teacher", "98.7", "95.0"] in lines
    assert [line[1] for line in lines if line[:1] == ["mir"]] == ["plain", "ours", "ours"]
    progress = outcome.stderr.splitlines()
    assert progress[0] == "[1/4] mir plain, 20 samples at imbalance 100, seed 0"
    last = [line for line in progress if line.startswith("[")][-1]
    assert last.startswith("[4/4] mir ours, 20 samples at imbalance 100, seed 1 (about ")
    assert sum("no out-of-distribution images given" in line for line in progress) == 1


def test_an_unchanged_study_compresses_nothing_and_says_the_same(
    studied: tuple[Any, Any], place: Any, compressions: Any
) -> None:
    seen = compressions()
    answer = place.run("--json").last
    assert seen == []
    assert (answer["runs"], answer["cached"]) == (RUNS, RUNS)
    assert answer["results"] == str(place.output / "results.json")
    for name in FILES:
        assert (place.output / name).read_bytes() == (studied[0].output / name).read_bytes()


def test_only_a_run_whose_result_is_gone_is_made_again(place: Any, compressions: Any) -> None:
    seen = compressions()
    shutil.rmtree(place.finished("few-sample")[0])
    assert place.run("--json").last["cached"] == RUNS - 1
    assert len(seen) == 1
    assert len(place.finished("few-sample")) == RUNS


def test_another_machine_takes_the_runs_from_a_shared_cache(
    studied: tuple[Any, Any], place: Any, study_place: Any, compressions: Any, tmp_path: Path
) -> None:
    seen = compressions()
    assert place.run("--cache-to", tmp_path / "shared").exit_code == 0
    other = study_place(tmp_path / "other", *SMALL)
    outcome = other.run("--cache-from", tmp_path / "shared", "--json")
    assert (outcome.last["cached"], seen) == (RUNS, [])
    assert f"stages from {tmp_path / 'shared'}: {RUNS} few-sample, teacher" in " ".join(outcome.stderr.split())
    assert other.results() == studied[0].results()


def test_a_seed_more_runs_that_seed_alone(place: Any, compressions: Any) -> None:
    seen = compressions()
    assert place.run("--seeds", "0,1,2", "--json").last["cached"] == RUNS
    assert len(seen) == 2


def test_a_study_that_is_interrupted_goes_on_where_it_was(place: Any, compressions: Any) -> None:
    kept, *gone = place.finished("few-sample")
    for folder in gone:
        shutil.rmtree(folder)
    compressions(failing=1, error=KeyboardInterrupt())
    outcome = place.run()
    assert (outcome.exit_code, outcome.stdout) == (130, "")
    assert len(place.finished("few-sample")) == 2
    assert kept in place.finished("few-sample")
    assert not place.output.exists() or not list(place.output.iterdir())
    assert not list(place.folder.rglob(f"*{DRAFT}"))
    assert place.run("--json").last["cached"] == 2


def test_a_method_that_does_not_apply_is_a_result(place: Any, compressions: Any) -> None:
    for folder in place.finished("few-sample"):
        shutil.rmtree(folder)
    compressions(failing=0, error=UnsupportedError("the model has no residual block"))
    outcome = place.run("--seeds", "0")
    assert outcome.exit_code == 0
    assert "does not apply: the model has no residual block" in " ".join(outcome.stdout.split())
    page = (place.output / "results.md").read_text(encoding="utf-8")
    assert "| mir | plain | 20 | 100 | 0 | does not apply: the model has no residual block |" in page
    assert place.run("--seeds", "0", "--json").last["cached"] == 2


@pytest.mark.usefixtures("leaking_digits")
def test_test_images_that_the_few_samples_give_away_are_left_out(study_place: Any, tmp_path: Path) -> None:
    place, once = study_place(tmp_path, *SMALL), ("--variants", "plain", "--seeds", "0")
    outcome = place.run(*once)
    assert outcome.exit_code == 0, outcome.stderr
    assert "test images are left out of the test set, as other splits give them away" in " ".join(
        outcome.stderr.split()
    )
    assert [run["images"] <= 790 - 20 for run in place.results()["runs"]] == [True]
    assert place.run(*once, "--set", "data.leaks=keep").exit_code == 0
    assert [run["images"] for run in place.results()["runs"]] == [790]


def test_any_other_failure_ends_it_with_one_error(place: Any) -> None:
    outcome = place.run("--samples", "1500")
    assert outcome.exit_code == 2
    message, _ = outcome.failure
    assert "are needed for 1500 samples at imbalance 100" in message
    assert not place.output.exists() or not list(place.output.iterdir())


def test_a_dry_run_says_what_is_there(place: Any, compressions: Any) -> None:
    seen = compressions()
    planned = place.run("--seeds", "0,2", "--dry-run", "--json").last
    assert [(run["seed"], run["cached"]) for run in planned["runs"]] == [(0, True), (0, True), (2, False), (2, False)]
    lines = place.run("--seeds", "2", "--dry-run").stdout.splitlines()
    assert [line.split()[-2:] for line in lines[1:]] == [["to", "do"]] * 2
    assert seen == []
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("--variants", "plain,their"),
            "study few-sample: field 'variants.1': got 'their', expected 'plain', 'paper', 'few' or 'ours'",
            "correct the value",
        ),
        (
            ("--samples", "-5"),
            "study few-sample: field 'samples.0': got '-5', expected greater than or equal to 2",
            "correct the value",
        ),
        (
            ("--seeds", ""),
            "study few-sample: field 'seeds': got nothing, expected one value or more",
            "correct the values",
        ),
        (("--set", "compress.stpes=2"), "config: unknown key 'compress.stpes'", "did you mean 'steps'?"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(place: Any, arguments: tuple[str, ...], message: str, hint: str) -> None:
    outcome = place.run(*arguments)
    assert outcome.exit_code == 2
    assert outcome.failure[0].startswith(message)
    assert outcome.failure[1] == hint


def test_an_unknown_method_names_the_known_ones(place: Any) -> None:
    outcome = place.run("--methods", "mri")
    assert outcome.exit_code == 2
    assert outcome.failure[0].startswith("unknown compression method 'mri'; known: ")


def test_without_a_study_the_studies_are_listed(edgec: Any) -> None:
    outcome = edgec("study")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert "few-sample" in outcome.stdout


def test_parts_of_the_recipe_are_part_of_a_build_s_key(edgec: Any, tmp_path: Path) -> None:
    def key(*arguments: str) -> str:
        planned = edgec("build", "--dry-run", "--json", "--cache", tmp_path, *arguments).last
        return next(stage["key"] for stage in planned["stages"] if stage["stage"] == "compress")

    assert key("--set", 'compress.oefsmc.parts=["finetuning"]') != key()
