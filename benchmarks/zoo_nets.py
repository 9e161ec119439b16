"""Nets as their libraries make them: of every family of torchvision, of timm, transformers and ultralytics, of Keras.

`NETS` makes each in a folder: weights as a person would have them, and the classes that the net gives as its own
library runs it. Weights are random, with a fixed seed. Such a net gives every image the same class, so two things are
fitted to images of `onnx_files.images`: the statistics of batch norms, and by ridge regression the layers that end in
a number for each class. Then the images get all classes, and a comparison of classes says something.

transformers' nets are made from small configs and saved with their own `save_pretrained`. ultralytics is under the
AGPL: nothing of edgec imports it, and it has a part where the environment of the benchmark has it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from onnx_files import images

__all__ = ["CLASSES", "NETS", "Held", "Net", "pictures", "planes"]

CLASSES = tuple("abcdefg")
"""Seven: no layer inside of a net has as many outputs."""
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
FITTED = 160
"""Images to which batch norms and heads are fitted."""
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Held:
    """A net on disk.

    Attributes:
        settings: What a build of it is told.
        classes: Int [n], what its own library says of uint8 [n, height, width, 3].
    """

    settings: tuple[str, ...]
    classes: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Net:
    """How to make one.

    Attributes:
        group: Its library.
        make: Writes it into a folder.
        size: Height and width of its images.
        needs: The package without which it is left out.
    """

    group: str
    make: Callable[[Path], Held]
    size: int
    needs: str

    @property
    def is_there(self) -> bool:
        """Whether its library is installed."""
        return find_spec(self.needs) is not None


@dataclass(frozen=True, kw_only=True)
class _Spec:
    """A net of torch: its name, its size, arguments for its function."""

    name: str
    size: int = 32
    arguments: Mapping[str, Any] = field(default_factory=dict)


def pictures(count: int, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, size, size, 3] of seven classes, and their labels."""
    return images(count, seed, classes=len(CLASSES), side=size)


def planes(pixels: np.ndarray) -> np.ndarray:
    """float32 [n, 3, height, width], normalised."""
    return np.ascontiguousarray(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32))


def _torchvision(spec: _Spec, folder: Path) -> Held:
    import torchvision

    return _of_torch(
        lambda: torchvision.models.get_model(spec.name, weights=None, num_classes=len(CLASSES), **spec.arguments),
        f"torchvision:{spec.name}",
        spec,
        folder,
    )


def _timm(spec: _Spec, folder: Path) -> Held:
    import timm

    made = partial(timm.create_model, spec.name, num_classes=len(CLASSES), **spec.arguments)
    return _of_torch(made, f"timm:{spec.name}", spec, folder)


def _ultralytics(spec: _Spec, folder: Path) -> Held:
    """Wrapped as its users do it: a function in a file of their own."""
    from ultralytics.nn.tasks import ClassificationModel

    code = "from ultralytics.nn.tasks import ClassificationModel\n\n\ndef net():\n    return "
    call = f"ClassificationModel('{spec.name}.yaml', nc={len(CLASSES)}, verbose=False)"
    (folder / "their_yolo.py").write_text(f"{code}{call}\n", encoding="utf-8")
    sys.modules.pop("their_yolo", None)
    made = partial(ClassificationModel, f"{spec.name}.yaml", nc=len(CLASSES), verbose=False)
    held = _of_torch(made, "their_yolo:net", spec, folder, output=1)
    return Held(settings=(*held.settings, "model.output=1"), classes=held.classes)


def _of_torch(make: Callable[[], Any], name: str, spec: _Spec, folder: Path, *, output: Any = None) -> Held:
    """Seeded, fitted, saved as a state; run by torch."""
    import torch

    torch.manual_seed(0)
    net = make()
    _fit_(net, spec.size)
    torch.save(net.state_dict(), folder / "weights.pt")
    arguments = ", ".join(f"{key}={_toml(value)}" for key, value in spec.arguments.items())
    told = (f"model.arguments={{{arguments}}}",) if arguments else ()
    settings = (f'model.name="{name}"', f'model.weights="{folder / "weights.pt"}"', *told)
    return Held(settings=settings, classes=lambda pixels: _run(net, pixels, output).argmax(axis=1))


