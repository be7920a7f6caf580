"""Entropy, group mass and support of attention, without ever holding a pattern.

Fused attention: the kernel the model has just called is called once more, in float32, with

    keys = values = [K − mean(K) | one-hot(group of each key)]      and      queries = [Q | 0].

The zeros cancel the one-hot columns in the logits, so keys and values share one buffer, and the output's columns
are E_p[k] and the group masses. With the kernel's own log-sum-exp that gives, exactly,

    H = −Σ p ln p = lse − scale · q · E_p[k].

Subtracting the mean key shifts every logit of a row by the same amount: p and H do not change, but the large
common offset that would cancel between the two terms is gone.

Everything else (eager softmax, additive biases): blocks of query rows of logits, reduced at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = ("other", "image", "text")
OTHER, IMAGE, TEXT = range(3)

GROUP_COLUMNS = 8  # the one-hot block is padded to a multiple of 8 columns, which the kernels want
MASKED = -5e3  # a logit or bias below this hides its key (masks are −inf, finfo.min or −1e4)
SCRATCH_ELEMENTS = 1 << 19  # elements of one scratch tensor of the fused route: 2 MiB
BLOCK_ELEMENTS = 1 << 20  # logits alive at any one time: 4 MiB in float32


@dataclass(frozen=True)
class SiteStats:
    """One attention call of one layer.

    Attributes
    ----------
    site, call
        Name of the module that ran it, and how often that module had done so before (0 the first time).
    entropy
        (batch, head, query), nats, 0 to ln(support); NaN where a query sees no key.
    mass
        (batch, head, query, len(GROUPS)), shares that add to 1, or None if no groups were declared for the site.
    support
        (batch or 1, 1, query), number of keys the query sees.
    route
        "fused" or "blocks": how the statistics were computed.
    """

    site: str
    call: int
    entropy: Tensor
    mass: Tensor | None
    support: Tensor
    route: str


Reduced = tuple[Tensor, Tensor | None, Tensor]


def one_hot_groups(labels: Tensor, device: torch.device) -> Tensor:
    """(batch or 1, key) group numbers -> (batch or 1, 1, key, GROUP_COLUMNS) float32."""
    return F.one_hot(labels.to(device), GROUP_COLUMNS).float()[:, None]


def reduce_logits(logits: Tensor, groups: Tensor | None) -> Reduced:
    """(batch, head, rows, key) logits -> entropy, mass, support of these rows, in float32."""
    logits = logits.float()
    support = (logits[:, :1] > MASKED).sum(-1)  # heads share their mask
    shifted = logits - logits.amax(-1, keepdim=True).clamp_min(-1e30)
    shifted.clamp_(min=-200.0)  # exp(−200) is 0 beside 1, and 0 · −200 stays finite where 0 · −inf does not
    weights = shifted.exp()
    total = weights.sum(-1)
    mass = None if groups is None else (weights @ groups)[..., : len(GROUPS)] / total[..., None]
    entropy = total.log() - shifted.mul_(weights).sum(-1) / total
    return entropy.clamp_(min=0), mass, support


def _joined(parts: list[Reduced]) -> Reduced:
    entropies, masses, supports = zip(*parts, strict=True)
    mass = None if masses[0] is None else torch.cat(masses, 2)
    return torch.cat(entropies, 2), mass, torch.cat(supports, 2)


def in_blocks(
    shape: tuple[int, int, int, int], logits_of: Callable[[int, int], Tensor], groups: Tensor | None
) -> Reduced:
    """Reduce rows [i, j) at a time; `logits_of(i, j)` gives (batch, head, j − i, key)."""
    batch, heads, queries, keys = shape
    step = max(1, BLOCK_ELEMENTS // max(1, batch * heads * keys))
    return _joined([reduce_logits(logits_of(i, min(i + step, queries)), groups) for i in range(0, queries, step)])


@dataclass(frozen=True)
class FusedCall:
    """The arguments of one fused attention call, whichever kernel it was."""

    query: Tensor  # (batch, head, query, width)
    key: Tensor  # (batch, head or a divisor, key, width)
    mask: Tensor | None  # additive, broadcast to (batch or 1, head or 1, query, key)
    causal: bool
    scale: float

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> FusedCall:
        """From the call's arguments by name."""
        query, key = arguments["query"], arguments["key"]
        mask = arguments.get("attn_mask")
        mask = arguments.get("attn_bias") if mask is None else mask
        if mask is not None:
            mask = mask[(None,) * (4 - mask.ndim)].expand(-1, -1, query.shape[2], key.shape[2])
        scale = query.shape[-1] ** -0.5 if arguments.get("scale") is None else arguments["scale"]
        return cls(query, key, mask, bool(arguments["is_causal"]), scale)

    def part(self, items: slice) -> FusedCall:
        """The call for some items of the batch."""
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[items]
        return replace(self, query=self.query[items], key=self.key[items], mask=mask)

    def support(self) -> Tensor:
        """(batch or 1, 1, query) visible keys."""
        queries, keys = self.query.shape[2], self.key.shape[2]
        if self.mask is not None:
            return (self.mask[:, :1] > MASKED).sum(-1)
        if self.causal:
            return torch.arange(1, queries + 1, device=self.query.device).clamp_(max=keys)[None, None]
        return torch.full((1, 1, queries), keys, device=self.query.device)

    def biased(self) -> bool:
        """True if the mask holds finite biases, whose expectation is no column of the values."""
        if self.mask is None:
            return False
        return not bool(((self.mask == 0) | (self.mask <= MASKED)).all())


