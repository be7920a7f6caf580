"""Reliance of a likelihood: of the score against the text's own hard foil, which no probability of captions moves."""

import numpy as np
import pytest

from attention_collapse.engine.contribution import OF_MEANS, coalitions, columns_of, draws
from attention_collapse.engine.hard import Hard

N, PARTNERS = 300, 8
IMAGE, TEXT, _ = draws(N, PARTNERS, seed=0)
SAME, OWN = np.arange(N), np.arange(N)[:, None]
RELIANCE = ("reliance_image", "reliance_text", "reliance_share")


def hard(owners=SAME):
    return Hard(np.asarray(owners, np.int64), np.empty((0, 2), np.int64), SAME)


def table(grid, foils, *, likelihood=True, found=None, error=1e-9):
    """A row per pair, from scores of every image with every caption, and with every foil."""
    known, whole = found or hard(), np.hstack([grid, foils])
    places = coalitions(IMAGE, TEXT)
    cells = {name: places[name] for name in ("both", "image", "text", "neither")} | known.decision_cells(IMAGE, TEXT)
    v = {name: whole[tuple(np.broadcast_arrays(*place))] for name, place in cells.items()}
    return columns_of(v, {}, error, known.decided(v, TEXT) if likelihood else None)


def reliances(*scores, **options):
    rows = table(*scores, **options)
    return {name: float(OF_MEANS[name].of_means(*(rows[key].mean() for key in OF_MEANS[name].inputs)))
            for name in RELIANCE}  # fmt: skip


def scores(match=3.0, noise=1.0, seed=1):
    """What matches lies on the diagonal of the captions; foils match nothing."""
    rng = np.random.default_rng(seed)
    return match * np.eye(N) + noise * rng.normal(size=(N, N)), noise * rng.normal(size=(N, N))


@pytest.mark.parametrize("spread", [1.0, 16.0, 1e3])
def test_what_a_caption_and_its_foil_have_in_common_changes_nothing(spread):
    grid, foils = scores()
    prior = spread * np.random.default_rng(9).normal(size=(1, N))
    one, other = reliances(grid, foils), reliances(grid + prior, foils + prior)
    assert other == pytest.approx(one, rel=1e-9)


def test_sixteen_standard_deviations_of_a_prior_fool_the_score_and_not_the_decision():
    """The counterexample of the contract: no choice of an image changes, and the raw score's reliance falls."""
    grid, foils = scores(match=5.0)
    prior = 16 * np.random.default_rng(9).normal(size=(1, N))
    raw = [reliances(g, foils, likelihood=False)["reliance_image"] for g in (grid, grid + prior)]
    assert raw[0] > 0.9 and raw[1] < 0.3
    found = reliances(grid + prior, foils + prior)
    assert found["reliance_image"] > 0.9 and found["reliance_share"] == pytest.approx(0.5, abs=0.05)
    # A prior that the foil does not share is no offset of the decision: it decides, without the image.
    assert reliances(grid + prior, foils)["reliance_image"] < 0.3


@pytest.mark.parametrize(("factor", "shift"), [(7.0, 0.0), (-0.01, 3.0), (1.0, 1e3)])
def test_it_knows_no_unit(factor, shift):
    grid, foils = scores()
    moved = reliances(factor * grid + shift, factor * foils + shift)
    assert moved == pytest.approx(reliances(grid, foils), rel=1e-6)


def test_an_image_that_is_never_read_has_reliance_0():
    rng = np.random.default_rng(3)
    words, others = (np.broadcast_to(rng.normal(size=N), (N, N)) for _ in range(2))
    found = reliances(words, others)
    assert found["reliance_image"] == found["reliance_share"] == 0
    assert found["reliance_text"] == pytest.approx(1, abs=0.1)


def test_interaction_alone_has_reliance_1_and_1():
    grid, foils = scores(noise=0.0)
    assert reliances(grid, foils) == {"reliance_image": 1, "reliance_text": 1, "reliance_share": 0.5}