def _transformers(spec: _Spec, folder: Path) -> Held:
    """From a config, saved and loaded by the library itself."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{spec.name}Config")(num_labels=len(CLASSES), **spec.arguments)
    net = getattr(transformers, f"{spec.name}ForImageClassification")(config)
    _fit_(net, spec.size)
    net.save_pretrained(folder / "saved")
    return Held(
        settings=(f'model.name="transformers:{folder / "saved"}"',),
        classes=lambda pixels: _run(net, pixels, "logits").argmax(axis=1),
    )


def _keras(name: str, folder: Path) -> Held:
    """In a process of its own, in which TensorFlow writes the file and what it says of these images."""
    script = Path(__file__).with_name("keras_nets.py")
    asked = folder / "asked.npy"

    def classes(pixels: np.ndarray) -> np.ndarray:
        np.save(asked, pixels)
        _python(script, "run", name, folder)
        return np.load(folder / "given.npy")

    pixels, labels = pictures(FITTED, 3, KERAS[name])
    np.savez(folder / "fitted.npz", pixels=pixels, labels=labels)
    _python(script, "make", name, folder)
    return Held(settings=(f'model.name="{folder / "model.onnx"}"',), classes=classes)


def _python(*command: object) -> None:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def _run(net: Any, pixels: np.ndarray, output: Any = None) -> np.ndarray:
    """Logits float32 [n, classes] by torch alone."""
    import torch

    net.eval()
    with torch.inference_mode():
        found = [net(torch.from_numpy(part)) for part in _batches(pixels)]
    return np.concatenate([(part if output is None else part[output]).numpy() for part in found])


def _batches(pixels: np.ndarray) -> list[np.ndarray]:
    return [planes(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]


def _fit_(net: Any, size: int) -> None:
    """Statistics of batch norms, then every layer that ends in a number for each class, from images."""
    import torch
    from torch import nn

    pixels, labels = pictures(FITTED, 3, size)
    net.eval()
    norms = [layer for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    for norm in norms:
        norm.train()
        norm.momentum = None  # the mean over all batches
        norm.reset_running_stats()
    with torch.inference_mode():
        for part in _batches(pixels) if norms else ():
            net(torch.from_numpy(part))
    heads = [layer for layer in net.modules() if _outputs(layer) == len(CLASSES) and layer.weight.ndim in (2, 4)]
    seen: dict[Any, list[Any]] = {head: [] for head in heads}
    hooks = [head.register_forward_pre_hook(lambda layer, given: seen[layer].append(given[0])) for head in heads]
    _run(net, pixels, -1)
    for hook in hooks:
        hook.remove()
    for head, given in seen.items():
        if given:
            features = torch.cat([part.flatten(2).mean(2) if part.ndim == 4 else part for part in given])
            weight, bias = ridge(features.double().numpy(), labels)
            with torch.no_grad():
                if head.bias is not None:
                    head.bias.copy_(torch.from_numpy(bias))
                else:  # the mean of the features takes its place
                    middle = features.double().numpy().mean(axis=0)
                    weight = weight + np.outer(bias, middle) / (middle @ middle)
                head.weight.copy_(torch.from_numpy(weight).reshape(head.weight.shape))


def _outputs(layer: Any) -> int | None:
    return getattr(layer, "out_features", getattr(layer, "out_channels", None))


def ridge(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight [class, feature] and bias [class] that give 4 to the class of an image and 0 to the others."""
    wanted = 4.0 * np.eye(len(CLASSES))[labels]
    middle, mean = features.mean(axis=0), wanted.mean(axis=0)
    moved = features - middle
    kernel = moved @ moved.T
    kernel += 1e-2 * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
    weight = (moved.T @ np.linalg.solve(kernel, wanted - mean)).T
    return weight, mean - weight @ middle


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(list(value) if isinstance(value, tuple) else value)


