"""`edgec study long-tail` on the embedded digits: runs, goes on after a cut, and says what is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgec.core.files import DRAFT
from edgec.pipeline.stages import compress
from edgec.study import training

FILES = {"results.json", "results.csv", "results.md", "plot.svg"}
SMALL = (
    *("long-tail", "--imbalance", "10", "--losses", "labels,kd,ltkd-alone", "--adjusted", "nothing,both"),
    *("--data", "whole,few", "--seeds", "0", "--steps", "3", "--samples", "20", "--teacher-steps", "4"),
    *("--set", "compress.steps=2", "--set", "data.ood_count=20"),
)
WHOLE = (
    *(("teacher", "nothing"), ("teacher", "teacher"), ("labels", "nothing"), ("labels", "labels")),
    *(("kd", "nothing"), ("kd", "both"), ("ltkd-alone", "nothing"), ("ltkd-alone", "teacher")),
)
FEW = (
    *(("teacher", "nothing"), ("teacher", "teacher"), ("features", "nothing"), ("features", "teacher")),
    *(("kd", "nothing"), ("kd", "teacher")),
)
RUNS = len(WHOLE) + len(FEW)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, study_place: Any) -> tuple[Any, Any]:
    """A finished study and what it printed. Nobody may change it."""
    place = study_place(tmp_path_factory.mktemp("long-tail"), *SMALL)
    outcome = place.run()
    assert outcome.exit_code == 0, outcome.stderr
    return place, outcome


@pytest.mark.slow
def test_two_processes_give_the_same_bytes_as_one(
    studied: tuple[Any, Any], tmp_path: Path, study_place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the seconds. One thread each: with more of them, sums are added up in another order."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    other = study_place(tmp_path, *SMALL)
    outcome = other.run("--workers", "2")
    assert outcome.exit_code == 0, outcome.stderr
    assert [line.split("/")[0] for line in outcome.stderr.splitlines() if line.startswith("[")][-1] == f"[{RUNS}"
    alone, together = (
        {
            path.relative_to(where.cache): path
            for path in where.cache.rglob("*")
            if path.suffix in (".json", ".safetensors")
        }
        for where in (studied[0], other)
    )
    assert alone.keys() == together.keys()
    for name in alone:
        assert untimed(alone[name]) == untimed(together[name]), name
    assert untimed(studied[0].output / "results.json") == untimed(other.output / "results.json")


def untimed(path: Path) -> Any:
    """A file without what depends on how long something took."""
    if path.suffix != ".json":
        return path.read_bytes()

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(each) for name, each in value.items() if name not in ("seconds", "digest")}
        return [kept(each) for each in value] if isinstance(value, list) else value

    return kept(json.loads(path.read_bytes()))


@pytest.fixture
def place(studied: tuple[Any, Any], tmp_path: Path, study_place: Any) -> Any:
    """A copy of the finished study's cache, without its output."""
    shutil.copytree(studied[0].cache, tmp_path / "cache")
    return study_place(tmp_path, *SMALL)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lists what is trained or recovered from now on; the n-th may fail."""

    def watch(*, failing: int = -1) -> list[str]:
        seen: list[str] = []

        def watched(original: Callable[..., Any], kind: Callable[[dict[str, Any]], str]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                seen.append(kind(options))
                if len(seen) - 1 == failing:
                    raise KeyboardInterrupt
                return original(*arguments, **options)

            return call

        trained = watched(training.train, lambda given: "taught" if given.get("teacher") is not None else "labels")
        monkeypatch.setattr(training, "train", trained)
        monkeypatch.setattr(compress, "compressed", watched(compress.compressed, lambda _: "recovered"))
        return seen

    return watch


def test_the_files_are_there_and_the_last_line_names_the_page(studied: tuple[Any, Any]) -> None:
    place, outcome = studied
    assert {path.name for path in place.output.iterdir()} == FILES
    assert outcome.stdout.splitlines()[-1] == str(place.output / "results.md")
    assert outcome.stderr.splitlines()[0] == f"[1/{RUNS}] teacher, digits_net/digits_net, imbalance 10, seed 0"


def test_every_run_is_in_the_results(studied: tuple[Any, Any]) -> None:
    runs = studied[0].results()["runs"]
    for data, expected in (("whole", WHOLE), ("few", FEW)):
        assert tuple((run["loss"], run["adjusted"]) for run in runs if run["data"] == data) == expected
    for run in runs:
        assert run["images"] == 790
        assert sum(run["counts"]) == (50 if run["data"] == "few" and run["loss"] != "teacher" else 83)
        assert 0 < run["accuracy"] < 1
        assert run["tail_accuracy"] is not None
        assert run["seconds"] > 0
    with (studied[0].output / "results.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == RUNS


def test_few_samples_have_the_tail_of_the_teacher(studied: tuple[Any, Any]) -> None:
    runs = studied[0].results()["runs"]
    taught, few = (next(run["counts"] for run in runs if run["loss"] == loss) for loss in ("teacher", "features"))
    pairs = sorted(zip(taught, few, strict=True))
    assert [few for _, few in pairs] == sorted(few for _, few in pairs)
    assert pairs[0][1] < pairs[-1][1]


def test_whole_and_few_have_the_same_teacher(studied: tuple[Any, Any]) -> None:
    place = studied[0]
    assert len(place.finished("long-tail-teacher")) == 1
    scores = [run["accuracy"] for run in place.results()["runs"] if (run["loss"], run["adjusted"]) == FEW[0]]
    assert scores[0] == scores[1]


def test_an_unchanged_study_trains_nothing_and_says_the_same(studied: tuple[Any, Any], place: Any, made: Any) -> None:
    seen = made()
    answer = place.run("--json").last
    assert seen == []
    assert (answer["runs"], answer["cached"]) == (RUNS, RUNS)
    for name in FILES:
        assert (place.output / name).read_bytes() == (studied[0].output / name).read_bytes()


def test_the_same_study_elsewhere_trains_as_much_and_gives_the_same_scores(
    studied: tuple[Any, Any], study_place: Any, tmp_path: Path, made: Any
) -> None:
    seen, again = made(), study_place(tmp_path, *SMALL)
    assert again.run("--losses", "kd", "--adjusted", "nothing").exit_code == 0
    assert seen == ["labels", "taught", "recovered"]
    before = {(run["data"], run["loss"], run["adjusted"]): run["accuracy"] for run in studied[0].results()["runs"]}
    for run in again.results()["runs"]:
        assert run["accuracy"] == before[run["data"], run["loss"], run["adjusted"]]


def test_a_loss_more_trains_it_alone_from_the_teacher_that_is_there(place: Any, made: Any) -> None:
    seen = made()
    answer = place.run("--losses", "kd,ltkd", "--adjusted", "nothing", "--json").last
    assert (answer["runs"], answer["cached"]) == (8, 6)
    assert seen == ["taught", "recovered"]


def test_a_study_that_is_interrupted_goes_on_where_it_was(place: Any, made: Any) -> None:
    for folder in place.finished("long-tail"):
        shutil.rmtree(folder)
    made(failing=2)
    outcome = place.run()
    assert (outcome.exit_code, outcome.stdout) == (130, "")
    assert len(place.finished("long-tail")) == 4  # two of the teacher, two of labels
    assert not place.output.exists() or not list(place.output.iterdir())
    assert not list(place.folder.rglob(f"*{DRAFT}"))


def test_a_dry_run_says_what_is_there(place: Any, made: Any) -> None:
    seen = made()
    planned = place.run("--seeds", "0,1", "--dry-run", "--json").last
    assert planned["study"] == "long-tail"
    assert [run["cached"] for run in planned["runs"]] == [True] * RUNS + [False] * RUNS
    assert {*planned["runs"][0]} == {
        *("data", "teacher", "student", "imbalance", "loss", "adjusted", "seed", "key", "cached"),
    }
    shown = place.run("--dry-run").stdout.split()
    assert (shown.count("cached"), shown.count("do")) == (RUNS, 0)
    assert seen == []
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("--losses", "kdd"),
            "study long-tail: field 'losses.0': got 'kdd', expected 'labels', 'kd', ",
            "correct the value",
        ),
        (
            ("--pairs", "digits_net"),
            "study long-tail: field 'pairs.0': got 'digits_net', expected TEACHER/STUDENT, as in ",
            "correct the values",
        ),
        (
            ("--pairs", "digits_net/resnet9"),
            "model 'edgec.models.digits:resnet9': module 'edgec.models.digits' has no 'resnet9'",
            "name a function that makes the module",
        ),
        (("--set", "compress.stpes=2"), "config: unknown key 'compress.stpes'", "did you mean 'steps'?"),
        (
            ("--set", "compress.method=none"),
            "compress.method is 'none', which prunes no teacher",
            "set one of cd, fskd, learngene, mir, practise, or leave few out of --data",
        ),
        (
            ("--set", "data.few.total=79000"),
            "train images of scikit-learn's handwritten digits: class '",
            "ask for fewer samples or less imbalance, or add images of this class",
        ),
        (
            ("--learning-rate", "1e30", "--seeds", "5"),
            "a weight became NaN or infinite: a learning rate of 1e+30 is too high for this net",
            "lower it with --learning-rate",
        ),
    ],
)
def test_bad_input_is_one_line_and_a_hint(
    place: Any, made: Any, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    seen = made()
    outcome = place.run(*arguments)
    assert outcome.exit_code == 2
    assert outcome.failure[0].startswith(message)
    assert outcome.failure[1].startswith(hint)
    assert len(seen) == ("--learning-rate" in arguments)
    assert not place.output.exists() or not list(place.output.iterdir())
