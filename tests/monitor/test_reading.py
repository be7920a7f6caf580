"""What a check says: known answers for scores that use nothing, one modality or both, and where nothing can be said."""

import math

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from watched import chance, content, cue, mirrored, pairs

from attention_collapse.errors import DataError, ModelError, ParamsError
from attention_collapse.monitor import HeldOut, Monitor
from attention_collapse.monitor.reading import (
    Cells,
    Rule,
    decision_variable,
    exact_limits,
    fewest_losses,
    read,
    read_hard,
)


def watch(score, held_out=None, **options):
    return Monitor(score, held_out or pairs(), every=1, model=(), **options)


def first(score, held_out=None, **options):
    monitor = watch(score, held_out, **options)
    return monitor.step(0), monitor


def test_a_score_that_never_reads_the_image():
    found, monitor = first(cue)
    assert found["reliance_image"] == 0 and found["reliance_share"] == 0 and found["flip_rate_image"] == 0
    assert found["reliance_text"] == pytest.approx(1, abs=0.2)
    held_out = monitor.held_out
    right = (held_out.text[:, 1] > 0).long() == held_out.target
    assert found["accuracy"] == found["accuracy_image_swapped"] == pytest.approx(right.double().mean().item())
    assert found["perceptual_score_image"] == 0 and found["perceptual_score_text"] > 0.3


def test_a_score_of_pure_interaction_relies_on_both_alike():
    found, _ = first(lambda image, text: image[:, 0] * text[:, 0])
    # Each factor swapped alone moves the product as far, on average, as both together: 1 and 1.
    assert found["reliance_image"] == pytest.approx(1, abs=0.3) and found["reliance_text"] == pytest.approx(1, abs=0.3)
    assert found["accuracy"] == 1 and found["accuracy_image_swapped"] == pytest.approx(0.5, abs=0.12)
    assert found["flip_rate_text"] == found["perceptual_score_text"]  # all was right, so what flips is lost


def test_every_estimate_lies_in_its_interval_and_every_value_is_a_float():
    found, _ = first(content, partners=3)
    names = [name for name in found if f"{name}_ci_low" in found]
    assert len(names) == 10 and all(type(value) is float for value in found.values())
    for name in names:
        assert found[f"{name}_ci_low"] <= found[name] <= found[f"{name}_ci_high"], name


def test_swapping_the_names_of_the_modalities_swaps_the_values():
    held_out = pairs()
    one, _ = first(cue, held_out)
    other, _ = first(lambda text, image: cue(image, text), mirrored(held_out))
    for name in ("accuracy_{}_swapped", "flip_rate_{}"):
        assert other[name.format("text")] == one[name.format("image")]
    assert other["reliance_text"] == 0 and other["reliance_share"] == 1


def test_a_score_at_chance_has_no_reliance():
    found, monitor = first(chance)
    assert math.isnan(found["reliance_image"]) and "not above chance" in monitor.reasons["reliance_image"]
    assert found["flip_rate_image"] > 0.1 and found["image_unused"] == 0


def test_chance_is_the_share_of_the_most_frequent_label():
    """A constant answer is right in 90 % of these pairs, and knows nothing."""
    held_out = pairs()
    rare = HeldOut(held_out.image, held_out.text, (torch.arange(200) % 10 == 0).long())
    monitor = Monitor(lambda image, text: -1 + 0.0 * text[:, 0], rare, every=1, model=())
    values = [monitor.step(step) for step in range(5)]
    assert values[-1]["accuracy"] == 0.9 and not monitor.alarms


def test_constant_scores_are_undefined_and_said_to_be():
    found, monitor = first(lambda image, text: 0 * text[:, 0])
    assert math.isnan(found["reliance_share"]) and monitor.reasons["reliance_share"]
    assert found["flip_rate_image"] == 0 and "reliance_image" in monitor.summary()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_logged_as_nan_with_their_count(bad):
    def broken(image, text):
        return torch.where(text[:, 2] > 0, content(image, text), torch.tensor(bad))

    good, _ = first(content)
    found, monitor = first(broken)
    assert found.keys() == good.keys()
    assert all(math.isnan(value) for name, value in found.items() if not name.endswith("_unused"))
    assert found["image_unused"] == 0
    count = int(monitor.reasons["accuracy"].split()[0])
    assert 300 < count < 500 and monitor.reasons["accuracy"].endswith("of 800 scores are NaN or infinite")


def test_candidates_are_decided_by_the_greatest_and_measured_by_log_odds():
    scores = np.log(np.array([[[0.2, 0.3, 0.5]]]))  # (pair, 1, candidate)
    assert decision_variable(scores, np.array([1])) == pytest.approx(math.log(0.3 / 0.7))
    held_out = pairs()

    def two(image, text):
        match = content(image, text)
        return torch.stack([0 * match, match], 1)  # log-odds of "match" are the score itself

    one, _ = first(content, held_out)
    other, _ = first(two, held_out)
    for name, value in one.items():
        assert other[name] == pytest.approx(value, abs=1e-9), name


