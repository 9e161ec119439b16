"""What a person says about the teacher, and about further ones beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, field_validator, model_validator
from typing_extensions import Self

from edgec.core.errors import ConfigError
from edgec.core.frozen import Frozen
from edgec.core.inputs import InputSpec
from edgec.models.own_input import onnx_preset, timm_preset, transformers_preset, without_size
from edgec.models.presets import Preset, find_preset
from edgec.models.recognise import refuse_file

__all__ = ["ZOOS", "FurtherInput", "FurtherTeacher", "ModelConfig", "Opsets", "TrainedOn", "Weighing", "is_onnx_file"]

ZOOS = ("timm", "transformers")
"""Libraries of models, whose folders on disk can be named."""


_Count = Annotated[int, Field(ge=0)]
TrainedOn = Literal["balanced", "few", "estimate"] | tuple[_Count, ...] | dict[str, _Count] | Path
"""The class frequencies of the images that the teacher was trained on; see `ModelConfig.trained_on`."""


Weighing = Literal["mean", "attention"]


class Opsets(NamedTuple):
    """Operator sets of ONNX: the oldest that a build works on, and the newest that its target reads; None for any."""

    least: int = 13
    most: int | None = None


class FurtherInput(Frozen):
    """How a further teacher wants the pictures; what is not given is as for the model that is compressed.

    It sees the very pictures that this model sees, cut and brought to size for it: only what can be made of those may
    differ.

    Attributes:
        height: Of its input, in pixels; pictures are scaled, so the proportions must be the same.
        width: Of its input, in pixels.
        mean: Taken off the values, one per channel in the order of `channel_order`.
        std: What they are divided by then, one per channel.
        value_range: What `mean` and `std` are of: pixels scaled to `0-1`, or as they are, `0-255`.
        channel_order: In which order it takes the channels.
    """

    height: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    value_range: Literal["0-1", "0-255"] | None = None
    channel_order: Literal["rgb", "bgr"] | None = None


class FurtherTeacher(Frozen):
    """Another teacher of the same classes, such as last year's model or a larger one, for losses of logits.

    Attributes:
        name: As `model.name`.
        weights: As `model.weights`.
        checkpoint: As `model.checkpoint`.
        arguments: As `model.arguments`.
        output: As `model.output`.
        labels: Class names in the order of its outputs; where they are not given, those that it carries itself, else
            those of the model. Outputs are matched by name: it must know every class, and what else it knows is left
            out.
        trained_on: As `model.trained_on`, but for `estimate`. What it says is brought to equal class frequencies before
            it is put together with what the others say.
        preset: As `model.preset`, for size and normalisation alone.
        input: Size and normalisation, where they are not the model's.
    """

    name: str
    weights: Path | None = None
    checkpoint: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    output: str | None = None
    labels: tuple[str, ...] | None = None
    trained_on: TrainedOn = "balanced"
    preset: str | None = None
    input: FurtherInput = FurtherInput()

    @field_validator("output", mode="before")
    @classmethod
    def _position(cls, value: object) -> object:
        return _as_text(value)

    @field_validator("trained_on")
    @classmethod
    def _is_told(cls, value: TrainedOn) -> TrainedOn:
        if value == "estimate":
            raise ValueError("'estimate' is for the model alone: expected 'balanced', 'few', counts or a folder")
        return value

    def beside(self, model: ModelConfig) -> ModelConfig:
        """The same as a model of its own, whose input is that of another one where nothing else is said.

        Raises:
            ConfigError: Its pictures would have other proportions.
        """
        told = {name: getattr(self, name) for name in FurtherTeacher.model_fields if name != "input"}
        own = self.input.model_dump(exclude_none=True)
        preset = _preset_of(self.name, self.weights, self.preset) or (None if own else _own_preset(self.name))
        known = {name: value for name, value in (preset.fields if preset else {}).items() if name in _TRANSLATED}
        spec = InputSpec.model_validate({**model.input.model_dump(), **known, **own})
        if spec.height * model.input.width != spec.width * model.input.height:
            raise ConfigError(
                f"model.also: '{self.name}' takes {spec.height}x{spec.width} pixels, the model "
                f"{model.input.height}x{model.input.width}: they cannot see the same pictures",
                hint="leave it out, or export it for images of the same proportions",
            )
        return ModelConfig(**told, input=spec)


_TRANSLATED = frozenset(FurtherInput.model_fields)


class ModelConfig(Frozen):
    """The teacher.

    Attributes:
        name: `torchvision:NAME` (or the bare name), `timm:NAME` or `timm:FOLDER`, `transformers:FOLDER`,
            `package.module:factory`, or the path of an `.onnx` file.
        weights: A `.safetensors` or `.pt` file, or a torchvision weights enum such as `ResNet18_Weights.IMAGENET1K_V1`;
            not for ONNX, which carries its own, nor for a folder that holds them.
        checkpoint: Which of several states in the weights file is meant, as in `state_dict_ema`.
        arguments: Keyword arguments for the architecture's function.
        output: Of several outputs, the name of the classes', for modules with dots between keys and positions; where
            it is not given, the only one with a number for each class.
        labels: Class names in the order of the outputs; the training data's classes where they are not given.
        trained_on: How often the teacher saw each class in training: `balanced`; `few`, where the few samples were
            drawn from the same long tail; counts in the order of the labels, or by label; or the folder that it was
            trained on, with a folder of images for each class. `estimate`, where nobody knows, reads them from the
            weights of the last layer, and uses them where the few samples agree. Unless it is `balanced`, the logits of
            what ships are adjusted by these frequencies (logit adjustment), so that rare classes are not held back by
            their rarity.
        preset: What fills in `model.input` where that says nothing: a torchvision weights enum, transformers'
            `preprocessor_config.json`, or timm's `config.json`; where it is not given, such a file beside the weights.
        input: Image size, what is done to pictures, and normalisation. Where no size is given, what the model says: an
            ONNX file, timm's `pretrained_cfg`, or the `config.json` of transformers.
        also: Further teachers, whose logits take part in losses of logits; features are the model's own.
        teachers: What each further teacher and the model itself weigh: the `mean` of all, or by `attention`, image by
            image, more for those that agree with others, that are sure, and that saw more of the classes in question.
    """

    name: str
    weights: Path | None = None
    checkpoint: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    output: str | None = None
    labels: tuple[str, ...] | None = None
    trained_on: TrainedOn = "balanced"
    preset: str | None = None
    input: InputSpec
    also: tuple[FurtherTeacher, ...] = ()
    teachers: Weighing = "mean"
    _input_told: str | None = PrivateAttr(default=None)

    @field_validator("output", mode="before")
    @classmethod
    def _position(cls, value: object) -> object:
        return _as_text(value)

    @model_validator(mode="wrap")
    @classmethod
    def _filled(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """What the config says goes before what a preset says, and that before what the model says."""
        given = values.get("input", {}) if isinstance(values, dict) else None
        if not isinstance(given, dict) or not isinstance(values.get("name"), str):
            return handler(values)
        preset = _preset_of(values["name"], values.get("weights"), values.get("preset"))
        if preset is None and not {"height", "width"} & given.keys():
            preset = _own_preset(values["name"])
        fields = {**preset.fields, **given} if preset else given
        if (error := without_size(values["name"], fields)) is not None:
            raise error
        made = handler({**values, "input": fields})
        made._input_told = _told(preset, given)  # noqa: SLF001  its own
        return made

    @model_validator(mode="after")
    def _weighs_several(self) -> Self:
        if self.teachers != "mean" and not self.also:
            raise ValueError(f"teachers = '{self.teachers}' weighs several, but model.also names no further teacher")
        return self

    @property
    def further(self) -> tuple[ModelConfig, ...]:
        """The further teachers, each as a model of its own."""
        return tuple(each.beside(self) for each in self.also)

    @property
    def input_told(self) -> str | None:
        """What filled in `input`, where anything did."""
        return self._input_told

    @property
    def is_onnx(self) -> bool:
        """Whether the teacher is an exported graph, which cannot be pruned or trained."""
        return is_onnx_file(self.name)

    @property
    def folder(self) -> Path | None:
        """The folder with the config of a model of timm or transformers, where the name is that of one."""
        zoo, _, place = self.name.partition(":")
        return Path(place) if zoo in ZOOS and Path(place).is_dir() else None

    @property
    def weights_file(self) -> Path | None:
        """The weights: those given, else those that lie in the model's folder."""
        if self.weights is not None or self.folder is None:
            return self.weights
        found = (self.folder / name for name in ("model.safetensors", "pytorch_model.bin"))
        return next((path for path in found if path.is_file()), None)


