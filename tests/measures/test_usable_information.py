"""Planted labels whose information is known: an exclusive or, a label of one modality, a copy, noise; and laws."""

import math

import numpy as np
import pytest
from scipy.stats import entropy

from attention_collapse.errors import DataError
from attention_collapse.measures import predictors, usable_information
from attention_collapse.measures.predictors import FORMS, INNER_FOLDS, examples_needed, held_out
from attention_collapse.measures.record import records

N = 240
LN2 = math.log(2)
MEASURES = records(usable_information)


def means(image, text, labels, **options):
    """Measure -> its mean over examples."""
    found = held_out(image, text, labels, **{"folds": 3} | options)
    assert found.unfinished == 0
    losses = {f"loss_{sees}": loss for sees, loss in found.losses.items()}
    return {name: float(measure.of(losses).mean()) for name, measure in MEASURES.items()}


@pytest.fixture(scope="module")
def bits():
    """Two fair, independent bits, exactly balanced together, and features that show one each beside noise."""
    rng = np.random.default_rng(1)
    both = rng.permutation(np.repeat(np.arange(4), N // 4))
    a, b = both % 2, both // 2
    image, text = (np.c_[2.0 * bit - 1 + 0.1 * rng.normal(size=N), rng.normal(size=(N, 2))] for bit in (a, b))
    return image, text, a, b


def test_an_exclusive_or_is_in_neither_alone_and_in_both_together(bits):
    image, text, a, b = bits
    found = means(image, text, a ^ b)
    assert found["label_entropy"] == pytest.approx(LN2, abs=1e-3)
    for name in ("image_alone", "text_alone"):
        assert found[f"usable_information_{name}"] == pytest.approx(0, abs=0.03)
    for name in ("image", "text", "both"):
        assert found[f"usable_information_{name}"] == pytest.approx(LN2, abs=0.04)


def test_a_label_that_the_text_gives_away_leaves_nothing_to_the_image(bits):
    image, text, _, b = bits
    found = means(image, text, b)
    assert found["usable_information_image"] == pytest.approx(0, abs=0.01)
    assert found["usable_information_text"] == pytest.approx(LN2, abs=0.03)
    assert found["usable_information_text_alone"] == pytest.approx(LN2, abs=0.02)


def test_a_copy_of_a_modality_adds_nothing_also_to_what_is_no_linear_function_of_it(bits):
    image, text, a, b = bits
    one = np.c_[image, text]
    found = means(one, one @ np.random.default_rng(0).normal(size=(6, 6)), a ^ b)
    assert found["usable_information_image_alone"] == pytest.approx(LN2, abs=0.05)
    assert found["usable_information_image"] == pytest.approx(0, abs=0.02)
    assert found["usable_information_text"] == pytest.approx(0, abs=0.02)


def test_four_classes_of_two_bits_are_half_in_each_modality(bits):
    image, text, a, b = bits
    found = means(image, text, 2 * a + b)
    assert found["label_entropy"] == pytest.approx(2 * LN2, abs=1e-3)
    for name in ("image", "text", "image_alone", "text_alone"):
        assert found[f"usable_information_{name}"] == pytest.approx(LN2, abs=0.05)


def test_noise_tells_nothing_and_what_is_found_of_it_is_not_clipped():
    """Held out, features of noise can only mislead: over draws the mean is below 0, and not by much."""
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        labels = np.arange(60) % 3
        found.append(means(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)), labels)["usable_information_both"])
    assert min(found) < 0 and -0.1 < np.mean(found) < 0.02


def test_the_label_entropy_is_that_of_the_class_frequencies():
    """Classes that every fold holds in proportion: held out, too, the log-loss is the entropy of the frequencies."""
    labels = np.repeat(["a", "b", "c"], [30, 60, 90])
    rng = np.random.default_rng(0)
    found = means(rng.normal(size=(180, 1)), rng.normal(size=(180, 1)), labels)
    assert found["label_entropy"] == pytest.approx(entropy([1, 2, 3]), abs=1e-12)


