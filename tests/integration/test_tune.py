"""`edgec tune` on the embedded digits: searches, is resumed, chooses without test images, and says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec as edgec_door
from edgec.cli.build import parse_setting
from edgec.core.digest import digest_file
from edgec.data import load_digits_splits
from edgec.pipeline.embedded import EMBEDDED
from edgec.pipeline.stages import compress, evaluate
from edgec.tuning import judge
from edgec.tuning.search import alone_in

SETTINGS = ("compress.steps=2", "data.ood_count=60", "data.few.total=20")
OWN = (
    f"model.name={EMBEDDED['model']['name']}",
    f"model.weights={EMBEDDED['model']['weights']}",
    "model.input={height=8,width=8,channels=1,mean=[0.305],std=[0.376]}",
    "data.few.imbalance=10",
)
VARIED = ("compress.keep_flops=0.15,0.2,0.3,0.5",)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a search takes place."""

    root: Path
    edgec: Any

    @property
    def output(self) -> Path:
        return self.root / "tuned"

    @property
    def options(self) -> tuple[str, ...]:
        settings = [option for setting in SETTINGS for option in ("--set", setting)]
        return ("--device", "cpu", "--target", "jetson", "--cache", str(self.root / "cache"), *settings)

    def run(self, *more: object, trials: int = 3, vary: tuple[str, ...] = VARIED) -> Any:
        varied = [option for each in vary for option in ("--vary", each)]
        options = ("--trials", trials, "--output", self.output, *varied, *more)
        return self.edgec("tune", *self.options, *options)

    @property
    def tuned(self) -> dict[str, Any]:
        return json.loads((self.output / "tune.json").read_bytes())

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Without their seconds, which are the machine's."""
        return [{**each, "seconds": 0} for each in self.tuned["candidates"]]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, edgec: Any) -> tuple[Place, Any]:
    """A finished search and what it printed. Nobody may change it."""
    place = Place(root=tmp_path_factory.mktemp("tune"), edgec=edgec)
    outcome = place.run()
    assert outcome.exit_code == 0, outcome.stderr
    return place, outcome


