"""A device's profile: what it runs, which numbers are fast there, how fast it is, and who says so."""

from __future__ import annotations

from enum import Enum
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edgec.core.compute import RELATED, Compute
from edgec.core.declaration import field_names, is_file_name, read_declaration
from edgec.core.errors import unknown_name
from edgec.core.frozen import Frozen
from edgec.core.host import Host, this_host
from edgec.core.resources import declarations

__all__ = [
    "LEAST_PYTHON",
    "RELATED",
    "EngineName",
    "Gpu",
    "Quantization",
    "Rules",
    "Runtime",
    "Scheme",
    "Source",
    "Target",
    "is_like",
    "known_targets",
    "load_target",
    "resolve",
    "target_name",
    "without_edgec",
]

LEAST_PYTHON = (3, 10)
"""pyproject.toml asks for it."""


EngineName = Literal["onnxruntime", "openvino", "tensorrt"]
"""What runs graphs; see `edgec.runtime.engine`."""


class Scheme(str, Enum):
    """Number formats of the deployed graph (docs/methods.md §5)."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    S8S8 = "s8s8"
    """int8 activations, symmetric int8 weights: TensorRT, which takes no zero-point but 0, and onnxruntime on Arm."""
    U8S8 = "u8s8"
    """uint8 asymmetric activations, int8 symmetric weights: onnxruntime on x86."""

    @property
    def is_int8(self) -> bool:
        """Whether activations and weights are stored in 8 bits."""
        return self in (Scheme.S8S8, Scheme.U8S8)


class Runtime(Frozen):
    """What runs the model there."""

    engine: EngineName
    version: str | None = None
    """The engine's version on the device, where the profile fixes it."""
    python: str | None = Field(default=None, pattern=r"^3\.\d+$")
    """The Python that the device's system ships, where the profile fixes it; the engine's bindings are for that one."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """onnxruntime execution providers, best first."""
    device: Literal["CPU", "GPU"] = "CPU"
    """What OpenVINO computes on; the GPU is Intel's."""
    opset: int = Field(ge=13, le=24)
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.device != "CPU" and self.engine != "openvino":
            raise ValueError(f"device '{self.device}' with engine '{self.engine}'; expected engine 'openvino'")
        return self

    @property
    def hosts_edgec(self) -> bool:
        """Whether edgec itself runs on the device's own Python, as far as the profile says which one that is."""
        return self.python is None or int(self.python.partition(".")[2]) >= LEAST_PYTHON[1]


class Quantization(Frozen):
    """Which scheme is fast there."""

    scheme: Scheme
    per_channel: bool = True
    """A weight scale per output channel."""
    reduce_range: bool = False
    """Weights in 7 bits. onnxruntime multiplies U8S8 with VPMADDUBSW on x86 without VNNI, which adds pairs of
    products in saturating int16: 2 * 255 * 127 does not fit, 2 * 255 * 63 does (onnxruntime's quantization guide,
    "When to use reduce-range and per-channel quantization?")."""
    weight_bits: Literal[4, 8] = 8
    """4 takes integers from -7 to 7, stored as int8: what weights in int4 would do to the classes."""
    float_type: Literal["float16", "float32"] = "float32"
    """What stays in floating point beside int8. TensorRT from 10 on takes it from the graph, older ones choose."""

    @property
    def computes_in_half(self) -> bool:
        """Whether anything computes in float16."""
        return self.scheme is Scheme.FLOAT16 or (self.scheme.is_int8 and self.float_type == "float16")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reduce_range and self.scheme is not Scheme.U8S8:
            raise ValueError(f"reduce_range with scheme '{self.scheme.value}'; expected scheme 'u8s8'")
        return self


class Rules(Frozen):
    """What pruning must respect."""

    channel_multiple: int = Field(default=1, ge=1)
    """The number of channels that a pruned layer keeps is a multiple of this, where the layer is wide enough."""
    depthwise_multiple: int | None = Field(default=None, ge=1)
    """As `channel_multiple`, for channels that a depthwise convolution filters: both numbers divide what is kept."""
    dla: bool = False
    """The graph is to run on the deep-learning accelerator: the linter looks for what that does not take."""


class Gpu(Frozen):
    """The GPU. Engines are built for, and cached by, its compute capability."""

    compute_capability: str = Field(pattern=r"^\d+\.\d$")
    cuda_cores: int = Field(gt=0)
    tensor_cores: int = Field(ge=0)
    clock_ghz: float = Field(gt=0)
    dla_units: int = Field(default=0, ge=0)
    """Deep-learning accelerators beside the GPU."""
    dla_restored: str | None = Field(default=None, pattern=r"^\d+\.\d+\.\d+$")
    """The first TensorRT after 10.7 that builds for these accelerators again; None where none does."""


class Source(Frozen):
    """Who says so. `derived` marks figures that nobody published: computed, fitted or remembered by us."""

    fields: tuple[str, ...] = Field(min_length=1)
    """Dotted names of fields of this profile, or of tables: `compute.int8_tops`, `gpu`."""
    text: str = Field(min_length=1)
    derived: bool = False


