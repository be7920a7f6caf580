"""One pass of a model with the probe on it: statistics of every attention call that counts, and what the pass gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from attention_collapse.errors import ProbeError
from attention_collapse.models.interface import Batch, Model
from attention_collapse.probe import AttentionProbe, SiteStats
from attention_collapse.probe.rows import average_rows, needed_rows

Seen = dict[str, dict[str, dict[str, np.ndarray]]]  # tower -> site -> statistic
Given = TypeVar("Given")  # what a pass gives


def probe_batch(model: Model, batch: Batch, forward: Callable[[Batch], Given]) -> tuple[Seen, Given]:
    """One forward pass: tower -> site -> statistic -> (batch, head) float64 (counts: (batch,)); and what it gives."""
    seen: Seen = {read.tower: {} for read in batch.reads}
    rows = {site: needed_rows(read.rows) for read in batch.reads for site in read.sites}
    nothing = torch.empty(0, dtype=torch.long)

    def chosen(site: str, _batch: int, queries: int) -> Tensor | None:
        wanted = rows.get(site, nothing)
        return None if len(wanted) == queries else wanted

    def keep(stats: SiteStats) -> None:
        for read in batch.reads:
            if stats.site in read.sites:
                if stats.site in seen[read.tower]:
                    raise ProbeError(
                        f"{model.name}: {stats.site} ran twice in one pass",
                        expected="one attention call per layer",
                        remedy="read sites that run once for each pass",
                    )
                means = average_rows(stats, read.rows, read.group)
                seen[read.tower][stats.site] = {key: value.cpu().numpy() for key, value in means.items()}

    probe = AttentionProbe(model.module, on_stats=keep, keys=lambda site, *_: batch.groups.get(site), rows=chosen)
    with probe, torch.inference_mode():
        output = forward(batch)
    for read in batch.reads:
        if missing := [site for site in read.sites if site not in seen[read.tower]]:
            raise ProbeError(
                f"{model.name}: nothing seen of {', '.join(missing[:4])}",
                expected=f"one attention call from each of the {len(read.sites)} layers read for {read.tower}",
                remedy="check that the model's table of sites names its attention modules",
            )
    return seen, output
