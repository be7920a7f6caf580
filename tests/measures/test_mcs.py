import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention_collapse.measures.mcs import (
    align_layers,
    imbalance,
    layer_imbalance,
    mcs,
    mcs_calibrated,
    mcs_null,
    original_reading,
    thirds,
)

positive = st.floats(0.05, 20)  # nats: wider than attention entropies, and a logit loses no digits


def logit(p):
    return math.log(p / (1 - p))


def test_known_answers():
    assert mcs(3.0, 1.0) == 0.75
    assert mcs_null(math.log(50), math.log(50)) == 0.5
    assert mcs_calibrated(math.log(50), math.log(5), math.log(50), math.log(5)) == 0.5
    assert mcs_calibrated(1.0, 1.0, 2.0, 1.0) == pytest.approx(1 / 3)
    assert imbalance([0.2, 0.5, 0.73]).tolist() == [0.8, 0.5, 0.73]
    assert layer_imbalance([0.0, 0.5, 0.9]).tolist() == pytest.approx([1.0, 0.0, 0.8])


@given(positive, positive, positive, positive)
def test_calibration_is_a_difference_of_logits(h_v, h_t, u_v, u_t):
    expected = logit(mcs(h_v, h_t)) - logit(mcs_null(u_v, u_t))
    assert logit(mcs_calibrated(h_v, h_t, u_v, u_t)) == pytest.approx(expected, abs=1e-6)


@given(positive, positive, st.floats(0.1, 10))
def test_scale_and_symmetry(h_v, h_t, factor):
    assert mcs(h_v * factor, h_t * factor) == pytest.approx(mcs(h_v, h_t))
    assert mcs(h_v, h_t) + mcs(h_t, h_v) == pytest.approx(1)
    assert 0.5 <= imbalance(mcs(h_v, h_t)) <= 1


def test_undefined_is_nan():
    assert np.isnan(mcs(0.0, 0.0)) and np.isnan(mcs([1.0, np.nan], [1.0, 1.0])).tolist() == [False, True]
    assert np.isnan(mcs_calibrated(0.0, 1.0, 0.0, 1.0))  # one visible key: no uniform value to divide by
    assert np.isnan(imbalance(np.nan))


@pytest.mark.parametrize(
    ("share", "reading"),
    [
        (0.29, "text collapse"),
        (0.3, "no collapse"),
        (0.7, "no collapse"),
        (0.71, "vision collapse"),
        (math.nan, "undefined"),
    ],
)
def test_original_thresholds_are_strict(share, reading):
    assert original_reading(share) == reading


def test_alignment_by_relative_depth():
    assert align_layers(3, 3) == [(0, 0), (1, 1), (2, 2)]
    assert align_layers(4, 2) == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert align_layers(2, 3) == [(0, 0), (1, 1), (1, 2)]
    for v, t in ((24, 12), (5, 7), (1, 9)):
        pairs = align_layers(v, t)
        assert pairs[0] == (0, 0) and pairs[-1] == (v - 1, t - 1) and pairs == sorted(pairs)
        assert {a for a, _ in pairs} == set(range(v)) and {b for _, b in pairs} == set(range(t))


def test_thirds_of_twelve_layers_are_four_each():
    assert thirds(12) == {"early": [0, 1, 2, 3], "middle": [4, 5, 6, 7], "late": [8, 9, 10, 11]}
    for layers in range(1, 30):
        assert sum(thirds(layers).values(), []) == list(range(layers))
