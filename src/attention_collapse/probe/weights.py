"""Attention weights of chosen query rows, held whole: for pictures of a few pairs, where that is cheap."""

from __future__ import annotations

import torch
from torch import Tensor

from attention_collapse.probe.reduce import BLIND, FusedCall


def fused_weights(call: FusedCall, rows: Tensor | None) -> Tensor:
    """Softmax of the chosen query rows (None: all) of one fused call: (batch, head, row, key), float32."""
    keys, device = call.key.shape[2], call.query.device
    position = torch.arange(call.query.shape[2], device=device) if rows is None else rows.to(device)
    key = call.key.float().repeat_interleave(call.query.shape[1] // call.key.shape[1], 1)
    logits = call.scale * call.query.index_select(2, position).float() @ key.transpose(-1, -2)
    if call.mask is not None:
        logits = logits + call.mask.index_select(2, position).float()
    if call.causal:
        logits = logits.masked_fill(torch.arange(keys, device=device) > position[:, None], -torch.inf)
    return _softmax(logits)


def eager_weights(logits: Tensor, rows: Tensor | None) -> Tensor:
    """The same of the (batch, head, query, key) input of an eager softmax."""
    logits = logits.detach()
    return _softmax((logits if rows is None else logits.index_select(2, rows.to(logits.device))).float())


def _softmax(logits: Tensor) -> Tensor:
    """Rows add to 1; a row that sees no key is NaN."""
    return logits.softmax(-1).masked_fill(logits.amax(-1, keepdim=True) < BLIND, torch.nan)
