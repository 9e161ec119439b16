"""`edgec study imbalance` on the embedded digits: runs, goes on after a cut, and says what is wrong."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.core.files import DRAFT
from edgec.study import training

FILES = {"results.json", "results.csv", "results.md", "plot.svg"}
COMPRESSIONS = ("pruned-severe", "a3w3", "distilled-a8w4")
RUNS = 2 * 4
SMALL = (
    *("imbalance", "--profiles", "linear", "--imbalance", "5", "--compressions", ",".join(COMPRESSIONS)),
    *("--seeds", "0", "--steps", "3", "--samples", "10"),
)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, study_place: Any) -> tuple[Any, Any]:
    """A finished study and what it printed. Nobody may change it."""
    place = study_place(tmp_path_factory.mktemp("imbalance"), *SMALL)
    outcome = place.run()
    assert outcome.exit_code == 0, outcome.stderr
    return place, outcome


@pytest.fixture
def place(studied: tuple[Any, Any], tmp_path: Path, study_place: Any) -> Any:
    """A copy of the finished study's cache, without its output."""
    shutil.copytree(studied[0].cache, tmp_path / "cache")
    return study_place(tmp_path, *SMALL)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """Lists the trainings that take place from now on, whether with a teacher; the n-th may fail."""

    def watch(*, failing: int = -1) -> list[bool]:
        seen: list[bool] = []
        original = training.train

        def train(*arguments: Any, **options: Any) -> Any:
            seen.append(options.get("teacher") is not None)
            if len(seen) - 1 == failing:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        monkeypatch.setattr(training, "train", train)
        return seen

    return watch


def test_the_files_are_there_and_the_last_line_names_the_page(studied: tuple[Any, Any]) -> None:
    place, outcome = studied
    assert {path.name for path in place.output.iterdir()} == FILES
    assert outcome.stdout.splitlines()[-1] == str(place.output / "results.md")
    assert outcome.stderr.splitlines()[0] == "[1/8] none, balanced, seed 0"


