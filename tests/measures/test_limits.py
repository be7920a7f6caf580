"""The limits of the causal measures that docs/measures.md, section 5 names, as laws of any matrix of scores."""

import numpy as np
import pytest

from attention_collapse.measures.matching import won
from attention_collapse.measures.shapley import shapley_image, shapley_share, shapley_text

N = 12


def every_partner(scores):
    """(pair, partner) scores of the four coalitions: every two different pairs stand for image and text."""
    n = len(scores)
    i, k, j = (index.ravel() for index in np.meshgrid(*[np.arange(n)] * 3, indexing="ij"))
    whole = (i != k) & (i != j) & (k != j)  # own pair, the partner's image, the other partner's text
    i, k, j = (index[whole].reshape(n, -1) for index in (i, k, j))
    return scores[i, i], scores[i, j], scores[k, i], scores[k, j]


def values(scores):
    cells = every_partner(scores)
    return shapley_image(*cells), shapley_text(*cells)


@pytest.fixture(params=range(4))
def scores(request):
    """Any model's scores: noise, popular images and captions, and a match that it may or may not see."""
    rng = np.random.default_rng(request.param)
    popular = rng.normal(size=(N, 1)) * request.param + rng.normal(size=(1, N))
    return rng.normal(size=(N, N)) + popular + 3 * request.param * np.eye(N)


def test_with_every_partner_both_values_have_one_mean(scores):
    image, text = values(scores)
    assert image.mean() == pytest.approx(text.mean(), abs=1e-12)


def test_that_holds_where_the_image_is_never_read():
    image, text = values(np.tile(np.random.default_rng(0).normal(size=(1, N)), (N, 1)))
    assert np.abs(image).max() < 1e-12 < np.abs(text).max()
    assert text.mean() == pytest.approx(0, abs=1e-12)


def test_of_one_pair_they_differ_by_its_row_less_its_column(scores):
    image, text = values(scores)
    apart = scores - np.diag(np.diag(scores))
    assert image - text == pytest.approx((apart.sum(1) - apart.sum(0)) / (N - 1), abs=1e-12)


def test_what_a_caption_has_on_its_own_moves_the_share_and_no_choice_of_image(scores):
    prior = 20 * np.random.default_rng(9).normal(size=(1, N))
    (image, text), (same, other) = values(scores), values(scores + prior)
    assert same == pytest.approx(image, abs=1e-9) and not np.allclose(other, text)
    assert shapley_share(same, other).mean() < shapley_share(image, text).mean()
    assert np.array_equal(scores.argmax(0), (scores + prior).argmax(0))


def test_noise_raises_the_mean_imbalance():
    rng = np.random.default_rng(1)
    share = np.clip(0.5 + 0.2 * rng.normal(size=1000), 0, 1)
    assert share.mean() == pytest.approx(0.5, abs=0.02) and np.maximum(share, 1 - share).mean() > 0.6


def test_without_its_image_a_caption_beats_a_random_foil_half_of_the_time(scores):
    wins = [
        won(scores[k, i], scores[k, j])
        for i in range(N) for j in range(N) for k in range(N)
        if i not in (j, k) and j != k
    ]  # fmt: skip
    assert np.mean(wins) == 0.5
