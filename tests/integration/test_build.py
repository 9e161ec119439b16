"""`edgec build` from end to end: what stands in the bundle, and what a script may rely on."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgec.core.digest import digest_image
from edgec.core.host import describe_host, this_host
from edgec.core.measurement import Stage
from edgec.core.target import is_like, known_targets, load_target
from edgec.evaluate.report import Report, parse_report
from edgec.package import Golden, open_bundle, read_golden
from edgec.pipeline.embedded import WEIGHTS
from edgec.runtime import load_model
from support.brief import UNSEEN

ALL = [
    "data",
    "teacher",
    "baseline",
    "few",
    "compress",
    "export",
    "calibrate",
    "quantize",
    "prove",
    "evaluate",
    "package",
]
FILES = {
    *("broken.json", "calibration.json", "golden.npz", "manifest.json", "model.onnx", "predictions.npz"),
    *("report.html", "report.json", "sbom.cdx.json"),
}
NONE = ("compress.method=none", "data.ood_count=60")
"""Quantisation alone: no training."""
DIGITS_INPUT = "model.input={height=8,width=8,channels=1,mean=[0.305],std=[0.376]}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def golden_of(bundle: Path) -> Golden:
    manifest = open_bundle(bundle).manifest
    data = (bundle / "golden.npz").read_bytes()
    return read_golden(data, manifest.input, classes=len(manifest.labels), where=str(bundle))


class TestBundle:
    def test_opens_and_verifies(self, digits: Any) -> None:
        bundle = open_bundle(digits.bundle)
        bundle.verify()
        assert {path.name for path in digits.bundle.iterdir()} == FILES

    def test_the_archive_beside_it_holds_the_same(self, digits: Any) -> None:
        archive = open_bundle(digits.archive)
        archive.verify()
        assert archive.manifest == open_bundle(digits.bundle).manifest

    def test_nothing_else_is_left_beside_it(self, digits: Any) -> None:
        assert {path.name for path in digits.bundle.parent.iterdir()} == {"bundle", "bundle.edgec", "cache"}

    def test_the_runtime_reproduces_the_golden_logits(self, digits: Any) -> None:
        model, golden = load_model(digits.bundle), golden_of(digits.bundle)
        assert len(golden.inputs) == 16
        np.testing.assert_array_equal(model.session.logits(golden.inputs), golden.logits)

    def test_the_lineage_names_every_stage_with_its_key(self, digits: Any) -> None:
        stages = [stage["name"] for stage in digits.manifest["lineage"]]
        assert stages == ["data", "teacher", "baseline", "few", "compress", "export", "calibrate", "quantize"]
        planned = subprocess.run(
            [sys.executable, "-m", "edgec", "build", *digits.arguments, "--dry-run", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        keys = {stage["stage"]: stage["key"] for stage in json.loads(planned.stdout)["stages"]}
        assert {stage["name"]: stage["key"] for stage in digits.manifest["lineage"]}.items() <= keys.items()

    def test_no_path_of_this_machine_is_in_it(self, digits: Any) -> None:
        home = str(digits.bundle.parent).encode()
        assert [path.name for path in digits.bundle.iterdir() if home in path.read_bytes()] == []


@pytest.fixture(scope="module")
def without(builder: Any, tmp_path_factory: pytest.TempPathFactory, plain_cache: Path) -> Any:
    """A build whose test images must not travel."""
    settings = (*NONE, "report.images=false")
    return builder(tmp_path_factory.mktemp("without"), settings=settings, cache=plain_cache)


class TestImagesThatTravel:
    @staticmethod
    def golden_among_the_tested(bundle: Path) -> int:
        """How many golden images are test images."""
        with np.load(bundle / "predictions.npz") as arrays:
            tested = set(arrays["images"].tolist())
        return sum(int(digest_image(image)[:16], 16) in tested for image in golden_of(bundle).inputs)

    def test_golden_images_are_test_images(self, digits: Any) -> None:
        assert self.golden_among_the_tested(digits.bundle) == 16

    def test_without_them_golden_images_are_drawn_and_are_enough_for_the_smoke_test(self, without: Any) -> None:
        golden = golden_of(without.bundle)
        assert self.golden_among_the_tested(without.bundle) == 0
        assert len({digest_image(image) for image in golden.inputs}) == 16
        assert len({*golden.logits.argmax(axis=1)}) > 1
        load_model(without.bundle).smoke_test()

    def test_without_them_no_file_has_a_picture(self, without: Any) -> None:
        assert [path.name for path in without.bundle.iterdir() if b";base64," in path.read_bytes()] == []


class TestConfidence:
    @pytest.fixture
    def report(self, digits: Any) -> Report:
        return parse_report((digits.bundle / "report.json").read_bytes())

    def test_the_temperature_is_in_both_graphs_and_the_report_tells_what_it_did(self, report: Report) -> None:
        error = {row.stage: row.value for row in report.measurements if row.name == "calibration_error"}
        (before,) = (row.value for row in report.measurements if row.name == "calibration_error_without_temperature")
        assert error[Stage.ARTIFACT] == pytest.approx(error[Stage.COMPRESSED], abs=0.02)
        assert error[Stage.ARTIFACT] != pytest.approx(before, abs=0.01)
        (note,) = (note for note in report.notes if "temperature" in note)
        shares = (f"{100 * share:.1f} %" for share in (before, error[Stage.ARTIFACT], error[Stage.TEACHER]))
        assert note.endswith("calibration error {} without it, {} with it, {} of the teacher".format(*shares))

    def test_the_manifest_says_when_an_image_is_unknown_and_no_class_is_given_up(
        self, digits: Any, report: Report
    ) -> None:
        rule = open_bundle(digits.bundle).manifest.unknown
        assert rule is not None
        assert 0.1 < rule.below < 1
        measured = report.by_class(Stage.ARTIFACT, "unknown_rate")
        assert rule.classes == {label: row.value for label, row in measured.items()}
        (foreign,) = (row for row in report.measurements if row.name == "ood_unknown_rate")
        assert (rule.foreign, foreign.n) == (foreign.value, UNSEEN)
        assert max(rule.classes.values()) <= 0.2  # 0.05 is asked for; a class has 75 test images

    def test_scores_below_the_threshold_are_unknown(self, digits: Any) -> None:
        model = load_model(digits.bundle)
        scores = model.predict(golden_of(digits.bundle).inputs)
        below = open_bundle(digits.bundle).manifest.unknown
        assert below is not None
        np.testing.assert_array_equal(model.is_unknown(scores), scores.max(axis=1) < below.below)


class TestLeaks:
    @pytest.fixture
    def leaking(self, tmp_path: Path) -> Path:
        """Three of the training images are test images of digit 0 that were saved again, nearly black pixels brighter."""
        from edgec.data import load_digits_splits

        train, test = (samples.evenly(count) for samples, count in zip(load_digits_splits(), (40, 60), strict=True))
        copies = np.flatnonzero(test.labels == 0)[:3]
        pixels = test.decoded()
        train_pixels = np.concatenate([train.decoded(), np.maximum(pixels[copies], 2)])
        train_labels = np.concatenate([train.labels, test.labels[copies]])
        names = np.array(train.classes)
        np.savez(tmp_path / "train.npz", images=train_pixels, labels=train_labels, names=names)
        np.savez(tmp_path / "test.npz", images=pixels, labels=test.labels, names=names)
        return tmp_path

    def test_near_duplicates_are_left_out_and_said_so_everywhere(
        self, tmp_path: Path, edgec: Any, leaking: Path
    ) -> None:
        given = ("--train", leaking / "train.npz", "--test", leaking / "test.npz", "--target", "x86-avx2")
        teacher = ("--model", "edgec.models.digits:digits_net", "--weights", WEIGHTS)
        settings = [part for setting in (*NONE, DIGITS_INPUT) for part in ("--set", setting)]
        places = ("--output", tmp_path / "bundle", "--cache", tmp_path / "cache")
        outcome = edgec("build", *given, *teacher, *settings, *places, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        answer = json.loads(outcome.stdout.splitlines()[-1])
        assert answer["left_out"] == len(answer["leaks"]) == 3
        assert {(leak["split"], leak["other"], leak["reason"]) for leak in answer["leaks"]} == {
            ("test", "train", "near-duplicate")
        }
        report = parse_report((tmp_path / "bundle" / "report.json").read_bytes())
        assert {row.n for row in report.measurements if row.name == "accuracy" and row.label is None} == {57}
        assert {split.name: split.n for split in report.data.splits}["test"] == 57
        assert report.notes[0].startswith("3 test images are left out of the test set, as other splits give them away")
        assert "3 test images are left out" in outcome.stderr
        page = (tmp_path / "bundle" / "report.html").read_text(encoding="utf-8")
        assert "3 left out of the test set" in page


class TestOutput:
    def test_the_last_line_of_stdout_is_the_bundle(self, digits: Any) -> None:
        assert digits.outcome.stdout.splitlines()[-1] == str(digits.bundle)

    def test_the_first_line_says_that_the_embedded_default_is_built(self, digits: Any) -> None:
        first = digits.outcome.stderr.splitlines()[0].strip()
        assert first.startswith("no model and no data given: building the embedded default, handwritten digits, 50 ")

    def test_every_stage_has_its_line(self, digits: Any) -> None:
        lines = digits.outcome.stderr.splitlines()
        for number, stage in enumerate(ALL, start=1):
            assert f"[{number}/{len(ALL)}] {stage}" in lines

    def test_the_built_in_images_are_announced_once(self, digits: Any) -> None:
        assert digits.outcome.stderr.count("out-of-distribution images given") == 1
        assert digits.outcome.stderr.count("OOD images") == 0

    def test_the_table_shows_every_class_under_every_model(self, digits: Any) -> None:
        rows = [line.split() for line in digits.outcome.stdout.splitlines()]
        assert ["class", "few", "teacher", "plain", "few", "only", "compressed", "artifact"] in rows
        few = {row[0]: int(row[1]) for row in rows if row and row[0] in set("0123456789") and row.count("%") == 5}
        assert list(few.values()) == sorted(few.values(), reverse=True)
        assert sum(few.values()) == 50
        assert len(few) == 10

    def test_ood_images_that_are_too_far_are_brought_near_and_it_is_said(self, digits: Any) -> None:
        (note,) = (note for note in digits.report["notes"] if "colours, spectrum and levels" in note)
        before, after = map(float, re.findall(r"from ([\d.]+) to ([\d.]+) nat", note)[0])
        assert before > 0.3
        assert after < 0.1
        assert note in " ".join(digits.outcome.stdout.split())

    def test_nothing_is_coloured_where_nobody_looks(self, digits: Any) -> None:
        assert "\x1b" not in digits.outcome.stdout + digits.outcome.stderr


class TestReport:
    def test_is_what_design_says(self, digits: Any) -> None:
        report = digits.report
        assert report["schema"] == 1
        fields = {"stage", "name", "label", "value", "unit", "n", "low", "high", "kind", "where", "machine"}
        for row in report["measurements"]:
            assert set(row) == fields
            assert row["stage"] in ("teacher", "baseline", "few", "compressed", "artifact")
            assert row["kind"] in ("measured", "predicted")
            assert row["n"] >= 1 or row["kind"] == "predicted"
            assert row["where"]
            assert row["label"] is None or row["label"] in report["labels"]
            if row["low"] is not None and row["high"] is not None:
                assert row["low"] <= row["value"] <= row["high"]

    @pytest.mark.parametrize("stage", ["teacher", "baseline", "few", "compressed", "artifact"])
    def test_every_model_has_its_accuracy_as_a_whole_and_by_class(self, digits: Any, stage: str) -> None:
        rows = [row for row in digits.report["measurements"] if row["stage"] == stage]
        accuracy = {row["label"]: row for row in rows if row["name"] == "accuracy"}
        assert set(accuracy) == {None, *"0123456789"}
        assert all(0 <= row["value"] <= 1 for row in accuracy.values())
        assert sum(row["n"] for label, row in accuracy.items() if label is not None) == accuracy[None]["n"]
        names = {row["name"] for row in rows}
        assert {"macro_f1", "worst_class_accuracy", "head_accuracy", "tail_accuracy"} <= names
        worst = next(row["value"] for row in rows if row["name"] == "worst_class_accuracy")
        assert worst == min(row["value"] for label, row in accuracy.items() if label is not None)

    def test_confusion_and_accuracy_agree(self, digits: Any) -> None:
        for stage, counts in digits.report["confusion"].items():
            matrix = np.array(counts)
            row = next(
                row
                for row in digits.report["measurements"]
                if (row["stage"], row["name"], row["label"]) == (stage, "accuracy", None)
            )
            assert row["value"] == pytest.approx(np.trace(matrix) / matrix.sum())

    def test_the_teacher_stands_beside_what_ships(self, digits: Any) -> None:
        rows = [row for row in digits.report["measurements"] if row["label"] is None]
        found = {(row["stage"], row["name"], row["kind"]): row["value"] for row in rows}
        for name, kind in (("latency_ms_p50", "predicted"), ("latency_ms_p50", "measured"), ("size_bytes", "measured")):
            assert found["teacher", name, kind] > 0
        # A fifth of the multiply-adds stays, beside the layers that are not pruned.
        assert (
            0.1 < found["artifact", "multiply_adds", "measured"] / found["teacher", "multiply_adds", "measured"] < 0.2
        )
        times = [found[stage, "latency_ms_p50", "predicted"] for stage in ("teacher", "artifact")]
        assert found["artifact", "teacher_speedup", "predicted"] == pytest.approx(times[0] / times[1])
        assert ("artifact", "teacher_speedup", "measured") not in found
        assert "Multiply-adds, an image: " in digits.outcome.stdout

    def test_latency_is_predicted_for_the_device_and_measured_here(self, digits: Any) -> None:
        found = {
            (row["kind"], row["where"] == digits.report["target_title"])
            for row in digits.report["measurements"]
            if (row["stage"], row["name"]) == ("artifact", "latency_ms_p50")
        }
        assert found == {("predicted", True), ("measured", False)}

    def test_splits_share_no_image(self, digits: Any) -> None:
        data = digits.report["data"]
        assert [split["name"] for split in data["splits"]] == ["train", "test", "ood"]
        assert [pair["shared"] for pair in data["overlaps"]] == [0, 0, 0]

    def test_it_is_read_back(self, digits: Any) -> None:
        report = parse_report((digits.bundle / "report.json").read_bytes())
        assert report.gates is not None
        assert report.gates.min_accuracy == 0.01


class TestAgain:
    def test_an_unchanged_build_is_cached_whole_and_says_so(self, digits: Any, edgec: Any) -> None:
        before = {path.name: sha256(path) for path in digits.bundle.iterdir()}
        outcome = edgec("build", *digits.arguments, "--json")
        assert outcome.last["cached"] == ALL
        assert outcome.last["bundle"] == str(digits.bundle)
        assert outcome.last["report"] == str(digits.bundle / "report.json")
        assert set(outcome.last) == {
            *("bundle", "report", "seconds", "cached", "fetched", "loss", "passed"),
            *("left_out", "leaks", "contradictions", "teacher", "costs"),
        }
        assert len(outcome.stdout.splitlines()) == 1
        assert {path.name: sha256(path) for path in digits.bundle.iterdir()} == before

    def test_an_unchanged_build_imports_nothing_heavy(self, digits: Any) -> None:
        code = (
            "import sys\n"
            "from edgec.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print('torch' in sys.modules, 'onnx' in sys.modules, 'sklearn' in sys.modules)"
        )
        command = [sys.executable, "-c", code, "build", *digits.arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False False False"
        assert done.stdout.splitlines()[-2] == str(digits.bundle)

    def test_a_lost_bundle_comes_back_from_the_cache(self, digits: Any, edgec: Any, tmp_path: Path) -> None:
        outcome = edgec("build", *digits.arguments, "--output", tmp_path / "copy", "--json")
        assert outcome.last["cached"] == ALL
        assert (tmp_path / "copy" / "manifest.json").read_bytes() == (digits.bundle / "manifest.json").read_bytes()

    def test_the_cache_is_cut_back_but_not_under_the_build(
        self, digits: Any, builder: Any, edgec: Any, tmp_path: Path
    ) -> None:
        cache = Path(shutil.copytree(digits.cache, tmp_path / "cache"))
        again = edgec("build", *digits.arguments, "--cache", cache, "--output", tmp_path / "copy", "--cache-limit", "0")
        assert "least recently used" in again.stderr  # the ranges: a finished build reads none
        assert {entry["stage"] for entry in edgec("cache", "list", "--cache", cache, "--json").last["entries"]} == {
            *ALL
        }
        builder(tmp_path, "--cache-limit", "0", "--set", "name=other", settings=NONE, cache=cache)
        left = edgec("cache", "list", "--cache", cache, "--json").last["entries"]
        assert {build for entry in left for build in entry["builds"]} >= {"other for host"}
        assert all("other for host" in entry["builds"] for entry in left)
        assert {entry["stage"] for entry in left} == {*ALL} - {"baseline", "few", "compress", "prove"}

    @pytest.mark.parametrize("place", ["copy/model.onnx", "copy.edgec"])
    def test_a_damaged_bundle_is_made_good(self, digits: Any, edgec: Any, tmp_path: Path, place: str) -> None:
        arguments = ("build", *digits.arguments, "--output", tmp_path / "copy")
        edgec(*arguments)
        (tmp_path / place).write_bytes(b"damaged")
        assert edgec(*arguments).exit_code == 0
        open_bundle(tmp_path / "copy").verify()
        open_bundle(tmp_path / "copy.edgec").verify()

    def test_the_archive_follows_the_bundle(self, digits: Any, edgec: Any, tmp_path: Path) -> None:
        """A build that was killed between the two leaves an old archive beside a new folder."""
        named = ("build", *digits.arguments, "--output", tmp_path / "copy", "--set")
        edgec(*named, "name=first")
        old = (tmp_path / "copy.edgec").read_bytes()
        edgec(*named, "name=second")
        (tmp_path / "copy.edgec").write_bytes(old)
        edgec(*named, "name=second")
        assert open_bundle(tmp_path / "copy.edgec").manifest.name == "second"

    def test_the_same_seed_in_another_cache_gives_the_same_bytes(
        self, digits: Any, builder: Any, tmp_path: Path
    ) -> None:
        other = builder(tmp_path, *digits.arguments[6:])
        assert other.outcome.stdout.splitlines()[-1] == str(tmp_path / "bundle")
        assert sha256(other.bundle / "model.onnx") == sha256(digits.bundle / "model.onnx")
        assert other.manifest["lineage"] == digits.manifest["lineage"]

    def test_a_dry_run_prints_the_plan_and_does_nothing(self, digits: Any, edgec: Any, tmp_path: Path) -> None:
        outcome = edgec(
            "build", "--target", "jetson", "--dry-run", "--cache", tmp_path / "c", "--output", tmp_path / "o"
        )
        assert outcome.exit_code == 0
        rows = [line.split()[::2] for line in outcome.stdout.splitlines()[2:]]
        assert rows == [[stage, "to"] for stage in ALL]
        assert list(tmp_path.iterdir()) == []
        planned = edgec("build", *digits.arguments, "--dry-run", "--json").last
        assert planned["target"] == "jetson-orin-nano-8gb"
        assert [(stage["stage"], stage["cached"]) for stage in planned["stages"]] == [(stage, True) for stage in ALL]


def _inflated(model: Path, output: Path) -> Path:
    """The same function with first activations of up to 76,000: some images have one that does not fit float16."""
    graph_model = onnx.load(model)
    weights = [node.input[1:3] for node in graph_model.graph.node if node.op_type == "Conv"]
    factors = {**dict.fromkeys(weights[0], 2.4e4), weights[1][0]: 1 / 2.4e4}
    for tensor in graph_model.graph.initializer:
        if tensor.name in factors:
            array = numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(graph_model, output)
    return output


class TestWays:
    """Other inputs and settings, without training where it is not what is asked about."""

    def test_without_compression(self, builder: Any, tmp_path: Path, plain_cache: Path) -> None:
        build = builder(tmp_path, "--target", "x86-avx2", settings=NONE, cache=plain_cache)
        stages = {row["stage"] for row in build.report["measurements"]}
        assert stages == {"teacher", "compressed", "artifact"}
        accuracy = {
            row["stage"]: row["value"]
            for row in build.report["measurements"]
            if (row["name"], row["label"]) == ("accuracy", None)
        }
        assert accuracy["teacher"] == accuracy["compressed"] >= 0.98
        assert accuracy["artifact"] >= 0.97
        assert "compress" not in [stage["name"] for stage in build.manifest["lineage"]]

    @pytest.mark.parametrize("target", sorted(known_targets()))
    def test_every_target_that_ships(self, builder: Any, tmp_path: Path, plain_cache: Path, target: str) -> None:
        build = builder(tmp_path, "--target", target, settings=NONE, cache=plain_cache)
        open_bundle(build.bundle).verify()
        profile = known_targets()[target]
        assert build.manifest["target"]["name"] == target
        assert build.manifest["model"]["scheme"] == profile.quantization.scheme.value
        half = profile.quantization.scheme.is_int8 and profile.quantization.float_type == "float16"
        assert build.manifest["model"]["opset"] == max(profile.runtime.opset, 19 if half else 0)
        assert build.manifest["runtime"]["engine"] == profile.runtime.engine
        assert (build.manifest["runtime"]["build_plan"] is None) == (profile.runtime.engine != "tensorrt")
        load_model(build.bundle).smoke_test()
        worst = next(
            row["value"]
            for row in build.report["measurements"]
            if (row["stage"], row["name"]) == ("artifact", "worst_class_accuracy")
        )
        assert worst >= 0.9  # the teacher's worst class has 95.0 %

    @pytest.mark.parametrize("scheme", ["float32", "float16"])
    def test_a_scheme_without_ranges(self, builder: Any, tmp_path: Path, plain_cache: Path, scheme: str) -> None:
        build = builder(
            tmp_path, "--target", "jetson", "--set", f"quantize.scheme={scheme}", settings=NONE, cache=plain_cache
        )
        assert build.manifest["model"]["scheme"] == scheme
        agreement = next(
            row["value"]
            for row in build.report["measurements"]
            if (row["stage"], row["name"]) == ("artifact", "teacher_agreement")
        )
        assert agreement >= 0.99

    def test_a_float16_target_has_its_own_accuracy_of_every_class(
        self, builder: Any, tmp_path: Path, plain_cache: Path
    ) -> None:
        build = builder(tmp_path, "--target", "jetson-nano", settings=NONE, cache=plain_cache)
        assert build.manifest["model"]["scheme"] == "float16"
        rows = [row for row in build.report["measurements"] if row["name"] == "accuracy"]
        half = {row["label"]: row for row in rows if row["stage"] == "artifact"}
        assert set(half) == {None, *"0123456789"}
        assert all(
            row["where"].startswith("float16, rounded after every operator, onnxruntime") for row in half.values()
        )
        full = {row["label"]: row["value"] for row in rows if row["stage"] == "compressed"}
        # Eleven bits move logits of size 10 by less than 0.1; a class may lose or win a near tie of its 35 or so images.
        assert max(abs(full[label] - row["value"]) for label, row in half.items()) <= 0.03

    def test_float16_that_overflows_names_the_classes_that_it_loses(
        self, builder: Any, edgec: Any, tmp_path: Path, plain_cache: Path
    ) -> None:
        exact = ("--target", "host", "--set", "quantize.scheme=float32")
        exported = builder(tmp_path / "teacher", *exact, settings=NONE, cache=plain_cache).bundle / "model.onnx"
        given = ("--model", _inflated(exported, tmp_path / "large.onnx"), "--set", DIGITS_INPUT)
        common = (
            *given,
            "--set",
            "data.ood_count=60",
            "--device",
            "cpu",
            "--cache",
            plain_cache,
            "--output",
            tmp_path / "given",
        )
        outcome = edgec("build", "--target", "jetson", "--set", "quantize.scheme=float16", *common)
        error, hint = outcome.failure
        assert outcome.exit_code == 1
        assert re.match(
            r"artifact model: logits of \d+ of \d+ test images are not finite: class '\d' \(\d+ of \d+\)", error
        )
        assert hint.endswith("set quantize.scheme = 'float32'")
        assert edgec("build", "--target", "jetson", "--set", "quantize.scheme=float32", *common).exit_code == 0

    @pytest.mark.parametrize("scheme", ["u8s8", "float16", "float32"])
    def test_this_machine_is_told_what_its_scheme_gains(
        self, builder: Any, tmp_path: Path, plain_cache: Path, scheme: str
    ) -> None:
        chosen = ("--target", "host", "--set", f"quantize.scheme={scheme}")
        report = builder(tmp_path, *chosen, settings=NONE, cache=plain_cache).report
        rows = [row for row in report["measurements"] if row["name"] == "speedup"]
        told = [note for note in report["notes"] if " pay" in note]
        if scheme == "float32":
            assert (rows, told) == ([], [])
            return
        (row,) = rows
        assert (row["stage"], row["unit"], row["where"]) == ("artifact", "times", report["target_title"])
        assert row["low"] <= row["value"] <= row["high"]
        assert len(told) == (row["low"] <= 1.03)  # noise of the machine, as in bench/payoff.py

    @pytest.mark.parametrize("target", ["x86-avx2", "x86-vnni"])
    def test_a_kind_of_machine_is_told_what_int8_gains_on_one_of_them_alone(
        self, builder: Any, tmp_path: Path, plain_cache: Path, target: str
    ) -> None:
        report = builder(tmp_path, "--target", target, settings=NONE, cache=plain_cache).report
        rows = [row for row in report["measurements"] if row["name"] == "speedup"]
        assert len(rows) == is_like(load_target(target), this_host())
        assert [row["where"] for row in rows] == [describe_host()] * len(rows)
        assert {row["machine"] for row in rows} <= {"other"}

    def test_preprocessing_in_the_graph_changes_no_logit(self, builder: Any, tmp_path: Path, plain_cache: Path) -> None:
        exact = ("--target", "host", "--set", "quantize.scheme=float32")
        outside = builder(tmp_path / "a", *exact, settings=NONE, cache=plain_cache)
        inside = builder(
            tmp_path / "b", *exact, "--set", "export.preprocess_in_graph=true", settings=NONE, cache=plain_cache
        )
        assert (outside.manifest["preprocessing_in_graph"], inside.manifest["preprocessing_in_graph"]) == (False, True)
        load_model(inside.bundle).smoke_test()
        first, second = (golden_of(build.bundle) for build in (outside, inside))
        np.testing.assert_array_equal(first.inputs, second.inputs)
        np.testing.assert_allclose(first.logits, second.logits, rtol=1e-4, atol=1e-4)  # float32 logits of size 10

    def test_an_onnx_teacher_is_quantised_as_it_is_and_the_build_says_so(
        self, builder: Any, tmp_path: Path, plain_cache: Path
    ) -> None:
        exact = ("--target", "host", "--set", "quantize.scheme=float32")
        exported = builder(tmp_path / "teacher", *exact, settings=NONE, cache=plain_cache).bundle / "model.onnx"
        given = ("--model", exported, "--set", "model.input={height=8,width=8,channels=1,mean=[0.305],std=[0.376]}")
        build = builder(tmp_path / "given", "--target", "host", *given)
        assert "the model is an ONNX file: compression is skipped" in build.outcome.stderr
        assert any("a finished graph cannot be pruned" in note for note in build.report["notes"])
        assert {stage["name"] for stage in build.manifest["lineage"]}.isdisjoint({"compress", "baseline", "few"})
        agreement = next(
            row["value"]
            for row in build.report["measurements"]
            if (row["stage"], row["name"]) == ("artifact", "teacher_agreement")
        )
        assert agreement >= 0.98  # int8 against the FP32 that was given

    def test_folders_of_images_and_a_config(self, builder: Any, edgec: Any, images: Path, tmp_path: Path) -> None:
        from edgec.pipeline.embedded import WEIGHTS

        config = tmp_path / "edgec.toml"
        config.write_text(
            f"""
            name = "folders"
            target = "raspberry-pi-5"
            [model]
            name = "edgec.models.digits:digits_net"
            weights = "{WEIGHTS}"
            input = {{ height = 8, width = 8, channels = 1, mean = [0.305], std = [0.376] }}
            [data]
            train = "{images / "train"}"
            test = "${{EDGEC_TEST_IMAGES:-{images / "test"}}}"
            ood = "{images / "ood"}"
            [gates]
            min_accuracy = 0.0
            """,
            encoding="utf-8",
        )
        build = builder(tmp_path, "--config", config, settings=("compress.steps=3", "data.ood_count=30"))
        assert build.manifest["name"] == "folders"
        assert build.manifest["labels"] == list("0123456789")
        splits = {split["name"]: split for split in build.report["data"]["splits"]}
        assert splits["train"]["counts"] == [6] * 10
        assert splits["test"]["counts"] == [8] * 10
        assert splits["ood"]["n"] == 30
        assert "embedded" not in build.outcome.stderr
        assert not any("no OOD" in note for note in build.report["notes"])
        assert edgec("check", build.bundle).exit_code == 0
