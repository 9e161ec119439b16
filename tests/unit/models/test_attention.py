"""Attention from which heads are gone, against torch's own with these heads silenced."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgec.models.attention import FewerHeads, can_lose_heads

WIDTH, HEADS = 12, 4
EACH = WIDTH // HEADS


def channels(*heads: int) -> torch.Tensor:
    return torch.cat([torch.arange(EACH) + EACH * head for head in heads])


def attention(**options: object) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True, **options}).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def slowly(layer: nn.MultiheadAttention, tokens: np.ndarray, heads: tuple[int, ...]) -> np.ndarray:
    """One image, token by token: softmax(q k / sqrt(d)) v of each head, then the projection out."""
    packed, bias = (t.detach().double().numpy() for t in (layer.in_proj_weight, layer.in_proj_bias))
    wq, wk, wv = np.split(packed, 3)
    bq, bk, bv = np.split(bias, 3)
    out = np.tile(layer.out_proj.bias.detach().double().numpy(), (len(tokens), 1))
    for head in heads:
        rows = slice(EACH * head, EACH * (head + 1))
        q, k, v = (tokens @ w[rows].T + b[rows] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
        for position in range(len(tokens)):
            scores = np.exp([q[position] @ key / np.sqrt(EACH) for key in k])
            mean = (scores / scores.sum()) @ v
            out[position] += layer.out_proj.weight.detach().double().numpy()[:, rows] @ mean
    return out


@torch.no_grad()
@pytest.mark.parametrize("heads", [(0,), (1, 3), (0, 1, 2)])
def test_the_heads_that_are_left_do_what_they_did(heads: tuple[int, ...]) -> None:
    layer, tokens = attention(), torch.randn(5, WIDTH)
    out, weights = FewerHeads(layer, channels(*heads))(tokens[None], tokens[None], tokens[None], need_weights=False)
    # Single precision against double.
    np.testing.assert_allclose(out[0], slowly(layer, tokens.double().numpy(), heads), atol=1e-5)
    assert weights is None


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"batch_first": False}, {"bias": False}])
def test_all_heads_make_torchs_own_attention(options: dict[str, bool]) -> None:
    layer = attention(**options)
    query, key, value = torch.randn(3, 2, 5, WIDTH).unbind()
    ours = FewerHeads(layer, torch.arange(WIDTH))(query, key, value)[0]
    torch.testing.assert_close(ours, layer(query, key, value, need_weights=False)[0], atol=1e-5, rtol=1e-5)


def test_parameters_keep_their_names_and_are_copies() -> None:
    layer = attention()
    before = copy.deepcopy(layer.state_dict())
    fewer = FewerHeads(layer, channels(1, 2))
    assert {name: tuple(tensor.shape) for name, tensor in fewer.state_dict().items()} == {
        "in_proj_weight": (18, 12),
        "in_proj_bias": (18,),
        "out_proj.weight": (12, 6),
        "out_proj.bias": (12,),
    }
    with torch.no_grad():
        for parameter in fewer.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_a_mask_is_refused_and_its_absence_is_not() -> None:
    fewer, tokens = FewerHeads(attention(), channels(1)), torch.randn(1, 5, WIDTH)
    fewer(tokens, tokens, tokens, need_weights=True, attn_mask=None, is_causal=False)
    with pytest.raises(TypeError, match="takes no masks"):
        fewer(tokens, tokens, tokens, attn_mask=torch.zeros(5, 5))


def test_a_transformer_layer_of_torch_runs_on_it() -> None:
    """In evaluation mode torch fuses such a layer, which would read the parameters by their old sizes."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True).eval()
    tokens = torch.randn(2, 5, WIDTH)
    with torch.no_grad():
        whole = layer(tokens)
        layer.self_attn = FewerHeads(layer.self_attn, torch.arange(WIDTH))
        torch.testing.assert_close(layer(tokens), whole, atol=1e-5, rtol=1e-5)
        layer.self_attn = FewerHeads(attention(), channels(0, 3))
        assert layer(tokens).shape == tokens.shape


@pytest.mark.parametrize(
    ("layer", "can"),
    [
        (attention(), True),
        (attention(kdim=8, vdim=8), False),
        (attention(add_bias_kv=True), False),
        (attention(add_zero_attn=True), False),
        (nn.Linear(3, 3), False),
    ],
)
def test_only_plainly_packed_attention_can_lose_heads(layer: nn.Module, can: bool) -> None:
    assert can_lose_heads(layer) is can