def test_every_run_is_in_the_results(studied: tuple[Any, Any]) -> None:
    runs = studied[0].results()["runs"]
    assert [(run["profile"], run["compression"]) for run in runs] == [
        (profile, name) for profile in ("balanced", "linear") for name in ("none", *COMPRESSIONS)
    ]
    for run in runs:
        assert run["images"] == 790
        counts = [10] * 10 if run["profile"] == "balanced" else [2, 2, 3, 3, 4, 5, 6, 7, 8, 10]
        assert [abs(a - b) <= 1 for a, b in zip(sorted(run["counts"]), counts, strict=True)] == [True] * 10
        assert 0 < run["macro_f1"] < 1
        assert run["weights"] == (1_801 if run["compression"] == "pruned-severe" else 65_440)
        assert run["seconds"] > 0
    with (studied[0].output / "results.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == RUNS


def test_the_table_follows_from_the_runs(studied: tuple[Any, Any]) -> None:
    results = studied[0].results()
    score = {(run["profile"], run["compression"]): run["macro_f1"] for run in results["runs"]}
    gaps = {name: 1 - score["linear", name] / score["balanced", name] for name in ("none", *COMPRESSIONS)}
    for row in results["rows"]:
        if row["profile"] == "balanced":
            assert row["gap"] is row["ratio"] is None
            continue
        assert row["gap"]["mean"] == pytest.approx(gaps[row["compression"]], abs=1e-12)
        if row["compression"] != "none" and gaps["none"] > 0:
            assert row["ratio"] == pytest.approx(gaps[row["compression"]] / gaps["none"], abs=1e-9)
            assert row["robust"] == "not settled"  # one seed


def test_an_unchanged_study_trains_nothing_and_says_the_same(
    studied: tuple[Any, Any], place: Any, trainings: Any
) -> None:
    seen = trainings()
    answer = place.run("--json").last
    assert seen == []
    assert (answer["runs"], answer["cached"]) == (RUNS, RUNS)
    assert answer["results"] == str(place.output / "results.json")
    for name in FILES:
        assert (place.output / name).read_bytes() == (studied[0].output / name).read_bytes()


def test_the_same_study_elsewhere_trains_as_much_and_gives_the_same_scores(
    studied: tuple[Any, Any], study_place: Any, tmp_path: Path, trainings: Any
) -> None:
    seen, again = trainings(), study_place(tmp_path, *SMALL)
    assert again.run("--compressions", "distilled-a8w4").exit_code == 0
    assert seen == [False, False, True] * 2  # from scratch, on without compression, on with it
    before = {(run["profile"], run["compression"]): run["macro_f1"] for run in studied[0].results()["runs"]}
    for run in again.results()["runs"]:
        assert run["macro_f1"] == before[run["profile"], run["compression"]]


def test_a_compression_more_trains_it_alone_from_the_nets_that_are_there(place: Any, trainings: Any) -> None:
    seen = trainings()
    answer = place.run("--compressions", "a3w3,distilled-a3w3", "--json").last
    assert (answer["runs"], answer["cached"]) == (6, 4)
    assert seen == [True, True]


def test_a_study_that_is_interrupted_goes_on_where_it_was(place: Any, trainings: Any) -> None:
    for folder in place.finished("imbalance-net", "imbalance"):
        shutil.rmtree(folder)
    trainings(failing=2)
    outcome = place.run()
    assert (outcome.exit_code, outcome.stdout) == (130, "")
    assert len(place.finished("imbalance-net", "imbalance")) == 2
    assert not place.output.exists() or not list(place.output.iterdir())
    assert not list(place.folder.rglob(f"*{DRAFT}"))
    assert place.run("--json").last["cached"] == 2


@pytest.mark.usefixtures("leaking_digits")
def test_test_images_that_a_training_set_gives_away_are_left_out(study_place: Any, tmp_path: Path) -> None:
    place = study_place(tmp_path, *SMALL)
    outcome = place.run("--compressions", "a3w3")
    assert outcome.exit_code == 0, outcome.stderr
    said = " ".join(outcome.stderr.split())
    assert said.count("test images are left out of the test set, as other splits give them away") == 2
    images = {(run["profile"], run["compression"]): run["images"] for run in place.results()["runs"]}
    assert images["balanced", "none"] == images["balanced", "a3w3"] <= 790 - 100
    assert images["linear", "none"] == images["linear", "a3w3"] <= 790 - 50


def config_of(folder: Path, model: str) -> Path:
    """A config of another model for the digits."""
    image = "{ height = 8, width = 8, channels = 1, mean = [0.3], std = [0.4] }"
    text = f'name = "digits"\n[model]\nname = "{model}"\ninput = {image}\n[data]\nood_count = 60\n'
    (folder / "edgec.toml").write_text(text, encoding="utf-8")
    return folder / "edgec.toml"


def test_a_compression_that_does_not_apply_is_a_result(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smooth.py").write_text(
        "from torch import nn\n\n\ndef net():\n"
        "    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.SiLU()]\n"
        "    return nn.Sequential(*layers, nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(8, 10))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    outcome = place.run("--config", config_of(tmp_path, "smooth:net"), "--compressions", "pruned-severe,a3w3")
    assert outcome.exit_code == 0, outcome.stderr
    reasons = {(run["compression"], run.get("reason", "")) for run in place.results()["runs"]}
    assert {name for name, reason in reasons if not reason} == {"none", "pruned-severe"}
    assert all("reads values below zero" in reason for name, reason in reasons if name == "a3w3")
    assert "does not apply: layer '3' reads" in " ".join(outcome.stdout.split())


def test_a_dry_run_says_what_is_there(place: Any, trainings: Any) -> None:
    seen = trainings()
    planned = place.run("--seeds", "0,1", "--dry-run", "--json").last
    assert planned["study"] == "imbalance"
    assert [run["cached"] for run in planned["runs"]] == [True] * RUNS + [False] * RUNS
    assert {*planned["runs"][0]} == {"profile", "minority", "imbalance", "compression", "seed", "key", "cached"}
    lines = place.run("--dry-run").stdout.splitlines()
    assert len(lines) == 1 + RUNS
    assert all(line.endswith("cached") for line in lines[1:])
    assert seen == []
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("--compressions", "a3w1"),
            "study imbalance: field 'compressions.0': got 'a3w1', expected none, pruned-mild, ",
            "correct the values",
        ),
        (
            ("--imbalance", "1"),
            "study imbalance: field 'imbalance.0': got '1', expected greater than 1",
            "correct the value",
        ),
        (
            ("--steps", "0"),
            "study imbalance: field 'training.steps': got 0, expected greater than or equal to 1",
            "correct the value",
        ),
        (("--set", "compress.stpes=2"), "config: unknown key 'compress.stpes'", "did you mean 'steps'?"),
        (
            ("--profiles", "step", "--minority", "10"),
            "minority of 10: expected 1 to 9 classes",
            "leave some the majority",
        ),
        (
            ("--samples", "5000"),
            "train images of scikit-learn's handwritten digits: class '",
            "ask for fewer with --samples, or add images of this class",
        ),
        (
            ("--learning-rate", "1e30", "--seeds", "5"),
            "a weight became NaN or infinite: a learning rate of 1e+30 is too high for this net",
            "lower it with --learning-rate",
        ),
    ],
)
def test_bad_input_is_one_line_and_a_hint(
    place: Any, trainings: Any, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    seen = trainings()
    outcome = place.run(*arguments)
    assert outcome.exit_code == 2
    assert outcome.failure[0].startswith(message)
    assert outcome.failure[1] == hint
    assert len(seen) == ("--learning-rate" in arguments)
    assert not place.output.exists() or not list(place.output.iterdir())


def test_a_model_that_does_not_take_the_images_is_told_before_anything_is_trained(
    place: Any, tmp_path: Path, trainings: Any
) -> None:
    seen = trainings()
    outcome = place.run("--config", config_of(tmp_path, "edgec.models.cifar_resnet:resnet20"))
    assert outcome.exit_code == 2
    message, hint = outcome.failure
    start = "model 'edgec.models.cifar_resnet:resnet20' does not take images of (1, 8, 8): RuntimeError: "
    assert message.startswith(start)
    assert hint == "set model.input to the size and channels that it is made for"
    assert seen == []