def _as_text(value: object) -> object:
    """A position may be given as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _preset_of(name: str, weights: Any, preset: Any) -> Preset | None:
    """Beside the weights, or in the folder that `transformers:FOLDER` and the like name."""
    folder = name.partition(":")[2] or name
    places = [Path(weights) if isinstance(weights, str | Path) else None]
    if is_onnx_file(name) or name.startswith(tuple(f"{zoo}:" for zoo in ZOOS)):
        places.append(Path(folder))
    return find_preset(preset if isinstance(preset, str) else None, places)


def _own_preset(name: str) -> Preset | None:
    refuse_file(name)
    zoo, _, place = name.partition(":")
    if is_onnx_file(name):
        return onnx_preset(Path(name))
    if zoo == "timm":
        return timm_preset(place)
    return transformers_preset(Path(place)) if zoo == "transformers" else None


def _told(preset: Preset | None, given: Mapping[str, Any]) -> str | None:
    """Which settings a preset gave, and which ones nobody did."""
    taken = [name for name in preset.fields if name not in given] if preset else []
    if preset is None or not taken:
        return None
    guessed = "" if "mean" in preset.fields or "mean" in given else "; mean and std are ImageNet's: nobody says others"
    return f"model.input: {', '.join(taken)} from {preset.source}{guessed}"


def is_onnx_file(name: str) -> bool:
    """Whether a model's name is that of an exported graph."""
    return name.lower().endswith(".onnx")
