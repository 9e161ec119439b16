"""`import edgec`: what is public, what it gives back, and what notebooks show."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgec
from edgec.core.errors import ConfigError, DataError, IntegrityError

SIGNATURES = {
    "build": "(config=None, *, model=None, target=None, output=None, settings=None, cache=None, "
    "cache_limit_bytes=10000000000, device='auto', progress=None)",
    "build_family": "(config=None, *, targets=None, model=None, output=None, settings=None, cache=None, "
    "cache_limit_bytes=10000000000, device='auto', progress=None)",
    "check": "(bundle, gates=None, *, baseline=None, test=None)",
    "load": "(bundle, *, key=None)",
    "report": "(bundle)",
    "targets": "()",
    "tune": "(config=None, *, target=None, trials=20, agreement=None, vary=None, output=None, settings=None, cache=None, "
    "device='auto', progress=None)",
    "Model.predict": "(self, images, *, unknown=False)",
    "Report.to_html": "(self)",
}
MEMBERS = {
    "Bundle": {"labels", "name", "path", "target"},
    "Family": {"members", "page", "path"},
    "Model": {"labels", "loaded", "note", "predict"},
    "Prediction": {"label", "score", "scores", "unknown"},
    "Report": {"bundle", "classes", "rows", "to_html", "values"},
    "Tuning": {"bundle", "folder", "values"},
    "Verdict": {"bundle", "gates", "passed"},
}


def bare(function: Callable[..., object]) -> str:
    """The signature without its types."""
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def test_what_is_public_is_listed() -> None:
    functions = {name for name in SIGNATURES if "." not in name}
    assert set(edgec.__all__) == {"EdgecError", "__version__", *MEMBERS, *functions}
    assert dir(edgec) == sorted(edgec.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_kept(name: str) -> None:
    owner, _, method = name.partition(".")
    found = getattr(edgec, owner)
    assert bare(getattr(found, method) if method else found) == SIGNATURES[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_values_keep_their_members(name: str) -> None:
    kind = getattr(edgec, name)
    assert {member for member in {*dir(kind), *kind.__dataclass_fields__} if not member.startswith("_")} == MEMBERS[
        name
    ]


def test_no_public_name_is_a_module() -> None:
    """Importing `edgec.NAME` from anywhere would put the module in the function's place."""
    assert [name for name in edgec.__all__ if not name.startswith("_") and find_spec(f"edgec.{name}")] == []


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'edgec' has no attribute 'tuna'"):
        _ = edgec.tuna  # pyright: ignore[reportAttributeAccessIssue]