@pytest.fixture(scope="module")
def soft():
    """Three classes that neither modality, nor both, tell with certainty."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.arange(N) % 3)
    centres = rng.normal(size=(2, 3, 3))
    image, text = (centre[labels] + 1.2 * rng.normal(size=(N, 3)) for centre in centres)
    return image, text, labels


@pytest.fixture(scope="module")
def base(soft):
    return means(*soft)


def test_what_one_tells_and_what_the_other_adds_are_what_both_tell(base):
    found = base
    for first, then in (("text_alone", "image"), ("image_alone", "text")):
        total = found[f"usable_information_{first}"] + found[f"usable_information_{then}"]
        assert total == pytest.approx(found["usable_information_both"], abs=1e-12)
    entropies = [found[f"label_entropy{given}"] for given in ("", "_given_image", "_given_both")]
    assert entropies == sorted(entropies, reverse=True) and entropies[2] > 0.05


@pytest.mark.parametrize("renamed", [[2, 0, 1], ["z", "a", "m"]], ids=["numbers", "words"])
def test_the_names_and_the_order_of_the_classes_change_nothing(soft, base, renamed):
    image, text, labels = soft
    assert means(image, text, np.array(renamed)[labels]) == pytest.approx(base, abs=2e-4)


def test_an_invertible_affine_map_of_either_modality_changes_nothing(soft, base):
    image, text, labels = soft
    rng = np.random.default_rng(8)
    there = image @ (rng.normal(size=(3, 3)) * [[1e3], [1], [1e-2]]) + 40
    assert means(there, -5 * text[:, ::-1] - 7, labels) == pytest.approx(base, abs=2e-4)


def test_the_penalty_does_not_see_a_rotation_of_the_features():
    """Products have the inner product (x · x')², which no rotation changes, nor one that mixes the modalities."""
    x = np.random.default_rng(0).normal(size=(5, 4))
    columns = predictors._columns({"image": x[:, :1], "text": x[:, 1:]}, FORMS[-1])
    inner = x @ x.T
    assert FORMS[-1].reads == ("image", "text") and columns.shape == (5, 4 + 10)
    np.testing.assert_allclose(columns @ columns.T, inner + inner**2, rtol=1e-12)


def test_modalities_exchanged_exchange_their_names(soft, base):
    image, text, labels = soft
    here, there = base, means(text, image, labels)
    other = {"image": "text", "text": "image"}
    for name, value in here.items():
        swapped = "_".join(other.get(word, word) for word in name.split("_"))
        assert there[swapped] == pytest.approx(value, abs=2e-4)


def test_a_constant_feature_beside_others_changes_nothing(soft, base):
    image, text, labels = soft
    assert means(np.c_[image, np.full(N, 0.1)], text, labels) == pytest.approx(base, abs=1e-9)


def test_more_features_than_examples_are_no_obstacle():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    image = rng.normal(size=(60, 100))
    image[:, 0] += 20 * labels
    found = means(image, rng.normal(size=(60, 80)), labels)
    assert found["usable_information_image_alone"] > 0.5
    assert found["usable_information_text"] == pytest.approx(0, abs=0.05)


def test_no_example_is_among_those_that_its_predictor_was_trained_on(soft, monkeypatch):
    """In the outer folds each example is tested once; in no fit is an example on both sides."""
    real, seen = predictors._path, []

    def watched(columns, y, train, test, penalties):
        assert not set(train) & set(test)
        seen.append((len(penalties), tuple(test)))
        return real(columns, y, train, test, penalties)

    monkeypatch.setattr(predictors, "_path", watched)
    found = held_out(*soft, folds=4)
    per_fold = len(FORMS) * INNER_FOLDS + 4  # then the four final predictors
    tested = [seen[per_fold * (fold + 1) - 1][1] for fold in range(4)]
    assert sorted(sum(tested, ())) == list(range(N)) and len(seen) == 4 * per_fold
    for fold in range(4):
        inner = seen[per_fold * fold : per_fold * (fold + 1) - 4]
        assert not {i for _, test in inner for i in test} & set(tested[fold])
    assert all(np.isfinite(loss).all() for loss in found.losses.values())


def test_a_predictor_reads_nothing_that_it_may_not_see(soft):
    chosen = held_out(*soft, folds=3).chosen
    assert {reads for form in chosen["image"] for reads in form.reads} == {"image"}
    assert {reads for form in chosen["text"] for reads in form.reads} == {"text"}
    assert all(form.reads == () for form in chosen["none"]) and len(chosen["both"]) == 3


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_the_fewest_examples_of_a_class_suffice_for_every_fold_and_inner_fold(folds):
    needed = examples_needed(folds)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 1], needed)
    found = held_out(rng.normal(size=(3 * needed, 1)), rng.normal(size=(3 * needed, 1)), labels, folds=folds)
    assert all(np.isfinite(loss).all() for loss in found.losses.values())
    with pytest.raises(DataError, match=f"1 of 2 classes have too few examples: '0' {needed - 1}"):
        held_out(*(rng.normal(size=(3 * needed - 1, 1)) for _ in range(2)), labels[1:], folds=folds)


def broken(value):
    x = np.arange(24.0).reshape(12, 2)
    x[7, 1] = value
    return x


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (np.arange(12.0)[:, None], ["cat"] * 12, r"labels of one class \(cat\)"),
        (broken(np.nan), [0, 1] * 6, "the image: 1 of 12 examples hold NaN or infinite values, first in row 7"),
        (broken(np.inf), [0, 1] * 6, "1 of 12 examples hold NaN or infinite"),
        (np.full((12, 3), 0.1), [0, 1] * 6, "features of the image: all 3 are constant over 12 examples"),
        (np.empty((12, 0)), [0, 1] * 6, "all 0 are constant"),
        (np.arange(12.0), [0, 1] * 6, r"features of the image of shape \(12,\)"),
        (np.arange(11.0)[:, None], [0, 1] * 6, "image 11, text 12, labels 12"),
        (np.arange(12.0)[:, None], [0, 1] * 5 + ["rare"] * 2, "'rare' 2"),
    ],
)  # fmt: skip
def test_what_gives_no_information_is_an_error_in_three_parts(image, labels, message):
    with pytest.raises(DataError, match=message) as error:
        held_out(image, np.arange(12.0)[:, None] ** 2, np.array(labels))
    assert "expected:" in str(error.value) and "what to do:" in str(error.value)
