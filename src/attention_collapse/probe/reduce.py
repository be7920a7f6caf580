"""Entropy, group entropy, group mass and support of attention, without ever holding a pattern.

Logits are rebuilt from the queries and keys of the call in blocks of query rows, in float32, and reduced at once.
With x the logits in units of ln 2, shifted by anything that keeps 2^x in range, every statistic follows from two sums
over the keys of each group g,

    Z_g = Σ 2^x        S_g = Σ 2^x · x        m_g = Z_g / Σ Z        H_g = ln 2 · (log2 Z_g − S_g / Z_g)

and the same with Z = Σ Z_g, S = Σ S_g for the whole row; the shift cancels. Where the model's own kernel returns its
log-sum-exp, that is the shift, and no pass over the block is needed to find its maximum. Base 2, because exp2 takes
about 0.6 of the time of exp. Nothing depends on which kernel the model used: the products are plain float32 matrix
products, on CUDA (where flash kernels take half precision only) as on CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_collapse.probe.statistics import GROUPS, Grouping, Reduced

MASKED = -5e3  # a bias, or a logit below its row's maximum, that hides its key (masks are −inf, finfo.min or −1e4)
BLIND = -9e3  # a row whose greatest logit is below this sees no key
FAINT = 2.0**-100  # a group of less mass than this has lost its entropy to float32's smallest numbers
NOTHING = -300.0  # 2^−300 is 0 in float32, and 0 · −300 stays finite where 0 · −inf does not
BLOCK_ELEMENTS = 1 << 19  # logits alive at any one time: 2 MiB in float32
BLOCK_ROWS = 32  # fewer rows than this make slow matrix products: then fewer items of the batch at a time


class _Accumulator:
    """The statistics of a call, filled block by block."""

    def __init__(self, batch: int, heads: int, rows: int, groups: Grouping | None, device: torch.device) -> None:
        self.groups = groups
        parts = 1 if groups is None else len(GROUPS)
        self.z = torch.empty(parts, batch, heads, rows, device=device)  # Z_g
        self.s = torch.empty_like(self.z)  # S_g

    def add(self, items: slice, rows: slice, x: Tensor, scratch: Tensor) -> None:
        """Reduce one block of base-2 logits (batch, head, row, key); `x` is overwritten."""
        weights = torch.exp2(x, out=scratch[: x.numel()].view(x.shape))
        z, s = self.z[:, items, :, rows], self.s[:, items, :, rows]
        if self.groups is None:
            torch.sum(weights, -1, out=z[0])
            torch.sum(x.mul_(weights), -1, out=s[0])
        else:
            groups = self.groups.part(items)
            groups.sums(weights, z)
            groups.sums(x.mul_(weights), s)

    def result(self, support: Tensor) -> Reduced:
        """`support`: visible keys, (batch or 1, 1 or head, row), and with groups another axis for them."""
        z, s = self.z.sum(0), self.s.sum(0)
        entropy = _entropy(z, s)
        if self.groups is None:
            return Reduced(entropy, support, None, None, None)
        mass = (self.z / z).movedim(0, -1)
        own = _entropy(self.z, self.s).movedim(0, -1).masked_fill_(mass < FAINT, torch.nan)
        return Reduced(entropy, support.sum(-1), mass, own, support)


def _entropy(z: Tensor, s: Tensor) -> Tensor:
    """H of the sums above, in nats; NaN where z is 0."""
    return ((z.log2() - s / z) * math.log(2)).clamp_(min=0)


def _blocks(batch: int, heads: int, rows: int, keys: int, *, causal: bool) -> tuple[list[tuple[slice, slice]], int]:
    """(items, rows) of each block of at most BLOCK_ELEMENTS logits (or one row of one item), and that limit.

    With `causal`, rows [i, j) need the first j keys only, so that early blocks hold more rows.
    """
    items = min(batch, max(1, BLOCK_ELEMENTS // (heads * keys * min(rows, BLOCK_ROWS))))
    most = max(keys, BLOCK_ELEMENTS // (items * heads))  # elements of one head's block
    parts, i = [], 0
    while i < rows:
        step = most // keys
        if causal:  # (j − i) · j = most
            step = max(step, int((math.sqrt(i * i + 4 * most) - i) / 2))
        parts.append(slice(i, min(i + step, rows)))
        i += step
    blocks = [(slice(i, min(i + items, batch)), part) for i in range(0, batch, items) for part in parts]
    return blocks, items * heads * most


def _count(visible: Tensor, groups: Grouping | None) -> Tensor:
    """(batch or 1, 1 or head, row, key) booleans -> number of visible keys, by group if there are groups."""
    if groups is None:
        return visible.sum(-1)
    if len(visible) == 1 < len(groups.labels):
        visible = visible.expand(len(groups.labels), -1, -1, -1)
    counts = torch.empty(len(GROUPS), *visible.shape[:-1], device=visible.device)
    groups.sums(visible.float(), counts)
    return counts.round().long().movedim(0, -1)


@dataclass(frozen=True)
class FusedCall:
    """The arguments of one fused attention call, whichever kernel it was."""

    query: Tensor  # (batch, head, query, width)
    key: Tensor  # (batch, head or a divisor of it, key, width)
    mask: Tensor | None  # additive, (batch or 1, head or 1, query, key)
    causal: bool
    scale: float
    lse: Tensor | None  # (batch, head, query), nats, where the kernel is known to return it

    @classmethod
    def of(cls, arguments: dict[str, Any], lse: Tensor | None) -> FusedCall:
        """From the call's arguments by name."""
        query, key = arguments["query"].detach(), arguments["key"].detach()
        mask = arguments.get("attn_mask")
        mask = arguments.get("attn_bias") if mask is None else mask
        if mask is not None:
            mask = mask.detach()[(None,) * (4 - mask.ndim)].expand(-1, -1, query.shape[2], key.shape[2])
        scale = query.shape[-1] ** -0.5 if arguments.get("scale") is None else arguments["scale"]
        return cls(query, key, mask, bool(arguments["is_causal"]), scale, lse)

    def unpacked(self, heads: int, groups: int) -> FusedCall:
        """Decoding one token with grouped queries, transformers packs a group's heads into the query axis: undo that.

        (batch, key head, heads per key head, width) -> (batch, head, 1, width), if the module that runs says that it
        has `heads` heads, `groups` of them per key head.
        """
        batch, key_heads, packed, width = self.query.shape
        if groups == 1 or (packed, key_heads * packed) != (groups, heads) or self.key.shape[1] != key_heads:
            return self
        mask = self.mask
        if mask is not None:
            mask = mask[:, :, :1] if mask.shape[1] == 1 else mask.reshape(len(mask), heads, 1, -1)
        lse = None if self.lse is None else self.lse.reshape(batch, heads, 1)
        return FusedCall(self.query.reshape(batch, heads, 1, width), self.key, mask, False, self.scale, lse)


