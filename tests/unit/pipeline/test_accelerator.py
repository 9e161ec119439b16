"""Where training runs."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from edgec.core.errors import ConfigError
from edgec.core.host import this_host
from edgec.pipeline.accelerator import Accelerator, open_fabric


def test_cuda_that_is_asked_for_and_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError) as caught:
        open_fabric(Accelerator.CUDA)
    assert str(caught.value) == "--device cuda: there is no CUDA GPU here"
    assert caught.value.hint == "use --device auto, or check the driver"


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_fabric(Accelerator.AUTO).device.type == "cpu"


@pytest.mark.parametrize(
    ("features", "dtype"), [({"avx512_bf16"}, torch.bfloat16), ({"avx512f", "avx512_vnni"}, torch.float32)]
)
def test_the_cpu_trains_in_bfloat16_where_it_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, features: set[str], dtype: torch.dtype
) -> None:
    host = dataclasses.replace(this_host(), features=frozenset(features))
    monkeypatch.setattr("edgec.pipeline.accelerator.this_host", lambda: host)
    fabric = open_fabric(Accelerator.CPU)
    assert fabric.device.type == "cpu"
    with fabric.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype is dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("accelerator", [Accelerator.AUTO, Accelerator.CUDA])
def test_the_gpu_is_taken_where_there_is_one(accelerator: Accelerator) -> None:
    assert open_fabric(accelerator).device.type == "cuda"
