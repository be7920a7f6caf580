"""Weights of chosen rows against softmax(q kᵀ / √d + mask) in float64, whichever way the model computes attention."""

import math

import pytest
import torch
from test_probe import ROUTES, Attend, padding, random_inputs

from attention_collapse.probe import AttentionProbe


def seen(module, *args, rows=None, weights=True, **kwargs):
    kept = []
    chosen = None if rows is None else (lambda *_: torch.tensor(rows))
    with AttentionProbe(module, on_stats=kept.append, rows=chosen, weights=weights), torch.inference_mode():
        module(*args, **kwargs)
    return kept[0]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("rows", [None, [0, 5, 12]])
@pytest.mark.parametrize("masking", ["none", "causal", "padding", "boolean", "bias"])
def test_weights_are_the_softmax_of_the_rows(masking, rows, route):
    q, k, v = random_inputs(sharpness=3.0)
    mask, causal = None, masking == "causal"
    logits = q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    if masking in ("padding", "boolean"):
        mask = padding(2, 13, 4)
        logits = logits + mask.double()
        mask = mask == 0 if masking == "boolean" else mask
    elif masking == "bias":
        mask = torch.randn(1, 4, 13, 13, generator=torch.Generator().manual_seed(2))
        logits = logits + mask.double()
    elif causal:
        logits = logits.masked_fill(torch.ones(13, 13, dtype=torch.bool).triu(1), -torch.inf)
    expected = logits.softmax(-1)[:, :, slice(None) if rows is None else rows]
    stats = seen(Attend(4, **ROUTES[route]), q, k, v, mask, causal, rows=rows)
    assert stats.weights.shape == expected.shape
    assert (stats.weights - expected).abs().max() < 2e-6
    # The same rows whose entropy is reported.
    assert (torch.special.entr(stats.weights.double()).sum(-1) - stats.entropy).abs().max() < 2e-5


def test_grouped_queries_use_their_own_key_head():
    q, k, v = random_inputs()
    module = Attend(4)
    module.forward = lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    expected = (q.double() @ k[:, [0, 0, 1, 1]].double().transpose(-1, -2) / 4).softmax(-1)
    assert (seen(module, q, k[:, :2], v[:, :2]).weights - expected).abs().max() < 2e-6


@pytest.mark.parametrize("route", ROUTES)
def test_a_query_that_sees_no_key_is_undefined_and_weights_are_kept_on_request_only(route):
    q, k, v = random_inputs()
    mask = torch.zeros(2, 1, 13, 13)
    mask[0, :, 3] = -1e4
    stats = seen(Attend(4, **ROUTES[route]), q, k, v, mask)
    assert stats.weights.isnan().any(-1).nonzero().tolist() == [[0, head, 3] for head in range(4)]
    assert seen(Attend(4, **ROUTES[route]), q, k, v, weights=False).weights is None