def fused(call: FusedCall, groups: Grouping | None, rows: Tensor | None) -> Reduced:
    """Statistics of the chosen query rows (None: all) of one fused call."""
    query, key, mask = call.query, call.key, call.mask
    batch, heads, queries, _ = query.shape
    keys, device = key.shape[2], query.device
    lse = None if call.lse is None else call.lse.detach()[..., :queries]
    position = torch.arange(queries, device=device) if rows is None else rows.to(device)
    if rows is not None:
        query = query.index_select(2, position)
        lse = None if lse is None else lse.index_select(2, position)
        mask = None if mask is None else mask.index_select(2, position)
    last = position.cpu().tolist() if call.causal else []
    sums = _Accumulator(batch, heads, len(position), groups, device)
    blocks, size = _blocks(batch, heads, len(position), keys, causal=call.causal and rows is None)
    block, scratch = (torch.empty(size, device=device) for _ in range(2))
    unit = call.scale / math.log(2)
    ready: tuple[slice, Tensor] | None = None
    for items, part in blocks:
        if ready is None or ready[0] != items:
            k = key[items].float()
            k = k.repeat_interleave(heads // key.shape[1], 1) if key.shape[1] != heads else k
            ready = items, k.flatten(0, 1).transpose(1, 2)  # (batch · head, width, key)
        q = (query[items, :, part].float() * unit).flatten(0, 1)  # (batch · head, row, width)
        n = min(keys, max(last[part]) + 1) if call.causal else keys
        x = block[: len(q) * q.shape[1] * n].view(len(q), q.shape[1], n)
        if lse is None:
            torch.bmm(q, ready[1][:, :, :n], out=x)
        else:
            shift = lse[items, :, part].float().flatten(0, 1)[..., None] / -math.log(2)
            torch.baddbmm(shift, q, ready[1][:, :, :n], out=x)
        x = x.view(-1, heads, *x.shape[1:])  # (batch, head, row, n)
        if call.causal:
            first = min(last[part]) + 1
            hidden = torch.arange(first, n, device=device) > position[part, None]
            x[..., first:].masked_fill_(hidden, NOTHING if lse is not None else -torch.inf)
        if mask is not None:
            x.add_(mask[items if len(mask) > 1 else slice(None), :, part, :n].float(), alpha=1 / math.log(2))
        if lse is None:
            x.sub_(x.amax(-1, keepdim=True).clamp_min_(MASKED))
        if mask is not None or lse is None:
            x.clamp_(min=NOTHING)
        sums.add(items, part, x, scratch)
    return sums.result(_fused_support(call, mask, position, groups))


def _fused_support(call: FusedCall, mask: Tensor | None, position: Tensor, groups: Grouping | None) -> Tensor:
    """Visible keys of each chosen row; `mask` holds the chosen rows only."""
    keys = call.key.shape[2]
    if mask is not None:
        mask = mask[:, :1] if mask.stride(1) == 0 else mask  # one mask for all heads, expanded
        step = max(1, BLOCK_ELEMENTS // (len(mask) * mask.shape[1] * keys))
        return torch.cat([_count(mask[:, :, i : i + step] > MASKED, groups) for i in range(0, mask.shape[2], step)], 2)
    seen = (position + 1).clamp(max=keys) if call.causal else torch.full_like(position, keys)
    if groups is None:
        return seen[None, None]
    counts = F.one_hot(groups.labels, len(GROUPS)).cumsum(1)  # (batch or 1, key, group)
    return counts[:, seen - 1][:, None]  # (batch or 1, 1, row, group)


def eager(logits: Tensor, heads: int) -> Tensor:
    """The input of an eager softmax as (batch, head, query, key), from that or (batch · head, query, key)."""
    if logits.ndim == 3:
        logits = logits.unflatten(0, (-1, heads if logits.shape[0] % heads == 0 else 1))
    return logits.reshape(logits.shape[0], -1, *logits.shape[-2:])


def softmax_input(logits: Tensor, groups: Grouping | None, rows: Tensor | None) -> Reduced:
    """Statistics of the chosen query rows (None: all) of an eager softmax over (batch, head, query, key) logits."""
    logits = logits.detach()
    if rows is not None:
        logits = logits.index_select(2, rows.to(logits.device))
    batch, heads, queries, keys = logits.shape
    sums = _Accumulator(batch, heads, queries, groups, logits.device)
    blocks, size = _blocks(batch, heads, queries, keys, causal=False)
    scratch = torch.empty(size, device=logits.device)
    support = []
    for items, part in blocks:
        x = logits[items, :, part].float()
        top = x.amax(-1, keepdim=True)
        x = x - top.clamp_min(-1e30)
        own = None if groups is None else groups.part(items)
        support.append((items, _count((x > MASKED) & (top > BLIND), own)))
        x = x.mul_(1 / math.log(2)).clamp_(min=NOTHING)
        sums.add(items, part, x, scratch)
    starts = sorted({items.start for items, _ in support})
    counts = [torch.cat([count for items, count in support if items.start == start], 2) for start in starts]
    return sums.result(torch.cat(counts))
