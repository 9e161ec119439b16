"""Further teachers in a build: bound before anything runs, covered by keys, heard where logits are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgec.core.errors import ConfigError, DataError, EdgecError
from edgec.core.progress import Silent
from edgec.models.infer import to_tensor
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import read_config
from edgec.pipeline.embedded import WEIGHTS
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.prior import head_of
from edgec.pipeline.refining import _teachers
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data, teacher
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.teachers import teachers_of

DIGITS = tuple("0123456789")
ROLLED = ("9", *DIGITS[:-1])
NET = {"name": "edgec.models.digits:digits_net", "weights": str(WEIGHTS)}
BRIEF = (("compress.steps", 2), ("data.ood_count", 60), ("data.few.total", 40), ("compress.compare", ["plain"]))
HEARD = ("compress.oefsmc.recovery.logit_weight", 1.0)
TRAINED = ("quantize.train", True)
"""Training with rounding compares logits without being asked."""


class Noted(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def plan(*overrides: tuple[str, Any]) -> Plan:
    return plan_build(read_config(None, [("target", "jetson"), *BRIEF, *overrides]), accelerator=Accelerator.CPU)


def beside(**settings: object) -> tuple[str, Any]:
    """The digits' net once more as a further teacher."""
    return "model.also", [{**NET, **settings}]


def changed(before: Plan, after: Plan) -> list[str]:
    first, second = ({key.stage: key.key for key in stage_keys(each)} for each in (before, after))
    return [stage for stage in first if first[stage] != second.get(stage)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("images")
    sources = Sources(plan(), Silent())
    data.run(sources, folder)
    return data.read(folder, sources.plan)


@pytest.fixture
def rolled(tmp_path: Path) -> str:
    """Weights of a digits' net that says each class's successor."""
    state = load_file(WEIGHTS)
    head = head_of(Sources(plan(), Silent()).classifier.module, plan().model.input)
    assert head is not None
    (name,) = (name for name, value in state.items() if value.shape == head.shape)
    for part in (name, name.replace("weight", "bias")):
        state[part] = state[part].roll(1, 0)
    save_file(state, tmp_path / "rolled.safetensors")
    return str(tmp_path / "rolled.safetensors")


class TestKeys:
    def test_without_further_teachers_nothing_changes(self) -> None:
        before = {key.stage: (key.settings, key.sources) for key in stage_keys(plan(HEARD, TRAINED))}
        after = {key.stage: (key.settings, key.sources) for key in stage_keys(plan(HEARD, TRAINED, ("model.also", [])))}
        assert after == before
        assert not any("also" in sources or "model.teachers" in settings for settings, sources in before.values())

    def test_they_change_what_listens_to_them_and_what_follows(self) -> None:
        follows = ["export", "calibrate", "quantize", "prove", "evaluate", "package"]
        assert changed(plan(HEARD), plan(HEARD, beside())) == ["teacher", "compress", *follows]
        assert changed(plan(TRAINED), plan(TRAINED, beside())) == ["teacher", *follows[2:]]

    @pytest.mark.parametrize(
        "more", [{"labels": ROLLED}, {"trained_on": "few"}, {"input": {"mean": [0.4]}}, {"weights": "rolled"}]
    )
    def test_all_that_is_said_of_one_counts(self, rolled: str, more: dict[str, Any]) -> None:
        more = {"weights": rolled} if "weights" in more else more
        assert changed(plan(HEARD, beside()), plan(HEARD, beside(**more)))[:2] == ["teacher", "compress"]

    def test_the_way_of_weighing_counts_where_they_are_heard(self) -> None:
        attention = ("model.teachers", "attention")
        assert changed(plan(HEARD, beside()), plan(HEARD, beside(), attention))[0] == "compress"
        assert changed(plan(TRAINED, beside()), plan(TRAINED, beside(), attention))[0] == "quantize"


class TestRefusals:
    def refused(self, *overrides: tuple[str, Any]) -> EdgecError:
        with pytest.raises((ConfigError, DataError)) as caught:
            plan(*overrides)
        return caught.value

    def test_where_no_loss_compares_logits(self) -> None:
        error = self.refused(beside())
        assert str(error) == (
            "model.also names 1 further teacher, but no loss of this build compares logits: they would teach nothing"
        )
        assert str(error.hint).startswith("set compress.oefsmc.recovery.logit_weight = 0.05, or quantize.train = true")

    @pytest.mark.parametrize(
        "settings",
        [
            (HEARD, ("compress.variant", "plain")),
            (HEARD, ("compress.method", "none")),
            (HEARD, ("compress.oefsmc.recover", "method")),
            (TRAINED, ("quantize.training.logit_weight", 0)),
        ],
    )
    def test_where_the_loss_is_of_something_that_is_not_run(self, settings: tuple[tuple[str, Any], ...]) -> None:
        assert "they would teach nothing" in str(self.refused(beside(), *settings))

    def test_a_weighing_of_one_teacher(self) -> None:
        assert "model.also names no further teacher" in str(self.refused(("model.teachers", "attention")))

    def test_frequencies_that_would_have_to_be_estimated(self) -> None:
        assert "'estimate' is for the model alone" in str(self.refused(HEARD, beside(trained_on="estimate")))

    def test_a_file_that_is_not_there(self) -> None:
        assert "no such file or folder 'gone.pt'" in str(self.refused(HEARD, beside(weights="gone.pt")))

    def test_labels_of_other_classes_before_anything_runs(self) -> None:
        sources = Sources(plan(HEARD, beside(labels=[f"class {label}" for label in DIGITS])), Silent())
        with pytest.raises(ConfigError, match=r"model\.also: .* has no output for class '0'"):
            sources.require_bound()


def test_their_paths_count_from_the_config_s_folder(tmp_path: Path) -> None:
    (tmp_path / "edgec.toml").write_text(
        '[[model.also]]\nname = "old.onnx"\n\n[[model.also]]\nname = "resnet18"\nweights = "old.pt"\n'
        'trained_on = "images"\n\n[[model.also]]\nname = "resnet18"\nweights = "ResNet18_Weights.IMAGENET1K_V1"\n'
    )
    first, second, third = read_config(tmp_path / "edgec.toml").model.also
    assert first.name == str(tmp_path / "old.onnx")
    assert (second.weights, second.trained_on) == (tmp_path / "old.pt", tmp_path / "images")
    assert third.weights == Path("ResNet18_Weights.IMAGENET1K_V1")


def test_the_teacher_stage_says_how_good_each_is_and_warns_of_chance(rolled: str, tmp_path: Path) -> None:
    named = {"model.also": [NET, {**NET, "weights": rolled}, {**NET, "weights": rolled, "labels": ROLLED}]}
    progress, bound = Noted(), plan(HEARD, *named.items())
    facts = teacher.run(Sources(bound, progress).within(teacher.key(bound)), tmp_path)
    assert facts.further is not None
    same, wrong, mapped = facts.further
    assert same.right == mapped.right == round(facts.accuracy * facts.n)
    assert wrong.right < 0.1 * wrong.n
    right = f"further teacher '{NET['name']}' is right on {facts.accuracy:.1%} of {facts.n} labelled images"
    assert progress.notes[0] == progress.notes[2] == right
    assert progress.notes[1].startswith("warning: further teacher")
    assert "no better than chance (10.0%): check its weights" in progress.notes[1]


@pytest.fixture
def student_of(images: Prepared) -> Callable[..., dict[str, torch.Tensor]]:
    """Weights of the student that a plan makes."""

    def student(*settings: tuple[str, Any], variant: Any = "ours") -> dict[str, torch.Tensor]:
        bound = plan(*settings)
        key = compress.key(bound) if variant == "ours" else compress.plain_key(bound)
        assert key is not None
        sources = Sources(bound, Silent()).within(key)
        return compress.compressed(sources, images, variant=variant).module.state_dict()

    return student


def test_recovery_listens_to_further_teachers(student_of: Callable[..., dict[str, torch.Tensor]], rolled: str) -> None:
    alone, twice = student_of(HEARD), student_of(HEARD, beside())
    other = student_of(HEARD, beside(weights=rolled))
    assert alone.keys() == twice.keys() == other.keys()
    for name, value in twice.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-4)
    assert max(float((other[name] - value).abs().max()) for name, value in alone.items() if value.ndim > 1) > 1e-3


