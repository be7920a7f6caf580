"""Reliance, choice, flips and Sobol shares: known answers, invariances, and what a language prior does to each."""

import numpy as np
import pytest

from attention_collapse.engine.contribution import OF_MEANS, coalitions, columns_of, draws
from attention_collapse.measures.shapley import shapley_share, two_player
from attention_collapse.measures.sobol import sobol_parts

N, PARTNERS = 300, 8
IMAGE, TEXT, FOIL = draws(N, PARTNERS, seed=0)


def measured(grid):
    """Every measure of a grid of scores (image, text), as a study takes it; those of means as numbers."""
    own = np.arange(len(grid))[:, None]
    cells = coalitions(IMAGE, TEXT) | {"foil": (own, FOIL), "text_foil": (IMAGE, FOIL)}
    mean = np.vstack([grid, grid.mean(0)])
    v = {name: mean[np.broadcast_arrays(*places)[0], np.broadcast_arrays(*places)[1]] for name, places in cells.items()}
    parts = {f"{name}_of_pair": part for name, part in sobol_parts(grid).items()}
    table = columns_of(v | parts, {}, 1e-9)
    found = {name: float(table[name].mean()) for name in table}
    return found | {name: float(m.of_means(*(table[key].mean() for key in m.inputs))) for name, m in OF_MEANS.items()}


def scores(match=3.0, image=0.0, text=0.0, noise=1.0, seed=1):
    """A grid: what matches lies on its diagonal; offsets of images and of texts; noise."""
    rng = np.random.default_rng(seed)
    grid = noise * rng.normal(size=(N, N)) + match * np.eye(N)
    return grid + image * rng.normal(size=(N, 1)) + text * rng.normal(size=(1, N))


def test_a_modality_that_is_never_read_has_reliance_0():
    found = measured(scores(match=0, noise=0, text=1.0))
    assert found["reliance_image"] == 0 and found["reliance_share"] == 0 and found["flip_rate_image"] == 0
    assert found["reliance_text"] == pytest.approx(1, abs=0.1) and found["choice_image"] == 0.5
    mirrored = measured(scores(match=0, noise=0, image=1.0))
    assert mirrored["reliance_text"] == 0 and mirrored["reliance_share"] == 1 and mirrored["choice_text"] == 0.5


def test_interaction_alone_has_reliance_1_and_1():
    found = measured(scores(noise=0))
    assert (found["reliance_image"], found["reliance_text"], found["reliance_share"]) == (1, 1, 0.5)
    assert found["choice_image"] == found["choice_text"] == 1


def test_an_additive_score_of_equal_parts_has_one_half_and_one_half():
    found = measured(scores(match=0, noise=0, image=1.0, text=1.0))
    # Of 300 images and 300 texts: each part's variance is known to 1 in 12.
    assert found["reliance_image"] == pytest.approx(0.5, abs=0.08) == found["reliance_text"]
    assert found["sobol_interaction"] == pytest.approx(0, abs=1e-12)
    assert found["sobol_image"] + found["sobol_text"] == pytest.approx(1)


@pytest.mark.parametrize(("factor", "shift"), [(7.0, 0.0), (-0.01, 3.0), (1.0, 1e3)])
def test_reliance_and_sobol_shares_know_no_unit(factor, shift):
    grid = scores(text=2.0)
    one, other = measured(grid), measured(factor * grid + shift)
    for name in OF_MEANS:
        assert other[name] == pytest.approx(one[name], rel=1e-6), name


def test_choices_and_flips_know_no_monotone_map():
    grid = scores(text=1.0)
    one, other = measured(grid), measured(np.exp(grid / 3))
    for name in ("choice_image", "choice_text", "flip_rate_image", "flip_rate_text"):
        assert other[name] == one[name], name


def test_a_captions_own_offset_leaves_the_choice_of_image_alone():
    """A language prior: it moves the Shapley share and both reliances, though no choice of an image changes."""
    plain, prior = scores(match=5.0), scores(match=5.0) + 16 * np.random.default_rng(9).normal(size=(1, N))
    one, other = measured(plain), measured(prior)
    assert other["choice_image"] == one["choice_image"] > 0.99
    assert one["reliance_image"] > 0.9 and other["reliance_image"] < 0.3
    assert one["choice_text"] > 0.99 and other["choice_text"] < 0.8  # the gap between the two choices is the prior
    share = [shapley_share(*(abs(found[f"shapley_{part}"]) for part in ("image", "text"))) for found in (one, other)]
    assert abs(share[0] - 0.5) < 0.1 and other["shapley_share"] < one["shapley_share"] - 0.1