def test_a_text_that_is_never_read_decides_nothing_so_there_is_no_reliance():
    """What depends on the image alone is in both terms. A choice of texts cannot show that none is read."""
    rng = np.random.default_rng(4)
    grid = np.broadcast_to(rng.normal(size=(N, 1)), (N, N))
    assert all(np.isnan(value) for value in reliances(grid, grid).values())
    read, foils = scores()
    image = 16 * rng.normal(size=(N, 1))
    assert reliances(read + image, foils + image) == pytest.approx(reliances(read, foils), rel=1e-9)


def test_a_text_is_swapped_together_with_its_own_foil():
    """Against the definition, written out pair by pair."""
    grid, foils = scores(seed=5)
    rows = table(grid, foils)
    for i in (0, 7, N - 1):
        d = lambda image, text: grid[image, text] - foils[image, text]  # noqa: E731
        lost = {
            "lost_image": [(d(i, i) - d(k, i)) ** 2 for k in IMAGE[i]],
            "lost_text": [(d(i, i) - d(i, m)) ** 2 for m in TEXT[i]],
            "lost_both": [(d(i, i) - d(k, m)) ** 2 for k, m in zip(IMAGE[i], TEXT[i], strict=True)],
        }
        for name, values in lost.items():
            assert rows[name][i] == pytest.approx(np.mean(values)), name


def test_of_several_foils_the_first_counts():
    grid, foils = scores()
    second = np.random.default_rng(6).normal(size=(N, N))
    both = np.empty((N, 2 * N))
    both[:, ::2], both[:, 1::2] = foils, second
    two = hard(np.repeat(SAME, 2))
    assert reliances(grid, both, found=two) == reliances(grid, foils)
    both[:, ::2], both[:, 1::2] = second, foils
    assert reliances(grid, both, found=two) == reliances(grid, second) != reliances(grid, foils)


def test_pairs_and_partners_without_a_foil_are_left_out_and_the_pairs_counted():
    grid, foils = scores()
    some = np.flatnonzero(np.random.default_rng(7).random(N) < 0.5)
    rows, has = table(grid, foils[:, some], found=hard(some)), np.isin(SAME, some)
    assert (rows["lost_image"].notna() == has).all() and (rows["lost_both"].notna() == has).all()
    d = lambda image, text: grid[image, text] - foils[image, text]  # noqa: E731
    i = some[0]
    kept = [place for place in range(PARTNERS) if has[TEXT[i, place]]]
    assert 0 < len(kept) < PARTNERS
    expected = {  # the same partners in all three
        "lost_image": [(d(i, i) - d(IMAGE[i, k], i)) ** 2 for k in kept],
        "lost_text": [(d(i, i) - d(i, TEXT[i, k])) ** 2 for k in kept],
        "lost_both": [(d(i, i) - d(IMAGE[i, k], TEXT[i, k])) ** 2 for k in kept],
    }
    for name, values in expected.items():
        assert rows[name][i] == pytest.approx(np.mean(values)), name
    assert (rows.filter(like="_slack").notna()).all().all()


def test_errors_of_two_scores_are_in_the_slack():
    """Scores that err as far as they may never move a value further than its slack, and sometimes nearly as far."""
    grid, foils = scores()
    error, rng, reached = 0.01, np.random.default_rng(8), 0.0
    rows = table(grid, foils, error=error)
    for _ in range(20):
        wrong = [values + error * rng.choice([-1, 1], size=values.shape) for values in (grid, foils)]
        other = table(*wrong, error=error)
        for name in ("lost_image", "lost_text", "lost_both"):
            moved = (other[name] - rows[name]).abs() / rows[f"{name}_slack"]
            assert (moved <= 1).all(), name
            reached = max(reached, moved.max())
    assert reached > 0.6  # with the error of one score alone some would be moved further
