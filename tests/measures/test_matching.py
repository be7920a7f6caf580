import numpy as np
import pytest

from attention_collapse.measures.matching import (
    accuracy,
    accuracy_additive,
    accuracy_without_image,
    accuracy_without_text,
    additive_without_own,
    blind,
    margins,
)
from attention_collapse.measures.sobol import sobol_parts

RNG = np.random.default_rng(0)


def shifted(n):
    return np.roll(np.arange(n), 1)


def additive_projection(grid):
    rows, columns, mean = margins(grid)
    return rows[:, None] + columns - mean


class Some:
    """A grid of which some rows at a time are in memory."""

    def __init__(self, grid, step):
        self.grid, self.step = grid, step

    def __len__(self):
        return len(self.grid)

    def row_blocks(self):
        for start in range(0, len(self), self.step):
            yield start, self.grid[start : start + self.step]


def test_known_answer():
    # Image 0 prefers its caption (3 > 1), image 1 its foil (0 < 2), image 2 ties.
    grid = np.array([[3.0, 9.0, 1.0], [2.0, 0.0, 5.0], [7.0, 4.0, 4.0]])
    assert accuracy(grid, [2, 0, 1]).tolist() == [1.0, 0.0, 0.5]


def test_expectations_are_the_average_over_every_other_pair():
    grid, foils, n = RNG.normal(size=(7, 7)), shifted(7), 7
    slow_image = [np.mean([grid[k, i] > grid[k, foils[i]] for k in range(n) if k != i]) for i in range(n)]
    slow_text = [np.mean([grid[i, k] > grid[i, foils[i]] for k in range(n) if k != i and k != foils[i]] + [0.5])
                 for i in range(n)]  # fmt: skip
    assert np.allclose(accuracy_without_image(grid, foils), slow_image)
    ties = [(sum(grid[i, k] > grid[i, foils[i]] for k in range(n) if k not in (i, foils[i])) + 0.5) / (n - 1)
            for i in range(n)]  # fmt: skip
    assert np.allclose(accuracy_without_text(grid, foils), ties) and np.allclose(slow_text, ties)


def test_a_modality_that_is_ignored_costs_nothing():
    text_only = np.tile(RNG.normal(size=9), (9, 1))  # every image scores the texts alike
    foils = shifted(9)
    assert np.allclose(accuracy_without_image(text_only, foils), accuracy(text_only, foils))
    image_only = text_only.T
    assert np.allclose(accuracy(image_only, foils), 0.5) and np.allclose(accuracy_without_text(image_only, foils), 0.5)


def test_the_projection_is_additive_and_the_nearest():
    f, g = RNG.normal(size=(6, 1)), RNG.normal(size=(1, 6))
    assert np.allclose(additive_projection(f + g), f + g)
    grid = RNG.normal(size=(6, 6))
    projected = additive_projection(grid)
    assert np.allclose(additive_projection(projected), projected)
    # Least squares over one column a row effect and one a column effect.
    design = np.concatenate([np.repeat(np.eye(6), 6, 0), np.tile(np.eye(6), (6, 1))], 1)
    fitted = design @ np.linalg.lstsq(design, grid.ravel(), rcond=None)[0]
    assert np.allclose(projected.ravel(), fitted)


def test_without_interaction_no_image_can_tell_its_caption_from_any_other():
    grid = RNG.normal(size=(8, 8)) + 5 * np.eye(8)
    assert accuracy(grid, shifted(8)).mean() > 0.9
    projected = additive_projection(grid)
    every = [accuracy(projected, np.roll(np.arange(8), k)).mean() for k in range(1, 8)]
    assert np.mean(every) == pytest.approx(0.5)


def test_nan_is_not_a_loss():
    grid = np.array([[1.0, np.nan], [0.0, 1.0]])
    assert np.isnan(accuracy(grid, [1, 0])[0]) and accuracy(grid, [1, 0])[1] == 1.0


def test_the_projection_without_the_own_pair_is_exact_for_additive_grids_and_never_sees_it():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=7), rng.normal(size=7)
    grid = a[:, None] + b
    np.testing.assert_allclose(additive_without_own(grid), a + b, atol=1e-12)
    np.testing.assert_allclose(additive_without_own(grid), np.diag(additive_projection(grid)), atol=1e-12)
    other = grid.copy()
    other[3, 3] += 100.0
    assert additive_without_own(other)[3] == pytest.approx(a[3] + b[3])
    assert np.diag(additive_projection(other))[3] != pytest.approx(a[3] + b[3], abs=1)


def test_a_score_that_is_all_interaction_has_no_additive_part():
    found = additive_without_own(np.where(np.eye(6), 5.0, -5.0))
    # −5 (row) − 5 (column) + 3 (the rest: 5 of 25 cells are +5), the same for every pair: nothing to tell them apart.
    np.testing.assert_allclose(found, -7.0)


def test_pairs_that_are_the_same_are_no_others_to_each_other():
    grid, foils, same = RNG.normal(size=(6, 6)), shifted(6), np.array([0, 1, 2, 0, 4, 2])
    for i in range(6):
        others = [k for k in range(6) if same[k] != same[i]]
        image = np.mean([grid[k, i] > grid[k, foils[i]] for k in others])
        text = np.mean([0.5 if k == foils[i] else grid[i, k] > grid[i, foils[i]] for k in others])
        assert accuracy_without_image(grid, foils, same=same)[i] == pytest.approx(image)
        assert accuracy_without_text(grid, foils, same=same)[i] == pytest.approx(text)
    different = np.arange(6)
    for expected in (accuracy_without_image, accuracy_without_text):
        assert np.array_equal(expected(grid, foils), expected(grid, foils, same=different))


def test_the_accuracy_of_the_additive_function_is_that_of_the_projection():
    grid = RNG.normal(size=(9, 9))
    assert accuracy_additive(grid, shifted(9)).tolist() == accuracy(additive_projection(grid), shifted(9)).tolist()


@pytest.mark.parametrize("step", [1, 3, 8, 20])
def test_a_grid_of_which_some_rows_are_in_memory_gives_the_same(step):
    wide, foils = RNG.integers(0, 4, size=(8, 11)).astype(float), shifted(8)  # ties, and texts beside the captions
    same = np.array([0, 1, 2, 0, 4, 2, 6, 7])
    whole, some = wide[:, :8], Some(wide, step)
    assert accuracy(some, foils).tolist() == accuracy(whole, foils).tolist()
    for expected in (accuracy_without_image, accuracy_without_text):
        assert expected(some, foils, same=same).tolist() == expected(whole, foils, same=same).tolist()
    np.testing.assert_allclose(accuracy_additive(some, foils), accuracy_additive(whole, foils))
    for name, part in sobol_parts(whole).items():
        np.testing.assert_allclose(sobol_parts(some)[name], part, rtol=1e-12)
    owners, hard = [2, 2, 5], [8, 9, 10]
    slow = [
        np.mean([(wide[k, o] > wide[k, f]) + 0.5 * (wide[k, o] == wide[k, f]) for k in range(8) if same[k] != same[o]])
        for o, f in zip(owners, hard, strict=True)
    ]
    np.testing.assert_allclose(blind(some, owners, hard, same), slow)
