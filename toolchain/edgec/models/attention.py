"""Multi-head attention from which heads are gone, which `nn.MultiheadAttention` cannot express."""

from __future__ import annotations

from typing import TypeGuard

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Attention", "FewerHeads", "can_lose_heads", "inner_width"]


class FewerHeads(nn.Module):
    """An `nn.MultiheadAttention` that kept some of its heads; it may lose more.

    torch's divides the stream's width by the number of heads. Here a head stays as wide as it was while the stream
    stays whole, so that the projections in and out are rectangular. Parameters keep their names.

    Args:
        attention: Left as it is; `can_lose_heads` must hold.
        kept: Channels of the heads' outputs that stay, whole heads, rising.
    """

    def __init__(self, attention: Attention, kept: Int[Tensor, "channel"]) -> None:
        super().__init__()
        self.embed_dim = attention.embed_dim
        self.head_dim = inner_width(attention) // attention.num_heads
        self.num_heads = len(kept) // self.head_dim
        self.batch_first = attention.batch_first
        self._qkv_same_embed_dim = False  # keeps nn.TransformerEncoderLayer from its fused path
        packed, bias = attention.in_proj_weight.detach(), attention.in_proj_bias
        out, kept = attention.out_proj, kept.to(packed.device)
        self.in_proj_weight = nn.Parameter(packed.unflatten(0, (3, -1))[:, kept].flatten(0, 1))
        self.in_proj_bias = None if bias is None else nn.Parameter(bias.detach().view(3, -1)[:, kept].flatten())
        self.out_proj = nn.Linear(len(kept), self.embed_dim, bias=out.bias is not None, device="meta")
        self.out_proj.weight = nn.Parameter(out.weight.detach()[:, kept])
        if out.bias is not None:
            self.out_proj.bias = nn.Parameter(out.bias.detach().clone())

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, **masks: object
    ) -> tuple[Float[Tensor, "... embed"], None]:
        """What the heads that are left make of the tokens; no weights are returned, whether or not they are asked for.

        Raises:
            TypeError: A mask was given, which images need none of.
        """
        del need_weights
        if any(mask is not None and mask is not False for mask in masks.values()):
            raise TypeError(f"attention without some of its heads takes no masks, got {sorted(masks)}")
        weights = self.in_proj_weight.unflatten(0, (3, -1))  # not in chunks: ONNX before opset 18 knows no such split
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.view(3, -1)
        q, k, v = (
            self._by_head(F.linear(tokens, weights[i], biases[i])) for i, tokens in enumerate((query, key, value))
        )
        heads = F.scaled_dot_product_attention(q, k, v)  # [batch, head, token, channel]
        joined = (heads.transpose(1, 2) if self.batch_first else heads.permute(2, 0, 1, 3)).flatten(2)
        return F.linear(joined, self.out_proj.weight, self.out_proj.bias), None

    def _by_head(self, tokens: Float[Tensor, "one two channel"]) -> Float[Tensor, "batch head token dim"]:
        """Batch and tokens in whichever order the layer takes them."""
        split = tokens.unflatten(2, (self.num_heads, self.head_dim))
        return split.transpose(1, 2) if self.batch_first else split.permute(1, 2, 0, 3)


Attention = nn.MultiheadAttention | FewerHeads


def inner_width(attention: Attention) -> int:
    """Channels of all heads together."""
    return attention.out_proj.in_features


def can_lose_heads(layer: nn.Module) -> TypeGuard[Attention]:
    """Whether it is attention with one packed projection in, and nothing appended to keys and values."""
    return isinstance(layer, FewerHeads) or (
        isinstance(layer, nn.MultiheadAttention)
        and layer.in_proj_weight is not None
        and layer.bias_k is None
        and not layer.add_zero_attn
    )
