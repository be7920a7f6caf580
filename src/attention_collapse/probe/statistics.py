"""What is kept of an attention call, and the groups of keys that it is kept for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = ("other", "image", "text")
OTHER, IMAGE, TEXT = range(3)
MOST_RUNS = 16  # a label row of more runs of equal labels is summed by a matrix product instead


@dataclass(frozen=True)
class SiteStats:
    """One attention call of one layer.

    Attributes
    ----------
    site, call
        Name of the module that ran it, and how often that module had done so before (0 the first time).
    entropy
        (batch, head, row), nats, 0 to ln(support); NaN where a query sees no key.
    support
        (batch or 1, 1 or head, row), number of keys the query sees; heads rarely differ.
    mass
        (batch, head, row, len(GROUPS)), shares that add to 1, or None if no groups were declared for the site.
    group_entropy
        (batch, head, row, len(GROUPS)), nats: the entropy of attention restricted to a group and renormalised; NaN
        where the group has no mass (none of its keys is visible, or together they have less than 1e-30). None without
        groups.
    group_support
        (batch or 1, 1 or head, row, len(GROUPS)), number of visible keys of each group, or None.
    rows
        (row,) the query positions that were reduced, or None for all of them.
    route
        "fused" (one kernel for the whole attention) or "eager" (a softmax of its own): what the model ran.
    weights
        (batch, head, row, key), shares that add to 1 (NaN where a query sees no key), if the probe was asked for them.
    """

    site: str
    call: int
    entropy: Tensor
    support: Tensor
    mass: Tensor | None
    group_entropy: Tensor | None
    group_support: Tensor | None
    rows: Tensor | None
    route: str
    weights: Tensor | None = None


class Grouping:
    """Which group each key belongs to, and sums over the keys of each group.

    Parameters
    ----------
    labels
        (batch or 1, key) group numbers.
    """

    def __init__(self, labels: Tensor, device: torch.device) -> None:
        self.labels = labels.to(device)
        self._runs = self._equal_runs() if len(labels) == 1 else None
        self._one_hot: Tensor | None = None

    def _equal_runs(self) -> list[tuple[int, int, int]] | None:
        """(group, start, stop) of each run of equal labels, or None if there are too many."""
        values, counts = (part.tolist() for part in torch.unique_consecutive(self.labels[0], return_counts=True))
        if len(values) > MOST_RUNS:
            return None
        stops = torch.tensor(counts).cumsum(0).tolist()
        return [(g, stop - n, stop) for g, n, stop in zip(values, counts, stops, strict=True)]

    def part(self, items: slice) -> Grouping:
        """The groups of some items of the batch."""
        return self if len(self.labels) == 1 else Grouping(self.labels[items], self.labels.device)

    def sums(self, values: Tensor, out: Tensor) -> None:
        """Sum (batch, head, row, n) over the first n keys into `out` (group, batch, head, row)."""
        n = values.shape[-1]
        if self._runs is None:
            if self._one_hot is None:
                self._one_hot = F.one_hot(self.labels, len(GROUPS)).float()[:, None]  # (batch or 1, 1, key, group)
            out.copy_((values @ self._one_hot[:, :, :n]).movedim(-1, 0))
            return
        fresh = set(range(len(GROUPS)))
        for group, start, stop in self._runs:
            if start >= n:
                break
            part = values[..., start : min(stop, n)]
            if group in fresh:
                torch.sum(part, -1, out=out[group])
                fresh.remove(group)
            else:
                out[group] += part.sum(-1)
        for group in fresh:
            out[group].zero_()


@dataclass(frozen=True)
class Reduced:
    """What one call came to; see `SiteStats`."""

    entropy: Tensor
    support: Tensor
    mass: Tensor | None
    group_entropy: Tensor | None
    group_support: Tensor | None