def test_pairs_without_labels_are_choices_between_texts():
    held_out = pairs()
    matching = HeldOut(held_out.image, held_out.text)

    def near(image, text):
        return -((image[:, 1] - text[:, 2]) ** 2)

    alike = HeldOut(held_out.image, torch.cat([held_out.text[:, :2], held_out.image[:, 1:]], 1))
    found, monitor = first(near, alike)
    assert found["accuracy"] == 1 and found["reliance_image"] > 0.4 and "image_unused" not in found
    assert "no labels" in monitor.reasons["alarm"]
    blind, _ = first(lambda image, text: text[:, 2], matching)
    assert blind["accuracy"] == pytest.approx(0.5, abs=0.12) and math.isnan(blind["reliance_image"])


def test_limits_are_those_of_clopper_and_pearson():
    # 8 of 10, as R's binom.test(8, 10) prints it.
    low, high = exact_limits(np.array([1.0] * 8 + [0.0] * 2), 0.95)
    assert (round(low, 4), round(high, 4)) == (0.4439, 0.9748)
    assert fewest_losses(100, 0.95) == pytest.approx(exact_limits(np.zeros(100), 0.95)[1])


def test_batches_change_nothing():
    one, _ = first(content)
    assert first(content, batch_size=7)[0] == one


def test_mappings_are_swapped_row_by_row():
    held_out = pairs()
    split = HeldOut(
        {"sign": held_out.image[:, 0], "noise": held_out.image[:, 1]},
        {"ids": held_out.text, "mask": torch.ones(200, 3, dtype=torch.bool)},
        held_out.target,
    )

    def score(image, text):
        assert text["mask"].all() and image["sign"].shape == (200,)
        return 4 * image["sign"] * text["ids"][:, 0] + 0.1 * text["ids"][:, 2]

    assert first(score, split)[0] == first(content, held_out)[0]


def test_no_partner_has_the_pair_s_image_or_text_and_no_two_partners_are_a_pair():
    held_out = pairs(8)
    image = held_out.image.clone()
    image[1] = image[0]
    text = held_out.text.clone()
    text[3] = text[2]
    found = Monitor(content, HeldOut(image, text, held_out.target), every=1, model=(), partners=4)
    same_image, same_text = np.arange(8), np.arange(8)
    same_image[1], same_text[3] = 0, 2
    for i in range(8):
        assert len(set(found._image[i])) == 4
        for j, k in zip(found._image[i], found._text[i], strict=True):
            for one, other in ((i, j), (i, k), (j, k)):
                assert same_image[one] != same_image[other] and same_text[one] != same_text[other]


def held(image=None, text=None, target=None):
    good = pairs(20)
    return (good.image if image is None else image, good.text if text is None else text, target)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pairs(200)[0], "is Tensor"),
        (held(target=torch.zeros(20)), "every label is 0"),
        (held(target=torch.full((20,), -100)), "labels such as"),
        (held(target=torch.ones(19)), "target of shape"),
        (held(text=torch.ones(19, 2)), "20 images, 19 texts"),
        (held(text=["a", "b"]), "the text of the held-out pairs is list"),
        (held(image={}), "the image of the held-out pairs is dict"),
        (held(image={"a": torch.ones(20), "b": torch.ones(19)}), "19, 20"),
        (held(text=torch.ones(20, 2)), "1 different texts"),
        (tuple(t[:0] for t in pairs()), "0 pairs: nothing to swap"),
        (tuple(t[:1] for t in pairs()), "1 pair: nothing to swap"),
    ],
)
def test_held_out_pairs_that_cannot_be_swapped_are_an_error_in_three_parts(given, said):
    with pytest.raises(DataError, match=said) as error:
        Monitor(content, given, model=())
    assert error.value.expected and error.value.remedy


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda image, text: content(image, text)[:, None], r"gave \(200, 1\)"),
        (lambda image, text: content(image, text).mean(), r"gave \(\)"),
        (lambda image, text: content(image, text)[:7], r"of 200 pairs gave \(7,\)"),
        (lambda image, text: content(image, text).tolist(), "gave list"),
        (lambda image, text: image @ text[:, :2].T, r"gave \(200, 200\)"),
    ],
)
def test_a_score_of_another_shape_is_an_error_in_three_parts(score, said):
    with pytest.raises(ModelError, match=said) as error:
        watch(score).step(0)
    assert error.value.expected and error.value.remedy


def test_labels_beyond_the_candidates_are_an_error():
    held_out = pairs()
    three = HeldOut(held_out.image, held_out.text, torch.arange(200) % 3)
    with pytest.raises(ModelError, match="the highest label is 2"):
        watch(content, three).step(0)
    with pytest.raises(ModelError, match="2 candidates, and the highest label is 2"):
        watch(lambda image, text: text[:, :2], three).step(0)


def test_a_score_with_chance_in_it_is_an_error_before_it_can_count_as_use_of_a_modality():
    torch.manual_seed(0)
    for noisy in (
        lambda image, text: text[:, 1] + 0.5 * torch.randn(len(text)),
        lambda image, text: text[:, 1] + torch.from_numpy(np.random.default_rng().normal(size=len(text))),
    ):
        with pytest.raises(ModelError, match="differ by up to"):
            Monitor(noisy, pairs(), model=()).step(0)
    Monitor(lambda image, text: torch.zeros(len(text)), pairs(), model=()).step(0)  # which never moves


