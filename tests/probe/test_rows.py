import math

import pytest
import torch

from attention_collapse.errors import ProbeError
from attention_collapse.probe import SiteStats
from attention_collapse.probe.rows import average_rows


def stats(entropy, support, mass=None):
    return SiteStats("layer.0", 0, torch.tensor(entropy), mass, torch.tensor(support), "fused")


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


def test_masses_add_to_one_and_dtype_is_float64():
    mass = torch.rand(2, 3, 4, 3)
    mass /= mass.sum(-1, keepdim=True)
    some = SiteStats("x", 0, torch.rand(2, 3, 4), mass, torch.full((1, 1, 4), 9), "fused")
    result = average_rows(some, {"all": torch.full((2, 4), 0.25)})
    total = sum(result[f"mass_{g}_all"] for g in ("other", "image", "text"))
    assert torch.allclose(total, torch.ones(2, 3, dtype=torch.float64)) and total.dtype == torch.float64
