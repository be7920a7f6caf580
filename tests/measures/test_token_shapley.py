"""T-SHAP on games whose values are known."""

from itertools import permutations
from math import ceil, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.measures import token_shapley as module
from attention_collapse.measures.token_shapley import _explain, grid_side, reliability, text_share, token_shapley


def additive(weights):
    return lambda z: z @ np.asarray(weights, float)


def tabled(players, seed):
    """A game without any structure: each of the 2^p coalitions has a value of its own."""
    values = np.random.default_rng(seed).normal(size=2**players)
    return lambda z: values[z @ 2 ** np.arange(players)]


def exact(value, players):
    """Shapley values by their definition: the mean marginal contribution over all orders."""
    orders, phi = list(permutations(range(players))), np.zeros(players)
    for order in orders:
        chain = np.zeros((players + 1, players), bool)
        for step, player in enumerate(order):
            chain[step + 1 :, player] = True
        phi[list(order)] += np.diff(value(chain))
    return phi / len(orders)


def test_an_additive_game_gives_each_player_its_weight():
    weights = [1.0, -2.0, 0.5, 3.0, 0.0, -1.5]
    result = token_shapley(additive(weights), text=2, image=4, seed=0)
    assert np.allclose(result.phi, weights, atol=1e-12)
    assert result.share == pytest.approx(3 / 8) and result.evaluations == 10 * 13


def test_one_antithetic_permutation_is_exact_for_pairwise_interactions():
    """Player 0 with player 2 is worth 4: two each."""
    result = token_shapley(lambda z: 4.0 * (z[:, 0] & z[:, 2]), text=2, image=2, seed=0)
    assert np.allclose(result.phi, [2, 0, 2, 0]) and result.share == pytest.approx(0.5)


@pytest.mark.parametrize("players", [2, 3, 5])
def test_a_large_budget_gives_the_definition_of_shapley(players):
    value, many = tabled(players, players), 4000
    found = token_shapley(value, text=1, image=players - 1, seed=0, permutations=many, floor_draws=0)
    # A marginal contribution has a standard deviation of at most √2, a mean of the chain and its reverse no more.
    assert np.allclose(found.phi, exact(value, players), atol=5 * sqrt(2 / many))
    assert found.share == pytest.approx(text_share(exact(value, players), 1), abs=0.05)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_values_add_up_and_a_player_without_effect_has_none(text, image, seed):
    inner = tabled(text + image - 1, seed)  # the first token changes nothing
    result = token_shapley(lambda z: inner(z[:, 1:]), text=text, image=image, seed=seed)
    ends = inner(np.array([[False], [True]]).repeat(text + image - 1, 1))
    assert result.phi.sum() == pytest.approx(ends[1] - ends[0]) and result.phi[0] == 0


def test_a_game_of_one_modality_and_one_of_none():
    weights = np.arange(1.0, 4)
    assert token_shapley(lambda z: z[:, 2:] @ weights, text=2, image=3, seed=0).share == 0
    assert token_shapley(lambda z: z[:, :3] @ weights, text=3, image=4, seed=0).share == 1
    nothing = token_shapley(lambda z: np.full(len(z), 7.0), text=2, image=3, seed=0)
    assert np.isnan(nothing.share) and np.isnan(nothing.floor) and (nothing.phi == 0).all()


@pytest.mark.parametrize(("text", "budget"), [(7, 1), (12, 1), (12, 3)])
def test_noise_has_the_share_of_its_number_of_players(text, budget):
    """The 2p coalitions of a permutation form a cycle, and |φ| of step k is half of |d(k) − d(k + p)|, d being the
    differences along it. Values without meaning are as likely in any order, so turning the cycle changes nothing: all
    |φ| have one distribution, and the text's expected share is text ÷ (text + image)."""
    image = grid_side(text) ** 2
    options = {"text": text, "image": image, "permutations": budget}
    rng = np.random.default_rng(0)
    shares = [
        token_shapley(lambda z: rng.normal(size=len(z)), seed=seed, floor_draws=0, **options).share
        for seed in range(150)
    ]
    expected, spread = text / (text + image), np.std(shares, ddof=1)
    assert np.mean(shares) == pytest.approx(expected, abs=4 * spread / sqrt(len(shares)))
    assert spread < 0.2
    # And so has any game, however much it means, once its values are shuffled: this one ignores the text.
    floor = token_shapley(lambda z: 5.0 + z[:, text:].sum(1), seed=1, floor_draws=300, **options)
    assert floor.share == 0 and floor.floor == pytest.approx(expected, abs=4 * spread / sqrt(300))


def test_the_grid_has_about_as_many_cells_as_there_are_tokens_with_start_and_end():
    assert [grid_side(tokens) for tokens in range(1, 600)] == [ceil(sqrt(tokens + 2)) for tokens in range(1, 600)]
    shares = [tokens / (tokens + grid_side(tokens) ** 2) for tokens in range(5, 60)]
    assert min(shares) > 0.3 and max(shares) < 0.5  # what noise gives