class Rows(HTMLParser):
    """Cells of a table's body, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.frame = ""
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self._inside = tag == "td"
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag == "iframe":
            self.frame = dict(attrs)["srcdoc"]

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


class TestCheck:
    def test_a_verdict_is_true_where_nothing_blocks(self, make_pets: Callable[..., Path]) -> None:
        verdict = edgec.check(make_pets(), {"min_accuracy": 0.5})
        assert verdict
        assert verdict.passed
        assert [gate.name for gate in verdict.gates] == ["min_accuracy"]

    def test_a_gate_that_is_not_met_is_told_and_not_raised(self, make_pets: Callable[..., Path]) -> None:
        verdict = edgec.check(str(make_pets()), {"min_accuracy": 0.99})
        assert not verdict
        assert "1 of 1 gates block" in repr(verdict)
        (row,) = Rows(verdict._repr_html_()).rows[1:]
        assert row == ["min_accuracy", "", "≥ 99.0 %", "90.0 %", "fail, blocks", ""]

    def test_an_unknown_gate_is_the_command_s_own_error(self, make_pets: Callable[..., Path]) -> None:
        with pytest.raises(ConfigError, match="unknown key 'min_acuracy'") as caught:
            edgec.check(make_pets(), {"min_acuracy": 0.5})
        assert caught.value.hint == "did you mean 'min_accuracy'?"

    def test_no_class_may_regress_against_a_baseline(self, make_pets: Callable[..., Path]) -> None:
        worse, deployed = make_pets("worse", right=(20, 18, 2)), make_pets("deployed")
        assert not edgec.check(worse, baseline=deployed)
        assert edgec.check(deployed, baseline=deployed)


class TestLoad:
    @pytest.fixture
    def expected(self, linear: Any, pixels: np.ndarray) -> np.ndarray:
        exact = np.exp(linear.logits(pixels))
        return exact / exact.sum(axis=1, keepdims=True)

    def test_arrays_files_and_pil_images_get_the_reference_s_scores(
        self, bundle: Path, pixels: np.ndarray, expected: np.ndarray, tmp_path: Path
    ) -> None:
        model = edgec.load(bundle)
        files = [tmp_path / f"{i}.png" for i in range(len(pixels))]
        opened = [Image.fromarray(image) for image in pixels]
        for file, image in zip(files, opened, strict=True):
            image.save(file)
        for images in (pixels, list(pixels), files, map(str, files), opened):
            found = model.predict(images)
            scores = [[one.scores[label] for label in model.labels] for one in found]
            np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)  # float32 logits below 10
            assert [one.label for one in found] == [model.labels[i] for i in expected.argmax(axis=1)]
            assert all(one.score == max(one.scores.values()) for one in found)

    def test_one_image_is_a_list_of_one(self, bundle: Path, pixels: np.ndarray, tmp_path: Path) -> None:
        model = edgec.load(bundle)
        Image.fromarray(pixels[0]).save(tmp_path / "a.png")
        answers = [
            model.predict(one) for one in (pixels[0], pixels[:1], tmp_path / "a.png", Image.fromarray(pixels[0]))
        ]
        assert answers == [answers[0]] * 4
        assert len(answers[0]) == 1
        assert model.predict([]) == []

    def test_another_size_is_fitted_as_a_file_is(self, bundle: Path, tmp_path: Path) -> None:
        large = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
        Image.fromarray(large).save(tmp_path / "large.png")
        model = edgec.load(bundle)
        assert model.predict(large) == model.predict(tmp_path / "large.png") == model.predict(large[..., None])

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros((8, 8, 3)), r"the image is float64 \[8, 8, 3\], expected uint8"),
            (np.zeros((8, 8, 4), np.uint8), r"the image is uint8 \[8, 8, 4\], expected uint8"),
            ([7], "got int for an image, expected a path, a PIL image or a NumPy array"),
            ("gone.png", "image 'gone.png' does not exist"),
        ],
    )
    def test_what_is_no_image_is_refused(self, bundle: Path, image: Any, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            edgec.load(bundle).predict(image)
        assert caught.value.hint

    def test_a_bundle_that_was_changed_is_not_loaded(self, bundle: Path) -> None:
        (bundle / "report.json").write_bytes(b"{}")
        with pytest.raises(IntegrityError):
            edgec.load(bundle)

    def test_a_bundle_without_a_signature_is_refused_where_a_key_is_named(self, bundle: Path, tmp_path: Path) -> None:
        with pytest.raises(edgec.EdgecError, match=r"gone\.pem"):
            edgec.load(bundle, key=tmp_path / "gone.pem")


class TestReport:
    def test_classes_are_records_with_an_accuracy_for_each_stage(self, make_pets: Callable[..., Path]) -> None:
        found = edgec.report(make_pets())
        artifact = {row["class"]: row["artifact"] for row in found.classes}
        assert sorted(artifact.values()) == pytest.approx([0.8, 0.9, 1.0])
        assert {"class", "train", "test", "artifact"} <= set(found.classes[0])
        assert any(row.name == "accuracy" for row in found.rows)

    def test_a_notebook_shows_the_page_in_a_frame_of_its_own(self, make_pets: Callable[..., Path]) -> None:
        pytest.importorskip("jinja2")
        found = edgec.report(make_pets())
        shown = Rows(found._repr_html_())
        assert shown.tags == {"iframe"}
        assert shown.frame == found.to_html()
        assert shown.frame.startswith("<!DOCTYPE html>")
        assert 'sandbox="allow-scripts"' in found._repr_html_()

    def test_values_are_frozen_and_print_on_one_line(self, make_pets: Callable[..., Path]) -> None:
        bundle = make_pets()
        for value in (edgec.report(bundle), edgec.check(bundle, {"min_accuracy": 0.5}), edgec.load(bundle)):
            assert "\n" not in repr(value)
            assert str(bundle) in repr(value)
            with pytest.raises(FrozenInstanceError):
                value.bundle = bundle  # pyright: ignore[reportAttributeAccessIssue]


class TestBundle:
    def test_it_shows_the_accuracy_of_every_class(self, make_pets: Callable[..., Path]) -> None:
        bundle = edgec.Bundle(make_pets())
        shown = Rows(bundle._repr_html_()).rows[1:]
        assert [row[-1] for row in sorted(shown, key=lambda row: row[-1])] == ["100.0 %", "80.0 %", "90.0 %"]
        assert bundle.name in bundle._repr_html_()

    def test_it_stands_for_its_path(self, make_pets: Callable[..., Path]) -> None:
        bundle = edgec.Bundle(make_pets())
        assert edgec.report(bundle).bundle == bundle.path
        assert json.loads((Path(bundle) / "manifest.json").read_bytes())["name"] == bundle.name

    def test_names_from_strangers_are_text(self, ten_classes: Any) -> None:
        from edgec.render.notebook import class_table, framed

        labels = ("<script>alert(1)</script>", "a\u202eb", *ten_classes.labels[2:])
        strange = dict(zip(ten_classes.labels, labels, strict=True))
        rows = tuple(
            row if row.label is None else row.model_copy(update={"label": strange[row.label]})
            for row in ten_classes.measurements
        )
        html = class_table(ten_classes.model_copy(update={"labels": labels, "measurements": rows}), caption="<b>&")
        assert Rows(html).tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert labels[0] in [row[0] for row in Rows(html).rows[1:]]
        assert "\u202e" not in html
        page = '<p title="x">&lt;\'</p>'
        assert Rows(framed(page, title='"><b>')).frame == page


class TestBuild:
    def test_a_mapping_is_a_config_and_is_left_as_it_was(self) -> None:
        from edgec.pipeline.config import read_config

        given = {"name": "mine", "compress": {"steps": 7}}
        config = read_config(given, [("compress.keep_flops", 0.4)])
        assert (config.name, config.compress.steps, config.compress.keep_flops) == ("mine", 7, 0.4)
        assert given == {"name": "mine", "compress": {"steps": 7}}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"target": "jetsn"}, "unknown target 'jetsn'"),
            ({"device": "gpu"}, "unknown device 'gpu'; known: auto, cpu, cuda"),
            ({"config": {"nmae": "x"}}, "config: unknown key 'nmae'"),
            ({"settings": {"seed.more": 1}}, "seed"),
            ({"config": "gone.toml"}, "cannot read config 'gone.toml'"),
            ({"config": {"family": {"jetson": {}}}}, "names jetson, and one target is wanted"),
        ],
    )
    def test_a_wrong_argument_is_the_command_s_own_error(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            edgec.build(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "no device is named"),
            ({"targets": []}, "no device is named"),
            ({"targets": "jetsn"}, "unknown target 'jetsn'"),
            ({"targets": ["jetson"], "settings": {"target": "host"}}, "a family has several"),
            ({"targets": ["jetson", "jetson-orin-nano-8gb"]}, "stands twice"),
            ({"targets": ["jetson"], "settings": {"family.host.compress.steps": 3}}, "built are jetson"),
        ],
    )
    def test_a_family_wants_its_devices_named(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            edgec.build_family(**arguments)

    def test_a_search_is_for_one_device(self) -> None:
        with pytest.raises(ConfigError, match="names jetson, and one target is wanted"):
            edgec.tune({"family": {"jetson": {}}})

    def test_progress_may_be_a_function_that_takes_lines(self) -> None:
        from edgec.core.progress import Lines, Progress

        lines: list[str] = []
        progress = Lines(lines.append)
        progress.stage("export", number=3, total=9, cached=True)
        progress.note("a fact")
        assert list(progress.track([1, 2], total=2, what="counting")) == [1, 2]
        assert [line.strip() for line in lines] == ["[3/9] export (cached)", "a fact"]
        assert isinstance(progress, Progress)
        assert not isinstance(print, Progress)


def test_targets_are_profiles_by_name() -> None:
    found = edgec.targets()
    assert list(found) == sorted(found)
    assert found["jetson-nano"].title == "Jetson Nano"
