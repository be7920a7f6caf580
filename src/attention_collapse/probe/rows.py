"""From per-query statistics to one number per head: averages over chosen query rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from attention_collapse.errors import ProbeError
from attention_collapse.probe.statistics import GROUPS, SiteStats


def needed_rows(weights: Mapping[str, Tensor]) -> Tensor:
    """Positions of the queries that any of the (batch, query) weights uses in any item: (row,)."""
    used = torch.stack([(weight > 0).any(0) for weight in weights.values()]).any(0)
    return used.nonzero()[:, 0]


def average_rows(stats: SiteStats, rows: Mapping[str, Tensor], group: int | None = None) -> dict[str, Tensor]:
    """Weighted means over query rows, in float64.

    Parameters
    ----------
    stats
        Statistics of one site.
    rows
        name -> (batch, query) weights, each row adding to 1; a weight of 0 leaves the query out.
    group
        Average the entropy within this group of keys (see `GROUPS`) in place of that over all keys.

    Returns
    -------
    dict
        For each name r: `entropy_r` (nats), `uniform_r` (nats: the mean of ln support, what uniform attention has),
        `support_r` (mean number of visible keys), `entropy_normalized_r` (mean of entropy / ln support over the
        queries that see two keys or more, 0 to 1), and, where the site's keys are grouped, `mass_<group>_r` (shares)
        and `support_<group>_r` (keys), each (batch, head); `undefined_r` counts the queries for which the normalised
        entropy does not exist because they see one key or give the group no mass, (batch,). With `group`, entropy,
        uniform, support and entropy_normalized are those of the group; a query that gives it no mass makes its head's
        mean NaN.

    Raises
    ------
    ProbeError
        If a chosen query has NaN entropy: it sees no key, or the model's attention is not a distribution.
    """
    entropy, support = _of_group(stats, group)  # (batch, head, row) each
    uniform = support.masked_fill(support == 0, torch.nan).log()
    result: dict[str, Tensor] = {}
    for name, weights in rows.items():
        weight = _chosen(stats, name, weights.to(entropy.device).double())[:, None]  # (batch, 1, row)
        chosen = weight > 0

        def mean(values: Tensor, weight: Tensor = weight, chosen: Tensor = chosen) -> Tensor:
            return (torch.where(chosen, values, 0.0) * weight).sum(-1)

        result[f"entropy_{name}"] = mean(entropy)
        result[f"support_{name}"] = mean(support)
        result[f"uniform_{name}"] = mean(uniform)
        defined = chosen & (support > 1) & entropy.isfinite()
        share = torch.where(defined, weight, 0.0).sum(-1)
        ratio = torch.where(defined, entropy / uniform, 0.0)
        result[f"entropy_normalized_{name}"] = (ratio * weight).sum(-1) / share  # NaN where no query is defined
        result[f"undefined_{name}"] = (chosen & ~defined).any(1).sum(-1)
        if stats.mass is not None and stats.group_support is not None:
            keys = stats.group_support.double().expand(*entropy.shape, -1)
            for index, key in enumerate(GROUPS):
                result[f"mass_{key}_{name}"] = mean(stats.mass[..., index].double())
                result[f"support_{key}_{name}"] = mean(keys[..., index])
    return result


def _of_group(stats: SiteStats, group: int | None) -> tuple[Tensor, Tensor]:
    """(batch, head, row) entropies and numbers of visible keys, of a group of keys or (None) of all."""
    entropy, support = stats.entropy, stats.support
    if group is not None:
        if stats.group_entropy is None or stats.group_support is None:
            raise ProbeError(
                f"{stats.site}: keys without groups", expected="group labels", remedy="declare the site's keys"
            )
        entropy, support = stats.group_entropy[..., group], stats.group_support[..., group]
    return entropy.double(), support.double().expand(*entropy.shape[:2], -1)


def _chosen(stats: SiteStats, name: str, weight: Tensor) -> Tensor:
    """(batch, row) weights of the queries that were reduced; ProbeError if they are not all that were chosen."""
    if stats.rows is not None:
        weight = weight.index_select(1, stats.rows.to(weight.device))
    if bool((weight.sum(-1) - 1).abs().max() > 1e-6):
        raise ProbeError(
            f"{stats.site}: weights of the rows {name!r} add to {weight.sum(-1).min().item():.3g}",
            expected="weights that add to 1 over queries that were reduced",
            remedy="choose at least one query for each item, and reduce every query that is chosen",
        )
    if bool(((weight[:, None] > 0) & ~stats.entropy.isfinite()).any()):
        raise ProbeError(
            f"{stats.site}: attention is not a finite distribution over keys",
            expected="finite attention logits, and at least one visible key for every real query",
            remedy="check the checkpoint and the inputs for NaN and infinities (half precision overflows)",
        )
    return weight