def test_a_pair_that_comes_twice_is_an_error():
    image, text, target = pairs(20)
    twice = [torch.cat([part, part[3:4]]) for part in (image, text, target)]
    with pytest.raises(DataError, match="pair 20 of held_out is pair 3 of held_out once more"):
        Monitor(content, tuple(twice), model=())
    turned = [*twice[:2], torch.cat([target, 1 - target[3:4]])]
    with pytest.raises(DataError, match=r"once more, with the labels"):
        Monitor(content, tuple(turned), model=())
    with pytest.raises(DataError, match=r"pair 0 of hard is pair 0 of held_out once more, with the labels"):
        Monitor(content, (image, text, target), hard=(image, text, 1 - target), model=())
    Monitor(content, (image, text, target), hard=(image[:9], text[:9], target[:9]), model=())


@pytest.mark.parametrize(
    "target", [[0, 1] * 10, np.array([0, 1] * 10), torch.tensor([0, 10**12] * 10), torch.ones(20) * 1j]
)
def test_labels_of_held_out_pairs_are_a_tensor_of_whole_numbers(target):
    image, text, _ = pairs(20)
    with pytest.raises(DataError, match="labels"):
        Monitor(content, (image, text, target), model=())
    with pytest.raises(DataError, match="hard: "):
        Monitor(content, pairs(20), hard=(image, text, torch.ones(20)), model=())


@pytest.mark.parametrize(
    "options",
    [
        {"every": "10"}, {"every": 2.5}, {"every": float("nan")}, {"budget": None}, {"budget": ".1"}, {"seed": -1},
        {"seed": "a"}, {"partners": 1.5}, {"patience": True}, {"batch_size": 0}, {"threshold": float("nan")},
        {"threshold": "0"}, {"rule": 3}, {"rule": Rule}, {"rule": Rule(n_resamples=0)}, {"rule": Rule(margin=2)},
        {"on_alarm": 3},
    ],
)  # fmt: skip
def test_settings_of_the_wrong_kind_are_named(options):
    with pytest.raises(ParamsError, match="|".join((*options, "n_resamples", "margin"))):
        Monitor(content, pairs(), model=(), **options)


def test_a_step_is_a_whole_number_and_a_model_a_module():
    monitor = Monitor(content, pairs(), model=(), every=2)
    for step in ("3", None, 1.5):
        with pytest.raises(ParamsError, match="step"):
            monitor.step(step)
    assert monitor.step(np.int64(2))
    with pytest.raises(ModelError, match="model holds str"):
        Monitor(content, pairs(), model="abc")


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"budget": 0}, {"partners": 0}, {"patience": 0}, {"batch_size": -1}, {"confidence": 95}]
)
def test_impossible_settings_are_an_error(options):
    with pytest.raises(ParamsError, match=next(iter(options))):
        Monitor(content, pairs(), model=(), **options)


def test_a_function_whose_model_is_not_known_is_an_error():
    with pytest.raises(ModelError, match="whose model is not known"):
        Monitor(content, pairs())
    with pytest.raises(DataError, match="hard has no target"):
        Monitor(content, pairs(), model=(), hard=pairs()[:2])


@pytest.mark.parametrize(
    ("n", "right_of_hard", "rings"),
    [(38, 19, False), (40, 20, True), (100, 50, True), (100, 59, True), (100, 60, False)],
)
def test_hard_pairs_ring_as_the_page_says(n, right_of_hard, rings):
    """As docs/monitor.md says; the limits are those of Clopper and Pearson, one-sided, by the beta distribution."""
    correct = round(0.95 * n)
    own = np.where(np.arange(n) < correct, 1.0, -1.0)[:, None]  # all labels are 1: chance is given
    hard = np.where(np.arange(n) < right_of_hard, 1.0, -1.0)[:, None]
    target = (np.arange(n) % 2).astype(np.int64)
    sign = np.where(target == 1, 1.0, -1.0)[:, None]
    found = read(Cells(own * sign, own * sign, own * sign, own * sign), target, Rule(), 0)
    read_hard(found, hard * sign, target, 0.5, Rule())
    low = scipy_stats.beta.ppf(0.025, correct, n - correct + 1)
    high = scipy_stats.beta.ppf(0.975, right_of_hard + 1, n - right_of_hard)
    assert found.values["accuracy_ci_low"] == pytest.approx(low)
    assert found.values["accuracy_hard_ci_high"] == pytest.approx(high)
    assert found.unused["hard"] == (high - 0.5 < (low - 0.5) / 2) == rings


def test_a_hundred_hard_pairs_show_97_in_100_models_at_chance_on_them():
    """The chance that 59 or fewer of 100 are right by luck, of the binomial distribution: what docs/monitor.md says."""
    assert scipy_stats.binom.cdf(59, 100, 0.5) == pytest.approx(0.97, abs=0.005)
