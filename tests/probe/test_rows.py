import math

import pytest
import torch

from attention_collapse.errors import ProbeError
from attention_collapse.probe import IMAGE, TEXT, SiteStats
from attention_collapse.probe.rows import average_rows, needed_rows


def stats(entropy, support, rows=None, **groups):
    absent = {"mass": None, "group_entropy": None, "group_support": None}
    return SiteStats(
        "layer.0", 0, torch.tensor(entropy), torch.tensor(support), **(absent | groups), rows=rows, route="fused"
    )


def test_known_answer():
    # One item, one head, three causal queries; the last two chosen with equal weight.
    one = stats([[[0.0, 0.5, 0.9]]], [[[1, 2, 3]]])
    rows = {"all": torch.tensor([[0.0, 0.5, 0.5]]), "readout": torch.tensor([[1.0, 0.0, 0.0]])}
    result = average_rows(one, rows)
    assert result["entropy_all"].item() == pytest.approx(0.7)
    assert result["support_all"].item() == pytest.approx(2.5) and result["support_readout"].item() == 1
    assert result["uniform_all"].item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert result["entropy_normalized_all"].item() == pytest.approx((0.5 / math.log(2) + 0.9 / math.log(3)) / 2)
    # A query with one key has entropy 0 of at most 0: a number as entropy, none as a ratio.
    assert result["entropy_readout"].item() == 0 and result["entropy_normalized_readout"].isnan().item()
    assert result["undefined_all"].item() == 0 and result["undefined_readout"].item() == 1


def test_normalised_entropy_averages_over_the_queries_for_which_it_exists():
    one = stats([[[0.0, math.log(2)]]], [[[1, 2]]])
    result = average_rows(one, {"all": torch.tensor([[0.5, 0.5]])})
    assert result["entropy_normalized_all"].item() == pytest.approx(1.0) and result["undefined_all"].item() == 1


def test_padding_may_be_undefined_and_real_rows_may_not():
    padded = stats([[[0.5, math.nan]]], [[[2, 0]]])
    assert average_rows(padded, {"all": torch.tensor([[1.0, 0.0]])})["entropy_all"].item() == 0.5
    with pytest.raises(ProbeError, match=r"layer\.0: attention is not a finite distribution"):
        average_rows(padded, {"all": torch.tensor([[0.5, 0.5]])})


def grouped(batch=2, heads=3, queries=4, rows=None):
    mass = torch.rand(batch, heads, queries, 3, dtype=torch.float64)
    mass /= mass.sum(-1, keepdim=True)
    own, seen = torch.rand(batch, heads, queries, 3), torch.tensor([1, 6, 2]).expand(1, 1, queries, 3)
    return SiteStats("x", 0, torch.rand(batch, heads, queries), seen.sum(-1), mass, own, seen, rows=rows, route="fused")


def test_masses_add_to_one_and_dtype_is_float64():
    result = average_rows(grouped(), {"all": torch.full((2, 4), 0.25)})
    total = sum(result[f"mass_{g}_all"] for g in ("other", "image", "text"))
    assert torch.allclose(total, torch.ones(2, 3, dtype=torch.float64)) and total.dtype == torch.float64
    assert [result[f"support_{g}_all"][0, 0].item() for g in ("other", "image", "text")] == [1, 6, 2]


def test_a_groups_own_entropy_and_null():
    some, weights = grouped(), {"all": torch.full((2, 4), 0.25)}
    result = average_rows(some, weights, group=IMAGE)
    assert torch.allclose(result["entropy_all"], some.group_entropy[..., IMAGE].double().mean(-1))
    assert torch.allclose(result["uniform_all"], torch.full((2, 3), math.log(6), dtype=torch.float64))
    some.group_entropy[0, 1, 2, TEXT] = math.nan  # one head gives the text no mass in one query
    result = average_rows(some, weights, group=TEXT)
    assert result["entropy_all"].isnan().nonzero().tolist() == [[0, 1]] and result["undefined_all"].tolist() == [1, 0]


def test_rows_that_were_reduced_meet_their_weights():
    some = grouped(queries=2, rows=torch.tensor([1, 3]))
    weights = {"all": torch.tensor([[0, 0.5, 0, 0.5], [0, 0, 0, 1.0]])}
    assert needed_rows(weights).tolist() == [1, 3]
    result = average_rows(some, weights)["entropy_all"]
    assert torch.allclose(result[0], some.entropy[0].double().mean(-1))
    assert torch.allclose(result[1], some.entropy[1, :, 1].double())
    with pytest.raises(ProbeError, match="weights of the rows 'all' add to 0.5"):
        average_rows(some, {"all": torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0, 1.0]])})