def test_mean_shapley_values_of_both_modalities_are_equal_over_all_partners_whatever_the_model():
    """Why the Shapley share is no headline: the two means are one number by construction."""
    grid = scores(match=1.0, image=0.3, text=2.0)
    both = np.diag(grid)
    others = ~np.eye(N, dtype=bool)
    image = np.array([grid[i][others[i]].mean() for i in range(N)])  # its image with every other text
    text = np.array([grid[:, i][others[:, i]].mean() for i in range(N)])
    game = two_player(both, image, text, np.full(N, grid[others].mean()))
    assert game.image.mean() == pytest.approx(game.text.mean(), abs=1e-12)


def test_sobol_parts_are_those_of_least_squares_on_all_pairs_that_do_not_match():
    n, rng = 9, np.random.default_rng(3)
    grid = rng.normal(size=(n, n)) + rng.normal(size=(n, 1)) + 2 * rng.normal(size=(1, n)) + 50 * np.eye(n)
    rows, columns = np.nonzero(~np.eye(n, dtype=bool))
    apart = np.eye(n) - 1 / n  # effects that add to 0
    design = np.column_stack([np.ones(len(rows)), apart[rows], apart[columns]])
    effects, *_ = np.linalg.lstsq(design, grid[rows, columns], rcond=None)
    rest = ((grid[rows, columns] - design @ effects) ** 2).sum() / (len(rows) - np.linalg.matrix_rank(design))
    covariance = np.linalg.pinv(design.T @ design)  # of the effects, in units of the noise
    found = {name: part.mean() for name, part in sobol_parts(grid).items()}
    for name, places in (("grid_image", slice(1, n + 1)), ("grid_text", slice(n + 1, None))):
        of = apart @ effects[places]
        noise = np.trace(apart @ covariance[places, places] @ apart) / (n - 1)
        assert found[name] == pytest.approx(of @ of / (n - 1) - rest * noise), name
    assert found["grid_all"] == pytest.approx(found["grid_image"] + found["grid_text"] + rest)


def test_sobol_shares_add_to_1_and_depend_neither_on_what_matches_nor_on_the_number_of_pairs():
    """Variances of row means would give the image 1 in 12 of pure noise among 12 pairs, and a match would add to it."""
    rng = np.random.default_rng(4)
    means = {}
    for n, match in ((12, 0.0), (12, 30.0), (60, 30.0)):
        grids = [rng.normal(size=(n, n)) + match * np.eye(n) for _ in range(300)]
        parts = [[part.mean() for part in sobol_parts(grid).values()] for grid in grids]
        means[n, match] = np.mean(parts, axis=0)
    for image, text, whole in means.values():
        assert (image, text, whole) == pytest.approx((0, 0, 1), abs=0.02)
    found = measured(scores(image=1.0, text=2.0, match=9.0))
    assert found["sobol_image"] + found["sobol_text"] + found["sobol_interaction"] == pytest.approx(1)
    known = (found["sobol_image"], found["sobol_text"], found["sobol_interaction"])
    assert known == pytest.approx((1 / 6, 4 / 6, 1 / 6), abs=0.06)  # 300 pairs: to 1 in 12


def test_of_pairs_that_match_each_other_the_first_one_counts():
    rng, twins = np.random.default_rng(5), np.array([0, 1, 2, 1, 4, 5, 0, 7, 8])
    grid = rng.normal(size=(9, 9)) + 30 * (twins[:, None] == twins)
    kept = [0, 1, 2, 4, 5, 7, 8]
    found, alone = sobol_parts(grid, twins), sobol_parts(grid[np.ix_(kept, kept)])
    for name, part in found.items():
        assert part[kept] == pytest.approx(alone[name]) and np.isnan(part[[3, 6]]).all(), name
    assert sobol_parts(grid)["grid_all"].mean() > 5 * np.nanmean(found["grid_all"])  # what matches is no noise


def test_two_pairs_have_no_sobol_shares():
    assert all(np.isnan(part).all() and len(part) == 2 for part in sobol_parts(np.eye(2)).values())


def test_a_constant_score_has_nothing_to_rely_on():
    found = measured(np.full((N, N), 0.1))  # no number of binary digits
    assert all(np.isnan(found[name]) for name in OF_MEANS) and found["choice_image"] == 0.5
    assert found["flip_rate_image"] == found["flip_rate_text"] == 0


def test_no_pass_more_than_the_two_player_values():
    """Reliance, choice and flips are made of cells that the Shapley values and accuracies are made of."""
    from attention_collapse.engine.contribution import OF_PAIRS

    cells = {"both", "image", "text", "neither", "foil", "text_foil"}
    for name in (
        "lost_image",
        "lost_text",
        "lost_both",
        "choice_image",
        "choice_text",
        "flip_rate_image",
        "flip_rate_text",
    ):
        assert set(OF_PAIRS[name].inputs) <= cells