class Target(Frozen):
    """A device profile, one TOML file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    family: Literal["jetson", "raspberry-pi", "intel", "x86", "host"]
    architecture: Literal["aarch64", "x86_64", "any"]
    """`any` for a profile that is completed from the machine that loads it."""
    memory_mb: int | None = Field(default=None, gt=0)
    power_modes_w: tuple[float, ...] = ()
    runtime: Runtime
    quantization: Quantization
    rules: Rules = Rules()
    gpu: Gpu | None = None
    compute: Compute | None = None
    """None for a kind of machine that has no one peak: latency is measured there, never predicted."""
    sources: tuple[Source, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        scheme = self.quantization.scheme
        if self.runtime.engine == "tensorrt" and scheme is Scheme.U8S8:
            raise ValueError("scheme 'u8s8' with engine 'tensorrt', which takes zero-point 0 only; expected 's8s8'")
        if self.quantization.float_type == "float16" and self.runtime.engine != "tensorrt":
            raise ValueError(f"float_type 'float16' with engine '{self.runtime.engine}'; expected engine 'tensorrt'")
        if self.compute and scheme.is_int8 and self.compute.int8_tops is None:
            raise ValueError(f"scheme '{scheme.value}' needs compute.int8_tops")
        if self.compute and scheme is Scheme.FLOAT16 and self.compute.fp16_tflops is None:
            raise ValueError("scheme 'float16' needs compute.fp16_tflops")
        known = set(field_names(Target))
        unknown = [field for source in self.sources for field in source.fields if field not in known]
        if unknown:
            raise ValueError(f"sources speak of '{unknown[0]}', which no profile has")
        return self

    def source_of(self, field: str) -> Source | None:
        """Who says what a dotted field holds: the source of the field itself, else of a table around it."""
        while field:
            for source in self.sources:
                if field in source.fields:
                    return source
            field = field.rpartition(".")[0]
        return None


def is_like(target: Target, host: Host) -> bool:
    """Whether a machine is one of those that a profile stands for, so that its times are the target's.

    Those of x86 stand for a kind of CPU, with VNNI or without; others for one device, by its name.
    """
    if target.family == "host":
        return True
    if target.runtime.engine == "tensorrt" or target.architecture != host.architecture:
        return False
    if target.family == "x86":
        return target.quantization.reduce_range == host.saturates
    return target.title in host.cpu


def without_edgec(target: Target) -> str | None:
    """What runs on a device whose Python is too old for edgec, and how; None where edgec runs there."""
    if target.runtime.hosts_edgec:
        return None
    least = ".".join(map(str, LEAST_PYTHON))
    own = target.runtime.python
    return (
        f"{target.title} ships Python {own}, and edgec needs {least}: deploy, pull, serve, predict and bench do not "
        "run there. The bundle's model.onnx does: copy it there, and build and run the engine with trtexec, by the "
        f"arguments in manifest.json. A container with Python {least} runs edgec on the CPU alone, as TensorRT's "
        f"Python bindings there are for {own}. Neither way was tried on such a device"
    )


def load_target(name_or_path: str) -> Target:
    """The profile with this name or alias, or the one in this TOML file.

    Raises:
        ConfigError: No such profile or file, or the file does not fit the schema.
    """
    if is_file_name(name_or_path):
        return _read(Path(name_or_path))
    targets = known_targets().values()
    by_name = {name: target for target in targets for name in (target.name, *target.aliases)}
    if name_or_path not in by_name:
        raise unknown_name("target", name_or_path, by_name)
    return by_name[name_or_path]


@cache
def target_name(given: str) -> str:
    """The name of the profile that has this alias; any other text is taken as a name, of a profile of one's own."""
    return next((target.name for target in known_targets().values() if given in target.aliases), given)


def known_targets() -> dict[str, Target]:
    """All profiles that ship with the package, by name."""
    profiles = (_read(path) for path in sorted(declarations("targets").glob("*.toml")))
    return {profile.name: profile for profile in profiles}


def _read(path: Path) -> Target:
    target = read_declaration(path, Target, what="target profile")
    return resolve(target, this_host()) if target.architecture == "any" else target


def resolve(target: Target, host: Host) -> Target:
    """The profile of `any` machine completed for one: its name, its architecture, the scheme that is fast on its CPU.

    x86 gets U8S8, in 7 bits unless the CPU has VNNI; Arm, and any other CPU, S8S8 (docs/methods.md §5).
    """
    is_x86 = host.architecture == "x86_64"
    quantization = target.quantization.model_copy(
        update={
            "scheme": Scheme.U8S8 if is_x86 else Scheme.S8S8,
            "reduce_range": is_x86 and not host.has_vnni,
        }
    )
    return target.model_copy(
        update={
            "title": f"{target.title}: {host.text}",
            "architecture": host.architecture if host.architecture in ("aarch64", "x86_64") else "any",
            "quantization": quantization,
        }
    )