@pytest.fixture
def place(searched: tuple[Place, Any], tmp_path: Path, edgec: Any) -> Place:
    """A copy of the finished search's cache, without its output."""
    shutil.copytree(searched[0].root / "cache", tmp_path / "cache")
    return Place(root=tmp_path, edgec=edgec)


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Lists the shares of the multiply-adds that are compressed to from now on; the n-th may be cut short."""

    def watch(*, cut_at: int = -1) -> list[float]:
        seen: list[float] = []
        original = compress.compressed

        def compressed(sources: Any, *arguments: Any, **options: Any) -> Any:
            seen.append(sources.plan.config.compress.keep_flops)
            if len(seen) - 1 == cut_at:
                raise KeyboardInterrupt
            return original(sources, *arguments, **options)

        monkeypatch.setattr(compress, "compressed", compressed)
        return seen

    return watch


def test_a_search_ends_with_a_bundle_a_page_and_its_file(searched: tuple[Place, Any]) -> None:
    place, outcome = searched
    bundle = place.output / "digits-jetson-orin-nano-8gb"
    assert outcome.stdout.splitlines()[-2:] == [str(place.output / "tune.html"), str(bundle)]
    assert (place.output / "tune.html").is_file()
    assert bundle.with_name(f"{bundle.name}.edgec").is_file()
    assert "Traceback" not in outcome.stderr
    assert "no validation images were given" in outcome.stdout


def test_every_candidate_is_told_with_every_class(searched: tuple[Place, Any]) -> None:
    tuned = searched[0].tuned
    assert tuned["timed"] == "predicted"
    assert tuned["candidates"][0]["settings"] == {"compress.keep_flops": 0.2}  # the config's own
    assert len({each["settings"]["compress.keep_flops"] for each in tuned["candidates"]}) == 3
    for each in tuned["candidates"]:
        assert set(each["found"]["agreement"]) == set("0123456789")
        assert 0 < each["found"]["latency_share"] <= 1
        assert each["found"]["size_bytes"] > 1000


def test_the_fastest_that_agrees_as_often_as_the_own_settings_is_chosen(searched: tuple[Place, Any]) -> None:
    tuned = searched[0].tuned
    figures = [
        (each["found"]["latency_share"], min(each["found"]["agreement"].values())) for each in tuned["candidates"]
    ]
    fastest = min(share for share, quality in figures if quality >= figures[0][1])
    assert figures[tuned["chosen"]][0] == fastest


def test_the_bundle_is_the_chosen_candidate_and_says_so(searched: tuple[Place, Any]) -> None:
    place, _ = searched
    chosen = place.tuned["candidates"][place.tuned["chosen"]]
    bundle = place.output / "digits-jetson-orin-nano-8gb"
    report = json.loads((bundle / "report.json").read_bytes())
    assert any("edgec tune compared 3 candidates for this build" in note for note in report["notes"])
    assert (bundle / "model.onnx").stat().st_size == chosen["found"]["size_bytes"]


def test_any_candidate_can_be_built(searched: tuple[Place, Any], place: Place) -> None:
    other = next(each for each in searched[0].tuned["candidates"] if each["number"] != searched[0].tuned["chosen"])
    given = ("--from-trial", other["number"], "--tuned", searched[0].output, "--output", place.root / "built")
    outcome = place.edgec("build", *place.options, *given)
    assert outcome.exit_code == 0, outcome.stderr
    assert (place.root / "built" / "model.onnx").stat().st_size == other["found"]["size_bytes"]


def test_test_images_are_met_once_after_the_choice(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = evaluate.run

    def run(sources: Any, folder: Path, **options: Any) -> Any:
        seen.append(json.loads((place.output / "tune.json").read_bytes())["candidates"])
        return original(sources, folder, **options)

    monkeypatch.setattr(evaluate, "run", run)
    shutil.rmtree(place.root / "cache" / "evaluate")
    shutil.rmtree(place.root / "cache" / "package")
    assert place.run().exit_code == 0
    assert [len(candidates) for candidates in seen] == [3]


def test_the_same_command_resumes_and_more_trials_go_on(
    searched: tuple[Place, Any], place: Place, compressions: Callable[..., list[float]]
) -> None:
    shutil.copytree(searched[0].output, place.output)
    seen = compressions()
    assert place.run().exit_code == 0
    assert seen == []
    assert place.run(trials=4).exit_code == 0
    assert len(seen) == 1
    assert place.candidates[:3] == searched[0].candidates


def test_a_search_that_was_cut_short_comes_to_the_same(
    searched: tuple[Place, Any], place: Place, compressions: Callable[..., list[float]]
) -> None:
    shutil.rmtree(place.root / "cache" / "compress")
    seen = compressions(cut_at=1)
    assert place.run().exit_code == 130
    assert len(place.candidates) == 1
    assert place.run().exit_code == 0
    assert place.candidates == searched[0].candidates
    assert len(seen) == 4  # three, and the one that was cut again


def test_a_candidate_that_cannot_be_built_is_told_and_the_search_goes_on(place: Place) -> None:
    outcome = place.run(vary=("compress.keep_flops=0.001,0.2",), trials=5)
    assert outcome.exit_code == 0, outcome.stderr
    own, small = place.candidates
    assert own["found"]
    assert small["found"] is None
    assert "keep_flops = 0.001" in small["error"]
    assert "cannot be built" in outcome.stderr
    assert "keep_flops = 0.001" in (place.output / "tune.html").read_text()


def test_where_no_candidate_is_good_enough_the_nearest_and_its_class_are_told(place: Place) -> None:
    outcome = place.run("--agreement", 100)
    error, hint = outcome.failure
    assert outcome.exit_code == 3
    assert "in none of 3 candidates does every class agree with the teacher on 100.0 %" in error
    assert "stopped by class" in error
    assert "more images of" in hint
    assert place.tuned["chosen"] is None
    assert "In no candidate" in (place.output / "tune.html").read_text()
    assert "an earlier search" not in outcome.stderr


def test_a_search_that_chooses_nothing_says_whose_the_bundle_in_its_folder_is(
    searched: tuple[Place, Any], place: Place
) -> None:
    shutil.copytree(searched[0].output, place.output)
    outcome = place.run("--agreement", 100)
    assert outcome.exit_code == 3
    assert "digits-jetson-orin-nano-8gb' is what an earlier search chose" in " ".join(outcome.stderr.split())


def test_the_file_of_another_search_is_left_as_it_is(searched: tuple[Place, Any], place: Place) -> None:
    shutil.copytree(searched[0].output, place.output)
    before = digest_file(place.output / "tune.json")
    outcome = place.run("--set", "compress.steps=3")
    assert outcome.exit_code == 2
    assert "holds a search with another config" in outcome.failure[0]
    assert digest_file(place.output / "tune.json") == before


def test_a_candidate_of_another_search_is_not_built(searched: tuple[Place, Any], place: Place) -> None:
    given = ("--from-trial", 0, "--tuned", searched[0].output, "--seed", 1)
    error, hint = place.edgec("build", *place.options, *given).failure
    assert "had another config, other images or another version" in error
    assert "--seed" in hint


def test_a_crash_of_one_candidate_does_not_end_the_search(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    original = judge.judge

    def judged(run: Any, *arguments: Any) -> Any:
        if run.sources.plan.config.compress.keep_flops == 0.5:
            raise RuntimeError("CUDA out of memory")
        return original(run, *arguments)

    monkeypatch.setattr(judge, "judge", judged)
    outcome = place.run(vary=("compress.keep_flops=0.2,0.5",), trials=5)
    assert outcome.exit_code == 0, outcome.stderr
    assert place.candidates[1]["error"] == "RuntimeError: CUDA out of memory"


def test_two_searches_in_one_folder_are_refused(place: Place) -> None:
    place.output.mkdir()
    with alone_in(place.output):
        outcome = place.run()
    assert outcome.exit_code == 2
    assert "another edgec tune works in" in outcome.failure[0]


@pytest.mark.parametrize(
    ("vary", "says"), [("compress.keep_flopz=0.2,0.5", "keep_flopz"), ("compress.steps=none", "steps")]
)
def test_a_value_that_the_config_does_not_take_is_refused_before_the_search(place: Place, vary: str, says: str) -> None:
    outcome = place.run(vary=(vary,))
    assert outcome.exit_code == 2
    assert says in outcome.failure[0]
    assert not place.output.exists()


def test_an_agreement_that_is_no_percentage_is_refused(place: Place) -> None:
    assert place.run("--agreement", "nan").exit_code == 2


def test_a_damaged_file_is_named(place: Place) -> None:
    place.output.mkdir()
    (place.output / "tune.json").write_text('{"name": 3')
    outcome = place.run()
    assert outcome.exit_code == 2
    assert "tune.json' is no file of edgec tune" in outcome.failure[0]


def test_what_cannot_be_tuned_is_refused(place: Place) -> None:
    outcome = place.run("--set", "compress.method=none")
    assert outcome.exit_code == 1
    assert "quantised alone" in outcome.failure[0]


def test_a_device_of_unknown_speed_is_refused(place: Place, tmp_path: Path) -> None:
    profile = tmp_path / "board.toml"
    profile.write_text(
        'name = "board"\ntitle = "A board"\nfamily = "x86"\narchitecture = "x86_64"\n[runtime]\nengine = "onnxruntime"\nopset = 18\n'
        '[quantization]\nscheme = "s8s8"\n'
    )
    outcome = place.run("--target", profile)
    assert "no compute figures" in outcome.failure[0]
    assert "edgec targets fit" in outcome.failure[1]


def test_validation_images_choose_where_they_are_given(place: Place, images: Path, tmp_path: Path) -> None:
    _, test = load_digits_splits()
    kept = np.concatenate([np.flatnonzero(test.labels == label)[20:24] for label in range(10)])  # none of `images`
    np.savez(tmp_path / "validation.npz", images=test.pixels[kept], labels=test.labels[kept], names=test.classes)
    data = [option for name in ("train", "test") for option in ("--set", f"data.{name}='{images / name}'")]
    own = [option for setting in OWN for option in ("--set", setting)]
    outcome = place.run(*data, *own, "--validation", tmp_path / "validation.npz", trials=1)
    assert outcome.exit_code == 0, outcome.stderr
    assert place.tuned["judged_on"] == "validation images"
    (only,) = place.tuned["candidates"]
    assert only["found"]["images"] == 40
    assert set(only["found"]["agreement"].values()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert "validation images" in (place.output / "tune.html").read_text()
    assert "no validation images were given" not in outcome.stdout
    again = place.run(*data, *own, "--validation", images / "test", "--output", tmp_path / "other")
    assert "images are in both test images of" in again.failure[0]


def test_from_python_a_search_gives_its_bundle_and_shows_its_page(place: Place) -> None:
    settings = dict(parse_setting(each) for each in SETTINGS)
    found = edgec_door.tune(
        target="jetson",
        trials=3,
        vary={"compress.keep_flops": [0.5, 0.3, 0.2, 0.15]},
        output=place.output,
        settings=settings,
        cache=place.root / "cache",
        device="cpu",
    )
    assert found.bundle is not None
    assert found.bundle.target == "jetson-orin-nano-8gb"
    assert found.values.chosen == place.tuned["chosen"]
    assert repr(found) == f"Tuning('{place.output}': 3 candidates, no. {found.values.chosen} chosen)"
    assert "edgec tune" in found._repr_html_()


def test_unknown_trials_are_refused(searched: tuple[Place, Any], place: Place) -> None:
    given = ("--from-trial", 7, "--tuned", searched[0].output)
    assert "has candidates 0 to 2" in place.edgec("build", *place.options, *given).failure[0]
    assert "no search at" in place.edgec("build", *place.options, "--from-trial", 0).failure[0]


def test_what_may_be_tried_is_printed(place: Place) -> None:
    outcome = place.run("--dry-run", "--json")
    assert outcome.last["vary"] == {"compress.keep_flops": [0.15, 0.2, 0.3, 0.5]}
    assert outcome.last["candidates"] == 4
    assert not place.output.exists()
