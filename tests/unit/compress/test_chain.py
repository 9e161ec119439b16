"""Several smaller cuts, each recovered before the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edgec.compress.chain import in_stages
from edgec.compress.config import MirConfig, OefsmcConfig
from edgec.compress.coupling import coupled_channels
from edgec.compress.flops import total_flops
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.compress.oefsmc import compress
from edgec.compress.price import kept_flops
from edgec.compress.widths import even_widths
from edgec.core.classifier import Classifier, Step
from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.core.target import Rules
from edgec.learn.config import Budget
from edgec.models.infer import to_tensor
from edgec.models.taps import find_tap

QUICK = {"mir": {}, "fskd": {}, "cd": {"layer_steps": 3}}


def kept(student: Classifier, job: CompressJob) -> float:
    example = to_tensor(job.few.decoded()[:1], job.teacher.input)
    return total_flops(student.module, example) / total_flops(job.teacher.module, example)


@pytest.fixture
def keep() -> float:
    return 0.25


@pytest.fixture
def small(job: CompressJob, keep: float) -> CompressJob:
    return replace(job, budget=Budget(keep_flops=keep, steps=5, flip=False))


def test_steps_and_multiply_adds_are_shared_out(small: CompressJob) -> None:
    given: list[CompressJob] = []

    def run(part: CompressJob) -> Classifier:
        given.append(part)
        return part.teacher.after(part.teacher.module, Step(method="cut", facts={"number": len(given)}))

    student = in_stages(small, run, 2)
    assert [part.budget.keep_flops for part in given] == [0.5, 0.25]
    assert [part.budget.steps for part in given] == [2, 3]
    assert [part.begun is None for part in given] == [True, False]
    assert all(part.teacher is small.teacher for part in given)
    assert [part.goal for part in given] == [0.25, None]
    assert [part.seed for part in given] == [0, 1], "else each stage would draw the batches of the first again"
    assert [step.facts for step in student.history] == [{"number": 2}, {"before": [{"number": 1}]}]


def test_a_single_cut_is_the_job_itself(small: CompressJob) -> None:
    given: list[CompressJob] = []
    student = in_stages(small, lambda part: given.append(part) or part.teacher, 1)
    assert given == [small]
    assert student is small.teacher


def test_there_are_no_more_cuts_than_steps(small: CompressJob) -> None:
    job = replace(small, budget=Budget(keep_flops=0.25, steps=2))
    given: list[CompressJob] = []

    def run(part: CompressJob) -> Classifier:
        given.append(part)
        return part.teacher.after(part.teacher.module, Step(method="cut"))

    in_stages(job, run, 8)
    assert [part.budget.steps for part in given] == [1, 1]


@pytest.mark.parametrize("method", ["mir", "fskd", "cd"])
def test_every_method_that_prunes_channels_can_cut_twice(
    small: CompressJob, ood: Images, snapshot: Callable[[object], object], method: str
) -> None:
    before = snapshot(small.teacher.module)
    registered = methods[method]
    config = OefsmcConfig(ood="always", stages=2)
    student = compress(small, ood, registered, registered.config(**QUICK[method]), config, progress=Silent())
    assert [step.method for step in student.history] == [method, "chain", "oefsmc"]
    assert kept(student, small) <= 0.25
    assert student.history[0].facts["kept_flops"] == pytest.approx(kept(student, small), abs=1e-4)
    assert snapshot(small.teacher.module) == before


def test_no_cut_starves_a_layer(small: CompressJob, ood: Images) -> None:
    """Half of the even width of one cut is the least: costs of channels that a recovered net relies on look small."""
    example = to_tensor(small.few.decoded()[:1], small.teacher.input)
    net = small.teacher.module
    coupled = coupled_channels(net, find_tap(net, example).head, example)
    even = even_widths(net, coupled, kept_flops(net, example, 0.25), rules=small.rules)
    student = compress(small, ood, methods["mir"], MirConfig(), OefsmcConfig(ood="always", stages=2), progress=Silent())
    widths = student.history[0].facts["kept_channels"]
    assert all(widths[name] >= width // 8 * 4 for name, width in even.items())


@pytest.mark.parametrize("widths", ["even", "by-cost"])
def test_widths_of_several_cuts_fit_the_budget(small: CompressJob, ood: Images, widths: str) -> None:
    config = OefsmcConfig(ood="always", widths=widths, stages=3)  # pyright: ignore[reportArgumentType]
    student = compress(small, ood, methods["mir"], MirConfig(), config, progress=Silent())
    assert kept(student, small) <= 0.25


def test_a_share_out_of_reach_is_said_before_the_first_cut(small: CompressJob, ood: Images) -> None:
    job = replace(small, budget=Budget(keep_flops=0.01, steps=4), rules=Rules(channel_multiple=8))
    with pytest.raises(ConfigError, match=r"keep_flops = 0\.01: "):
        compress(job, ood, methods["mir"], MirConfig(), OefsmcConfig(ood="always", stages=2), progress=Silent())


def test_the_plain_method_cuts_once(small: CompressJob, ood: Images) -> None:
    config = OefsmcConfig(parts=(), stages=2)
    student = compress(small, ood, methods["mir"], methods["mir"].config(), config, progress=Silent())
    assert [step.method for step in student.history] == ["mir"]
