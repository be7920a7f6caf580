"""From per-query statistics to one number a head: averages over chosen query rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from attention_collapse.errors import ProbeError
from attention_collapse.probe.reduce import GROUPS, SiteStats


def average_rows(stats: SiteStats, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weighted means over query rows, in float64.

    Parameters
    ----------
    stats
        Statistics of one site.
    rows
        name -> (batch, query) weights, each row adding to 1; a weight of 0 leaves the query out.

    Returns
    -------
    dict
        For each name r: `entropy_r` (nats), `uniform_r` (nats: the mean of ln support, what uniform attention has),
        `support_r` (mean number of visible keys), `entropy_normalized_r` (mean of entropy / ln support over the
        queries that see two keys or more, 0 to 1), and `mass_<group>_r` (shares), each (batch, head);
        `undefined_r` counts the queries with one visible key, for which the normalised entropy does not exist,
        (batch,).

    Raises
    ------
    ProbeError
        If a chosen query has NaN entropy: it sees no key, or the model's attention is not a distribution.
    """
    entropy = stats.entropy.double()  # (batch, head, query)
    batch, heads, _ = entropy.shape
    log_support = stats.support.double().log()[:, 0].expand(batch, -1)  # (batch, query)
    result: dict[str, Tensor] = {}
    for name, weights in rows.items():
        weight = weights.to(entropy.device).double()[:, None]  # (batch, 1, query)
        chosen = weight > 0
        if bool((chosen & ~entropy.isfinite()).any()):
            raise ProbeError(
                f"{stats.site}: attention is not a finite distribution over keys",
                expected="finite attention logits, and at least one visible key for every real query",
                remedy="check the checkpoint and the inputs for NaN and infinities (half precision overflows)",
            )

        def mean(values: Tensor, weight: Tensor = weight, chosen: Tensor = chosen) -> Tensor:
            return (torch.where(chosen, values, 0.0) * weight).sum(-1)

        result[f"entropy_{name}"] = mean(entropy)
        result[f"support_{name}"] = mean(stats.support.double().expand(batch, heads, -1))
        result[f"uniform_{name}"] = mean(log_support[:, None].expand(-1, heads, -1))
        defined = chosen & (log_support[:, None] > 0)
        share = torch.where(defined, weight, 0.0).sum(-1)
        ratio = torch.where(defined, entropy / log_support[:, None], 0.0)
        result[f"entropy_normalized_{name}"] = (ratio * weight).sum(-1) / share  # NaN where no query is defined
        result[f"undefined_{name}"] = (chosen & ~defined)[:, 0].sum(-1)
        if stats.mass is not None:
            mass = stats.mass.double()
            for index, group in enumerate(GROUPS):
                result[f"mass_{group}_{name}"] = mean(mass[..., index])
    return result
