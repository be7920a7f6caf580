import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention_collapse.measures.shapley import shapley_share, two_player

scores = st.floats(-100, 100)


def test_known_answer():
    """The glove game: only both together are worth 1; each gets a half, and all of it is interaction."""
    game = two_player(1.0, 0.0, 0.0, 0.0)
    assert (game.image, game.text, game.interaction, game.share) == (0.5, 0.5, 1.0, 0.5)


@given(scores, scores, scores, scores)
def test_laws(both, image, text, neither):
    game = two_player(both, image, text, neither)
    assert game.image + game.text == pytest.approx(both - neither, abs=1e-9)  # efficiency
    swapped = two_player(both, text, image, neither)
    assert (swapped.image, swapped.text) == (pytest.approx(game.text), pytest.approx(game.image))  # symmetry
    additive = two_player(image + text, image, text, 0.0)
    assert additive.interaction == pytest.approx(0.0, abs=1e-9) and additive.image == pytest.approx(image, abs=1e-9)


def test_a_dummy_player_contributes_nothing():
    game = two_player(3.0, 0.5, 3.0, 0.5)  # the image changes nothing
    assert (game.image, game.text, game.share) == (0.0, 2.5, 0.0)


def test_no_contribution_at_all_has_no_share():
    assert np.isnan(shapley_share(0.0, 0.0)) and np.isnan(two_player(1, 1, 1, 1).share)
