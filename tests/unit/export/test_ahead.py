"""The proof without a GPU: what is judged of what the worker found, and what stands there when it found nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgec.core.errors import UnsupportedError
from edgec.core.target import load_target
from edgec.export import ahead
from edgec.export.ahead import prove

JETSON = load_target("jetson")


def operator(name: str, *, int8: tuple[bool, bool] = (True, True), weights: bool = True) -> dict:
    return {"name": name, "operator": "convolution", "weights": weights, "int8": list(int8)}


def found(*operators: dict, **more: object) -> dict:
    whole = {"refused": [], "built": True, "engine_bytes": 9, "messages": [], "seconds": 0.5}
    return {**whole, "operators": list(operators), **more}


@pytest.fixture
def finds(monkeypatch):
    """Puts these findings, or this reason for none, in the worker's place."""

    def put(answer: dict | str) -> None:
        monkeypatch.setattr(ahead, "rtx_version", lambda: "tensorrt-rtx 1.7")
        monkeypatch.setattr(ahead, "_examined", lambda *_: answer)

    return put


def test_int8_on_both_inputs_is_proven(finds):
    finds(found(operator("a"), operator("b")))
    proof = prove(Path("model.onnx"), JETSON)
    assert (proof.proven, proof.int8, proof.floats, proof.tool) == (True, {"convolution": 2}, (), "tensorrt-rtx 1.7")
    assert "not speed" in proof.note
    assert "newer than the device's 10.3" in proof.note


@pytest.mark.parametrize("int8", [(False, False), (True, False), (False, True)])
def test_a_weight_in_floating_point_that_nobody_asked_for_stops_the_build(finds, int8):
    finds(found(operator("a"), operator("b", int8=int8)))
    text = "sees 1 of 2 convolutions and matrix products in floating point that were to be int8: b"
    with pytest.raises(UnsupportedError, match=text):
        prove(Path("model.onnx"), JETSON)


def test_what_is_kept_on_purpose_is_told_with_its_reason(finds):
    finds(found(operator("a"), operator("b", int8=(False, False)), operator("qk", int8=(False, False), weights=False)))
    proof = prove(Path("model.onnx"), JETSON, kept=["b"])
    reasons = {each.name: each.reason.partition(":")[0] for each in proof.floats}
    assert reasons == {
        "b": "kept in floating point by this build",
        "qk": "a product of two activations, as in attention",
    }


def test_a_floating_point_scheme_promises_no_int8(finds):
    finds(found(operator("a", int8=(False, False))))
    proof = prove(Path("model.onnx"), load_target("jetson-nano"))
    assert (proof.proven, proof.floats) == (True, ())


def test_a_refusal_of_the_parser_is_told(finds):
    finds(found(refused=["Conv 'a': axis", "Conv 'b': axis"], built=False))
    with pytest.raises(UnsupportedError, match=r"tensorrt-rtx 1.7 refuses the graph: Conv 'a': axis \(and 1 more\)"):
        prove(Path("model.onnx"), JETSON)


def test_a_refusal_of_the_builder_is_told(finds):
    finds(found(operator("a"), built=False, messages=["no tactic"]))
    with pytest.raises(UnsupportedError, match=r"tensorrt-rtx 1\.7 cannot build the graph: no tactic"):
        prove(Path("model.onnx"), JETSON)


def test_a_builder_that_crashed_proves_nothing_and_says_so(finds):
    finds("the builder ended with status -11: no message")
    proof = prove(Path("model.onnx"), JETSON)
    assert (proof.proven, proof.tool) == (False, "tensorrt-rtx 1.7")
    assert proof.note == "not proven: the builder ended with status -11: no message"


def test_without_the_package_the_note_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ahead, "find_spec", lambda _: None)
    proof = prove(Path("model.onnx"), JETSON)
    assert (proof.proven, proof.tool) == (False, None)
    assert "tensorrt-rtx is not installed; pip install 'edgec[trt-check]'" in proof.note


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "the builder ended with status -11: no message"),
        ("raise SystemExit('no memory')", "the builder ended with status 1: no memory"),
        ("import time; time.sleep(60)", "the builder did not end within 0.5 s"),
    ],
    ids=["crashes", "fails", "hangs"],
)
def test_a_worker_that_comes_to_grief_takes_nothing_with_it(monkeypatch, tmp_path, script, reason):
    (tmp_path / "python").write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(ahead.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(ahead, "rtx_version", lambda: "tensorrt-rtx 1.7")
    limit = 0.5 if "sleep" in script else 60
    assert prove(tmp_path / "model.onnx", JETSON, time_limit_s=limit).note == f"not proven: {reason}"