TORCHVISION = (
    _Spec(name="alexnet", size=64),
    _Spec(name="convnext_tiny"),
    _Spec(name="densenet121"),
    _Spec(name="efficientnet_b0"),
    _Spec(name="efficientnet_v2_s", size=64),  # at 32 its random weights are at the end of what float32 can tell
    _Spec(name="googlenet", size=64, arguments={"init_weights": False, "aux_logits": False}),
    _Spec(name="inception_v3", size=80, arguments={"init_weights": False, "aux_logits": False}),
    _Spec(name="maxvit_t", size=224, arguments={"input_size": (224, 224)}),  # its windows of 7 fit no smaller
    _Spec(name="mnasnet0_5"),
    _Spec(name="mobilenet_v2"),
    _Spec(name="mobilenet_v3_small"),
    _Spec(name="regnet_y_400mf"),
    _Spec(name="resnet18"),
    _Spec(name="resnext50_32x4d"),
    _Spec(name="shufflenet_v2_x0_5"),
    _Spec(name="squeezenet1_1", size=64),
    _Spec(name="swin_t"),
    _Spec(name="swin_v2_t"),
    _Spec(name="vgg11_bn"),
    _Spec(name="vit_b_32", size=64, arguments={"image_size": 64}),
    _Spec(name="wide_resnet50_2"),
)
"""One of every family that torchvision has."""
TIMM = (
    _Spec(name="convnextv2_atto"),
    _Spec(name="deit_tiny_distilled_patch16_224", size=64, arguments={"img_size": 64}),
    _Spec(name="edgenext_xx_small", size=64),
    _Spec(name="efficientvit_b0", size=64),
    _Spec(name="efficientvit_m0", size=224),
    _Spec(name="fastvit_t8", size=64),
    _Spec(name="ghostnet_050"),
    _Spec(name="lcnet_035"),
    _Spec(name="levit_128s", size=224),
    _Spec(name="mixer_s32_224", size=64, arguments={"img_size": 64}),
    _Spec(name="mnasnet_small"),
    _Spec(name="mobilenetv3_small_050"),
    _Spec(name="mobilenetv4_conv_small_050"),
    _Spec(name="mobileone_s0"),
    _Spec(name="mobilevit_xxs", size=64),
    _Spec(name="nf_regnet_b0"),
    _Spec(name="poolformer_s12"),
    _Spec(name="pvt_v2_b0", size=64),
    _Spec(name="repvgg_a0"),
    _Spec(name="repvit_m0_9"),
    _Spec(name="resnet10t"),
    _Spec(name="tf_efficientnetv2_b0"),
    _Spec(name="tiny_vit_5m_224", size=64, arguments={"img_size": 64}),
    _Spec(name="vit_tiny_patch16_224", size=64, arguments={"img_size": 64}),
    _Spec(name="xcit_nano_12_p16_224", size=64),
)
TRANSFORMERS = (
    _Spec(
        name="ConvNextV2",
        arguments={"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 64, 96], "image_size": 32},
    ),
    _Spec(
        name="MobileNetV2",
        arguments={"depth_multiplier": 0.5, "image_size": 32},
    ),
    _Spec(
        name="MobileViT",
        size=64,
        arguments={"image_size": 64, "hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 128]},
    ),
    _Spec(
        name="ResNet",
        arguments={
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
            "embedding_size": 16,
        },
    ),
    _Spec(
        name="Swin",
        size=64,
        arguments={"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    ),
    _Spec(
        name="ViT",
        arguments={
            "image_size": 32,
            "patch_size": 8,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 128,
        },
    ),
)
KERAS = {"plain": 32, "pixels in": 32, "MobileNetV2": 32, "ResNet50": 32}
"""Height and width of what keras_nets.py makes."""


def _nets(group: str, make: Callable[[_Spec, Path], Held], specs: tuple[_Spec, ...]) -> dict[str, Net]:
    return {
        f"{group}: {spec.name}": Net(group=group, make=partial(make, spec), size=spec.size, needs=group)
        for spec in specs
    }


NETS: Mapping[str, Net] = {
    **_nets("torchvision", _torchvision, TORCHVISION),
    **_nets("timm", _timm, TIMM),
    **_nets("transformers", _transformers, TRANSFORMERS),
    **_nets("ultralytics", _ultralytics, (_Spec(name="yolo11n-cls", size=64),)),
    **{
        f"Keras: {name}": Net(group="Keras", make=partial(_keras, name), size=size, needs="tf2onnx")
        for name, size in KERAS.items()
    },
}