def fused(func: Any, arguments: dict[str, Any], groups: Tensor | None) -> tuple[Reduced, str]:
    """Statistics of one fused call, and the route taken."""
    call = FusedCall.of(arguments)
    if call.biased():
        return _fused_in_blocks(call, groups), "blocks"
    batch, heads, queries, width = call.query.shape
    entropy = call.query.new_empty(batch, heads, queries, dtype=torch.float32)
    mass = None if groups is None else entropy.new_empty(batch, heads, queries, len(GROUPS))
    # A few items at a time: the scratch stays small, however large the batch is.
    step = max(1, SCRATCH_ELEMENTS // (heads * max(queries, call.key.shape[2]) * (width + GROUP_COLUMNS)))
    for i in range(0, batch, step):
        part = slice(i, i + step)
        own = groups if groups is None or len(groups) == 1 else groups[part]
        own_mass = None if mass is None else mass[part]
        _call_again(func, arguments, call.part(part), own, entropy=entropy[part], mass=own_mass)
    return (entropy.clamp_(min=0), mass, call.support()), "fused"


def _call_again(
    func: Any,
    arguments: dict[str, Any],
    call: FusedCall,
    groups: Tensor | None,
    *,
    entropy: Tensor,
    mass: Tensor | None,
) -> None:
    """The kernel once more, on [K − mean | one-hot] in place of keys and values; fills `entropy` and `mass`."""
    query, key, width = call.query.float(), call.key.float(), call.key.shape[-1]
    both = key.new_empty(*key.shape[:3], width if groups is None else width + GROUP_COLUMNS)
    torch.sub(key, key.mean(2, keepdim=True), out=both[..., :width])
    if groups is not None:
        both[..., width:] = groups
    again = {
        **arguments,
        "query": query if groups is None else F.pad(query, (0, GROUP_COLUMNS)),
        "key": both,
        "value": both,
        "scale": call.scale,
        "dropout_p": 0.0,
    }
    for name in ("attn_mask", "attn_bias"):
        if again.get(name) is not None and call.mask is not None:
            again[name] = call.mask.to(both.dtype)
    if "compute_log_sumexp" in again:
        again["compute_log_sumexp"] = True
    expected, lse = func(**{argument.name: again[argument.name] for argument in func._schema.arguments})[:2]
    lse = lse[..., : query.shape[2]]  # some kernels pad the rows
    torch.sub(lse, (query * expected[..., :width]).sum(-1), alpha=call.scale, out=entropy)
    if mass is not None:
        mass.copy_(expected[..., width : width + len(GROUPS)])


def _fused_in_blocks(call: FusedCall, groups: Tensor | None) -> Reduced:
    batch, heads, queries, _ = call.query.shape
    keys = call.key.shape[2]
    key = call.key.float().repeat_interleave(heads // call.key.shape[1], 1).transpose(-1, -2)
    query = call.query.float() * call.scale
    position = torch.arange(keys, device=key.device)

    def logits_of(i: int, j: int) -> Tensor:
        block = query[:, :, i:j] @ key  # (batch, head, j − i, key)
        if call.causal:
            block.masked_fill_(position > torch.arange(i, j, device=key.device)[:, None], -torch.inf)
        return block if call.mask is None else block + call.mask[:, :, i:j]

    return in_blocks((batch, heads, queries, keys), logits_of, groups)


def softmax_input(logits: Tensor, heads: int, groups_of: Callable[[int, int], Tensor | None]) -> Reduced:
    """Statistics of an eager softmax over `logits`: (batch, head, query, key) or (batch · head, query, key)."""
    if logits.ndim == 3:
        logits = logits.unflatten(0, (-1, heads if logits.shape[0] % heads == 0 else 1))
    logits = logits.reshape(logits.shape[0], -1, *logits.shape[-2:])  # (batch, head, query, key)
    batch, head, queries, keys = logits.shape
    return in_blocks((batch, head, queries, keys), lambda i, j: logits[:, :, i:j], groups_of(batch, keys))
