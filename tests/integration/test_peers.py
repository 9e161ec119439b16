"""The benchmark against other toolkits, without them: its arithmetic, its table, what it asks installers and runners."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from peers import contest, environments, scores
from peers.formats import formats_of

RUNNERS = Path(environments.__file__).parent


def recorded(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two graphs that mostly agree, and labels of four classes in imbalance."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=n, p=[0.6, 0.2, 0.15, 0.05])
    fp32 = rng.normal(size=(n, 4)) + 2 * np.eye(4)[labels]
    return fp32 + 0.3 * rng.normal(size=(n, 4)), fp32, labels


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_what_counting_image_by_image_gives(seed):
    logits, fp32, labels = recorded(seed)
    right, seen, same, whole = {}, {}, 0, 0
    for after, before, label in zip(logits, fp32, labels, strict=True):
        kept, had = int(np.argmax(after) == label), int(np.argmax(before) == label)
        counts = right.setdefault(int(label), [0, 0])
        counts[0], counts[1] = counts[0] + kept, counts[1] + had
        seen[int(label)] = seen.get(int(label), 0) + 1
        same, whole = same + int(np.argmax(after) == np.argmax(before)), whole + kept
    drops = [(had - kept) / seen[label] for label, (kept, had) in right.items()]
    found = scores.score(logits, fp32, labels)
    assert found.top1 == pytest.approx(whole / len(labels))
    assert found.worst_class == pytest.approx(min(kept / seen[label] for label, (kept, _) in right.items()))
    assert found.largest_class_drop == pytest.approx(max(drops))
    assert found.mean_class_drop == pytest.approx(sum(drops) / len(drops))
    assert found.agreement == pytest.approx(same / len(labels))


def test_a_graph_loses_nothing_against_itself():
    _, fp32, labels = recorded(0)
    found = scores.score(fp32, fp32, labels)
    assert (found.largest_class_drop, found.mean_class_drop, found.agreement) == (0, 0, 1)


def test_a_rare_class_that_is_lost_shows_as_the_largest_drop():
    fp32 = np.eye(2)[[0] * 99 + [1]]
    found = scores.score(np.eye(2)[[0] * 100], fp32, np.array([0] * 99 + [1]))
    assert (found.largest_class_drop, found.mean_class_drop, found.worst_class) == (1, 0.5, 0)
    assert found.top1 == 0.99


def test_the_table_has_means_over_seeds_and_says_who_does_not_run():
    def ran(top1: float, seconds: float):
        shares = dict.fromkeys(("worst_class", "largest_class_drop", "mean_class_drop", "agreement"), 0.5)
        figures = {"seconds": seconds, "quantising_seconds": 1.0, "peak_mb": 100.0, "formats": "2 uint8 activations"}
        return scores.Outcome(scores=scores.Scores(top1=top1, **shares), **figures)

    outcomes = {"a": [ran(0.8, 2.0), ran(0.9, 4.0)], "b": [scores.Outcome(reason="no module named 'b'")]}
    assert scores.markdown(outcomes).splitlines()[2:] == [
        "| a | 2 | 85.00 (80.00 to 90.00) | "
        + "50.00 (50.00 to 50.00) | " * 4
        + "3.0 | 1.0 | 100 | 2 uint8 activations |",
        "| b | 0 | does not run here: no module named 'b' |",
    ]
    top1 = next(row for row in scores.rows_of(outcomes) if row.what == "a: top1")
    assert (top1.value, top1.n, top1.low, top1.high) == (pytest.approx(0.85), 2, 0.8, 0.9)
    assert not [row for row in scores.rows_of(outcomes) if row.what.startswith("b")]


def test_a_drop_that_is_only_rounding_is_no_negative_zero():
    shares = dict.fromkeys(("top1", "worst_class", "largest_class_drop", "agreement"), 0.5)
    outcome = scores.Outcome(scores=scores.Scores(mean_class_drop=-1e-17, **shares))
    assert "| 0.00 |" in scores.markdown({"a": [outcome]})


def test_formats_are_read_from_the_graph():
    values = [
        helper.make_tensor("step", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [3]),
        helper.make_tensor("weight_zero", TensorProto.INT8, [], [0]),
        helper.make_tensor("weight", TensorProto.FLOAT, [1, 1, 1, 1], [1.0]),
        helper.make_tensor("matrix", TensorProto.FLOAT, [2, 2], [1.0] * 4),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xd"]),
        helper.make_node("QuantizeLinear", ["weight", "step", "weight_zero"], ["wq"]),
        helper.make_node("DequantizeLinear", ["wq", "step", "weight_zero"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["y"]),
        helper.make_node("MatMul", ["y", "matrix"], ["z"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in ("x", "z")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], values))
    onnx.checker.check_model(model)
    assert formats_of(model) == "1 uint8 activations, 1 MatMul in float"


def test_every_version_is_pinned():
    assert [pin for pins in environments.PINS.values() for pin in pins if pin.count("==") < 1] == []


def test_a_finished_environment_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
    (tmp_path / "nncf").mkdir()
    (tmp_path / "nncf" / environments.RECORD).write_text("\n".join(environments.PINS["nncf"]))
    assert environments.interpreter("nncf", tmp_path) == tmp_path / "nncf" / "bin" / "python"


def test_an_installer_that_fails_is_told_by_its_last_line(tmp_path, monkeypatch):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="resolving\nno wheel for this platform\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(environments.NotInstalledError, match=r"^no wheel for this platform$"):
        environments.interpreter("nncf", tmp_path)
    assert not (tmp_path / "nncf" / environments.RECORD).exists()


def test_every_peer_has_an_environment_and_a_runner():
    asked = {peer.environment for peer in contest.PEERS.values()}
    assert asked == set(environments.PINS)
    assert all((RUNNERS / f"run_{name}.py").is_file() for name in asked)


def test_a_runner_gets_normalised_images_and_tells_its_costs(tmp_path):
    runner = tmp_path / "run_copy.py"
    runner.write_text(
        f"import sys\nsys.path.insert(0, {str(RUNNERS)!r})\n"
        "from runner import run\n"
        "def quantise(job):\n"
        "    print('chatter')\n"
        "    shapes = [feed['input'].shape for feed in job.feeds()]\n"
        "    job.output.write_text(f'{job.method} {shapes}')\n"
        "run(quantise, version='copy 1')\n"
    )
    np.savez(tmp_path / "few.npz", images=np.zeros((2, 3, 4, 4), np.float32))
    names = [str(tmp_path / name) for name in ("fp32.onnx", "few.npz", "out.onnx")]
    done = subprocess.run([sys.executable, str(runner), *names, "minmax"], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (tmp_path / "out.onnx").read_text() == "minmax [(1, 3, 4, 4), (1, 3, 4, 4)]"
    assert set(told) == {"seconds", "peak_bytes", "version"}
    assert told["peak_bytes"] > 1e6  # an interpreter alone holds more
