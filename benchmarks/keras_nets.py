"""Keras models for the zoo, written by tf2onnx and run by TensorFlow: a process of zoo_nets.py.

    python benchmarks/keras_nets.py make|run NAME FOLDER

`make` reads images from FOLDER/fitted.npz and writes model.keras and model.onnx; `run` reads asked.npy, and writes the
classes that Keras gives to given.npy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

from zoo_nets import CLASSES, KERAS, MEAN, STD, ridge

OPSET = 17


def main() -> None:
    task, name, place = sys.argv[1:]
    folder = Path(place)
    if task == "make":
        make(name, folder)
        return
    model = keras.models.load_model(folder / "model.keras")
    pixels = np.load(folder / "asked.npy")
    np.save(folder / "given.npy", model.predict(fed(name, pixels), verbose=0).argmax(axis=1))


def make(name: str, folder: Path) -> None:
    """A model whose last layer, dense with a softmax, is fitted to the images."""
    keras.utils.set_random_seed(0)
    model = NETS[name]()
    held = np.load(folder / "fitted.npz")
    body = keras.Model(model.inputs, model.layers[-1].input)
    weight, bias = ridge(body.predict(fed(name, held["pixels"]), verbose=0).astype(float), held["labels"])
    model.layers[-1].set_weights([weight.T, bias])
    model.save(folder / "model.keras")
    given = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name="input")
    tf2onnx.convert.from_function(
        tf.function(lambda images: model(images, training=False)),
        input_signature=[given],
        opset=OPSET,
        output_path=str(folder / "model.onnx"),
    )


def fed(name: str, pixels: np.ndarray) -> np.ndarray:
    """As the model takes them."""
    return pixels if name == "pixels in" else ((pixels / 255 - MEAN) / STD).astype(np.float32)


def _plain() -> Any:
    layers = keras.layers
    given = layers.Input((KERAS["plain"], KERAS["plain"], 3))
    found = layers.Conv2D(16, 3, padding="same", activation="relu")(given)
    found = layers.SeparableConv2D(32, 3, strides=2, padding="same", activation="swish")(layers.MaxPooling2D()(found))
    found = layers.Dropout(0.2)(layers.Flatten()(found))
    return keras.Model(given, layers.Dense(len(CLASSES), activation="softmax")(found))


def _pixels() -> Any:
    """uint8 from 0 to 255, scaled inside."""
    layers = keras.layers
    given = layers.Input((KERAS["pixels in"], KERAS["pixels in"], 3), dtype="uint8")
    found = layers.Rescaling(1 / 127.5, offset=-1.0)(given)
    found = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(found)
    found = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(found))
    found = layers.DepthwiseConv2D(3, padding="same")(found)
    found = layers.GlobalAveragePooling2D()(layers.Conv2D(48, 1, activation="relu")(found))
    return keras.Model(given, layers.Dense(len(CLASSES), activation="softmax")(found))


def _application(name: str, **arguments: Any) -> Any:
    shape = (KERAS[name], KERAS[name], 3)
    return getattr(keras.applications, name)(weights=None, input_shape=shape, classes=len(CLASSES), **arguments)


NETS = {
    "plain": _plain,
    "pixels in": _pixels,
    "MobileNetV2": lambda: _application("MobileNetV2", alpha=0.35),
    "ResNet50": lambda: _application("ResNet50"),
}

if __name__ == "__main__":
    main()
