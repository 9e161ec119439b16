"""What `ahead` runs in a process of its own: parse, build, and look at every convolution and matrix product.

Native code may crash or hang, and takes the process with it. Nothing of edgec is imported here but this file.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["examine"]

_MOST_MESSAGES = 20


def examine(model: Path, batch: int) -> dict[str, Any]:
    """What NVIDIA's parser and builder say of a graph.

    Returns:
        `refused`, the parser's errors; `built`, whether an engine came out, of `engine_bytes` after `seconds`;
        `operators`, each with `name`, `operator`, `weights` (whether its second input is constant) and `int8`, per
        input; `messages`, what the builder complained of.
    """
    trt: Any = importlib.import_module("tensorrt_rtx")  # its names are native
    messages: list[str] = []

    class Log(trt.ILogger):  # the base is native
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                messages.append(msg)

    started, log = time.perf_counter(), Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse_from_file(str(model))
    refused = [_refusal(parser.get_error(i)) for i in range(parser.num_errors)]
    found = {"refused": refused, "built": False, "engine_bytes": 0, "operators": []}
    if parsed:
        found["operators"] = _operators(trt, network)
        config = builder.create_builder_config()
        _add_profile(builder, config, network, batch)
        engine = builder.build_serialized_network(network, config)
        found |= {"built": engine is not None, "engine_bytes": 0 if engine is None else engine.nbytes}
    return {**found, "messages": messages[:_MOST_MESSAGES], "seconds": time.perf_counter() - started}


def _refusal(error: Any) -> str:
    return f"{error.node_operator()} '{error.node_name()}': {error.desc()}"


def _add_profile(builder: Any, config: Any, network: Any, batch: int) -> None:
    entry = network.get_input(0)
    first, *rest = entry.shape
    if first == -1:
        profile = builder.create_optimization_profile()
        profile.set_shape(entry.name, (1, *rest), (1, *rest), (batch, *rest))
        config.add_optimization_profile(profile)


def _operators(trt: Any, network: Any) -> list[dict[str, Any]]:
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    makers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    kinds = trt.LayerType
    weighted = {kinds.CONVOLUTION: "convolution", kinds.DECONVOLUTION: "convolution", kinds.MATRIX_MULTIPLY: "product"}
    movers = {kinds.SHUFFLE, kinds.CAST, kinds.IDENTITY, kinds.SQUEEZE, kinds.UNSQUEEZE}

    def before(layer: Any) -> Any:
        tensor = layer.get_input(0)
        return None if tensor is None else makers.get(tensor.name)

    def is_constant(layer: Any) -> bool:
        while layer is not None and layer.type in {*movers, kinds.QUANTIZE, kinds.DEQUANTIZE}:
            layer = before(layer)
        return layer is not None and layer.type == kinds.CONSTANT

    def is_int8(layer: Any) -> bool:
        # The parser puts a shuffle between a dequantised weight and a product of more axes.
        while layer is not None and layer.type in movers and is_constant(layer):
            layer = before(layer)
        return layer is not None and layer.type == kinds.DEQUANTIZE

    found = []
    for layer in layers:
        if layer.type in weighted:
            tensors = [layer.get_input(i) for i in range(2)]
            sources = [None if tensor is None else makers.get(tensor.name) for tensor in tensors]
            # A convolution whose weight is no tensor of the network carries it as numbers.
            weights = tensors[1] is None or is_constant(sources[1]) or is_constant(sources[0])
            int8 = [is_int8(source) for source in sources]
            found.append({"name": layer.name, "operator": weighted[layer.type], "weights": weights, "int8": int8})
    return found


if __name__ == "__main__":
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answer = examine(Path(request["model"]), request["batch"])
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