def test_plain_compression_without_a_loss_of_logits_does_not(
    student_of: Callable[..., dict[str, torch.Tensor]], rolled: str
) -> None:
    alone, beside_it = (student_of(HEARD, *more, variant="plain") for more in ((), (beside(weights=rolled),)))
    assert all(torch.equal(value, alone[name]) for name, value in beside_it.items())


@pytest.mark.parametrize("raw", [False, True])
def test_training_with_rounding_learns_from_all_together(images: Prepared, rolled: str, raw: bool) -> None:
    told = (("model.trained_on", [9, 8, 7, 6, 5, 4, 3, 2, 1, 1]), ("model.teachers", "attention"))
    bound = plan(TRAINED, beside(weights=rolled), *told, ("export.preprocess_in_graph", raw))
    sources = Sources(bound, Silent())
    counts = np.array(bound.model.trained_on)
    pixels, spec = images.few.pixels[np.arange(5)], bound.model.input
    inputs = to_tensor(pixels, spec)
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() if raw else inputs
    with torch.no_grad(), _teachers(sources, images, cast("Any", None), counts) as run:
        found = run(batch)
        teachers = teachers_of(sources, images.few, counts)
        wanted = teachers.joined(sources.classifier.module(inputs), inputs, temperature=2.0)
    shares = torch.as_tensor(counts / counts.sum()).float().log()
    torch.testing.assert_close((found + shares).softmax(1), wanted.softmax(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("told", "shares"),
    [
        ("balanced", [0.1] * 10),
        ([1, 0, 3, 1, 1, 1, 1, 1, 1, 8], [1, 3, 1, 1, 1, 1, 1, 1, 8, 1]),
        ({name: 1 + (name == "7") for name in DIGITS}, [1, 1, 1, 1, 1, 1, 1, 2, 1, 1]),
    ],
)
def test_counts_are_in_the_order_of_the_teacher_s_own_labels(images: Prepared, told: Any, shares: list[int]) -> None:
    sources = Sources(plan(HEARD, beside(labels=ROLLED, trained_on=told)), Silent())
    found = teachers_of(sources, images.few, None).frequencies
    np.testing.assert_allclose(found[0], 0.1, rtol=1e-6)
    np.testing.assert_allclose(found[1], np.array(shares) / sum(shares), rtol=1e-6)


def test_counts_of_another_number_are_refused_by_the_setting_s_name(images: Prepared) -> None:
    sources = Sources(plan(HEARD, beside(trained_on=[1, 2, 3])), Silent())
    with pytest.raises(ConfigError, match=r"model\.also\[0\]\.trained_on: 3 counts, expected 10"):
        teachers_of(sources, images.few, None)