def test_each_distinct_coalition_is_asked_for_once():
    asked = []
    token_shapley(lambda z: (asked.append(z), z.sum(1))[1], text=3, image=4, seed=0, permutations=4)
    [rows] = asked
    assert rows.dtype == bool and rows.shape[1] == 7 and len(rows) == len(np.unique(rows, axis=0))
    assert not rows[0].any() and rows[-1].all() and len(rows) <= 4 * 12 + 2
    token_shapley(lambda z: (asked.append(z), z.sum(1))[1], text=3, image=4, seed=0, permutations=1)
    assert len(asked[1]) == 14  # 2p of 2p + 1: the empty one comes twice


def test_slots_beyond_the_text_are_dummies_and_captions_then_share_the_coalitions_of_cells():
    cells, found = [], []
    for text in (4, 6):
        weights = np.r_[np.arange(1.0, text + 1), -np.ones(4)]
        value = lambda z, w=weights, t=text: (cells.append(np.unique(z[:, t:], axis=0)), z @ w)[1]  # noqa: E731
        found.append(token_shapley(value, text=text, image=4, seed=3, slots=6, permutations=1, floor_draws=400))
        assert np.allclose(found[-1].phi, weights) and found[-1].evaluations == 2 * (text + 4) + 1
    assert len(cells[0]) == 8 and np.array_equal(*cells)
    assert found[0].floor == pytest.approx(0.5, abs=0.03)  # 4 of 8 players: the dummies do not count


def test_the_seed_is_the_only_randomness_and_numpys_own_state_is_left_alone():
    value = tabled(6, 0)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    one, same, other = (token_shapley(value, text=3, image=3, seed=seed) for seed in (0, 0, 1))
    assert (np.random.get_state()[1] == before).all()
    assert np.array_equal(one.phi, same.phi) and one.floor == same.floor
    assert not np.array_equal(one.phi, other.phi) and one.floor != other.floor


def test_compiling_is_only_off_while_shap_is_imported():
    import numba

    token_shapley(additive(np.ones(4)), text=2, image=2, seed=0)
    assert not numba.config.DISABLE_JIT


def test_a_budget_is_spent_in_whole_permutations_and_one_too_small_is_an_error():
    value = additive(np.ones(5))
    assert token_shapley(value, text=2, image=3, seed=0, permutations=2).evaluations == 22
    with pytest.raises(ParamsError, match="0 permutations of 2 tokens(.|\n)*1 or more of each(.|\n)*raise the number"):
        token_shapley(value, text=2, image=3, seed=0, permutations=0)
    with pytest.raises(ParamsError, match="0 tokens(.|\n)*skip captions without tokens"):
        token_shapley(value, text=0, image=5, seed=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_errors(bad):
    with pytest.raises(DataError, match="1 NaN or infinite scores for [0-9]+ coalitions(.|\n)*half precision"):
        token_shapley(lambda z: np.where(z.all(1), bad, 1.0), text=2, image=3, seed=0)


def test_scores_that_do_not_fit_are_errors():
    with pytest.raises(DataError, match="scores of shape \\(3,\\) for [0-9]+ coalitions"):
        token_shapley(lambda z: np.ones(3), text=2, image=3, seed=0)


def test_values_that_do_not_add_up_are_an_error(monkeypatch):
    inner = module._explain
    monkeypatch.setattr(module, "_explain", lambda *given: inner(*given) * 1.01)
    with pytest.raises(DataError, match="miss v\\(all\\)(.|\n)*pinned version of shap"):
        token_shapley(additive(np.ones(5)), text=2, image=3, seed=0)


def test_the_halves_are_games_of_their_own_permutations_and_average_to_the_whole():
    value = tabled(6, 3)
    found = token_shapley(value, text=3, image=3, seed=5, permutations=10)
    one, two = (_explain(lambda z: value(z > 0), 6, 5, seed)[:, 0] for seed in (5, 6))
    assert found.halves == pytest.approx([float(text_share(half, 3)) for half in (one, two)])
    assert np.allclose(found.phi, (one + two) / 2)
    assert all(np.isnan(token_shapley(value, text=3, image=3, seed=5, permutations=1).halves))


def test_reliability_is_one_for_equal_halves_and_low_for_noise():
    rng = np.random.default_rng(0)
    truth = rng.random(4000)
    assert reliability(truth, truth) == pytest.approx(1)
    assert abs(reliability(truth, rng.random(4000))) < 0.07
    # Halves of reliability ½: variance of the truth equals that of each half's error; the whole then has 2/3.
    noise = truth.std() * rng.normal(size=(2, 4000))
    assert reliability(truth + noise[0], truth + noise[1]) == pytest.approx(2 / 3, abs=0.03)
    assert np.isnan(reliability(np.ones(5), truth[:5])) and np.isnan(reliability(truth[:2], truth[:2]))


def test_more_permutations_pull_less_towards_the_floor():
    """A game of pure noise has its floor; a game of three-way interactions is seen better by ten permutations."""
    rng = np.random.default_rng(1)
    table = {}

    def value(z):  # what the text decides, with noise on every coalition
        return np.array([4.0 * row[:3].all() + table.setdefault(row.tobytes(), rng.normal()) for row in z])

    shares = {n: np.mean([token_shapley(value, text=3, image=6, seed=s, permutations=n, floor_draws=0).share
                          for s in range(12)]) for n in (1, 10)}  # fmt: skip
    assert shares[1] < shares[10]
