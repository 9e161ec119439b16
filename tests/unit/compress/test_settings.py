"""Bounds of compression's settings."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from edgec.compress import Budget, DistillConfig, FinetuneConfig, MirConfig, OefsmcConfig

ALL = (Budget, DistillConfig, MirConfig, FinetuneConfig, OefsmcConfig)


@pytest.mark.parametrize("schema", ALL)
def test_defaults_are_sound_and_cannot_be_changed(schema: type[BaseModel]) -> None:
    settings = schema()
    assert schema.model_validate(settings.model_dump()) == settings
    field = next(iter(schema.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, field, getattr(settings, field))


@pytest.mark.parametrize("schema", ALL)
def test_a_mistyped_key_is_refused(schema: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        schema.model_validate({"stepps": 3})


@pytest.mark.parametrize(
    ("schema", "field", "value"),
    [
        (Budget, "keep_flops", 0),
        (Budget, "keep_flops", 1.01),
        (Budget, "keep_flops", float("nan")),
        (Budget, "steps", 0),
        (Budget, "shift", 0.51),
        (Budget, "shift", -0.1),
        *[
            (schema, field, value)
            for schema in (DistillConfig, MirConfig)
            for field, value in (
                ("few_per_step", 0),
                ("ood_per_step", 0),
                ("learning_rate", 0),
                ("learning_rate", -0.1),
                ("joint", 1.1),
                ("joint", -0.1),
                ("logit_weight", -1),
                ("temperature", 0),
                ("weight_decay", -1),
                ("schedule", "cosine"),
            )
        ],
        (FinetuneConfig, "steps", 0),
        (FinetuneConfig, "check_every", 0),
        (FinetuneConfig, "learning_rate", 0),
        (FinetuneConfig, "batch_size", 0),
        (FinetuneConfig, "eta", -0.1),
        (OefsmcConfig, "auxiliary", 1),
        (OefsmcConfig, "held_out", 0),
        (OefsmcConfig, "held_out", 1),
        (OefsmcConfig, "draws", "random"),
        (OefsmcConfig, "like", "theirs"),
        (OefsmcConfig, "parts", ["recovery"]),
        (OefsmcConfig, "labels", "flat"),
        (OefsmcConfig, "distill_on", "few"),
        (OefsmcConfig, "recover", "both"),
        (OefsmcConfig, "importance", "l2"),
        (OefsmcConfig, "class_weights", "flat"),
    ],
)
def test_a_value_out_of_bounds_is_refused(schema: type[BaseModel], field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        schema.model_validate({field: value})


def test_mir_is_the_papers_way_and_draws_as_many_images_a_step() -> None:
    paper = MirConfig()
    assert (paper.few_per_step + paper.ood_per_step, paper.learning_rate, paper.schedule) == (64, 0.02, "steps")
    assert (paper.weight_decay, paper.logit_weight, paper.mix) == (1e-4, 0, "off")


def test_fine_tuning_has_the_papers_batch_rate_and_eta() -> None:
    paper = FinetuneConfig()
    assert (paper.batch_size, paper.learning_rate, paper.eta) == (128, 5e-4, 2.5)
