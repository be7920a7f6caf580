"""What methods refuse: settings, batches, labels, scores and states that cannot be."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.prevention import (
    Choice,
    ContrastiveDecoding,
    GradientModulation,
    GroupReweighting,
    ImageChoice,
    JustTrainTwice,
    ModalityDropout,
    Plain,
    ProductOfExperts,
    SwapConsistency,
    SwappedNegatives,
    token_counts,
)

N = 8
IMAGE, TEXT = torch.randn(2, N, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
TARGET = torch.tensor([1, 0] * (N // 2))
GROUP = torch.tensor([0, 1, 2, 3] * 2)


def score(image, text):
    return (image * text).sum(1)


def classes(image, text):
    return image + text


def unimodal(image, text):
    return image.sum(1), text.sum(1)


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, inputs):
        return inputs @ self.weight


def modulation(read=unimodal, **options):
    image, text = ([nn.Parameter(torch.ones(2))] for _ in range(2))
    return GradientModulation(read, image, text, **options)


LOG_ODDS = {  # method -> one that takes log-odds of a match
    "plain": Plain, "dropout": ModalityDropout, "negatives": SwappedNegatives, "choice": Choice,
    "consistency": SwapConsistency, "experts": lambda: ProductOfExperts(Weights()), "group": GroupReweighting,
    "twice": lambda: JustTrainTwice(score), "modulation": modulation,
}  # fmt: skip
SWAPS = ("negatives", "choice", "consistency")


@pytest.mark.parametrize("name", LOG_ODDS)
@pytest.mark.parametrize("values", [(-1, 1), (1, 2), (0, 2), (-100, -100), (0.2, 1.7)])
def test_labels_that_no_match_has_are_an_error(name, values):
    target = torch.tensor(values * (N // 2))
    with pytest.raises(DataError, match="labels (from|such as)"):
        LOG_ODDS[name]().loss(score, IMAGE, TEXT, target, GROUP)


@pytest.mark.parametrize("name", ["negatives", "choice"])
def test_what_swaps_matches_takes_no_probabilities(name):
    with pytest.raises(DataError, match="only matches are swapped"):
        LOG_ODDS[name]().loss(score, IMAGE, TEXT, torch.full((N,), 0.7))
    Plain().loss(score, IMAGE, TEXT, torch.full((N,), 0.7))  # which plain training does


@pytest.mark.parametrize("values", [[-100] * N, [0, 3] * 4, [0.0, 1.0] * 4])
@pytest.mark.parametrize(
    "make", [Plain, ImageChoice, lambda: ModalityDropout(0.1, 0.1), lambda: JustTrainTwice(classes)]
)
def test_numbers_that_no_class_has_are_an_error(values, make):
    with pytest.raises(DataError, match=r"labels from .* and 3 logits per pair"):
        make().loss(classes, IMAGE, TEXT, torch.tensor(values))


@pytest.mark.parametrize("name", LOG_ODDS)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda i, t: None, lambda i, t: score(i, t).numpy(), lambda i, t: score(i, t)[:, None, None],
        lambda i, t: score(i, t)[:-1], lambda i, t: score(i, t).long(), lambda i, t: {"logits": score(i, t)},
    ],
)  # fmt: skip
def test_what_is_no_score_of_the_pairs_is_an_error(name, wrong):
    with pytest.raises((DataError, ParamsError), match="score"):
        LOG_ODDS[name]().loss(wrong, IMAGE, TEXT, TARGET, GROUP)


@pytest.mark.parametrize("name", [name for name in LOG_ODDS if name != "experts"])
def test_scores_of_every_image_with_every_text_are_no_classes(name):
    def every(image, text):
        return image @ text.T

    with pytest.raises((DataError, ParamsError), match=r"\(\d+, \d+\)"):
        LOG_ODDS[name]().loss(every, IMAGE, TEXT, TARGET, GROUP)
    few = slice(0, 3)  # three classes of three pairs are nothing unusual
    Plain().loss(every, IMAGE[few], TEXT[few], TARGET[few])


@pytest.mark.parametrize("name", LOG_ODDS)
@pytest.mark.parametrize("target", [[1, 0] * 4, TARGET.numpy(), TARGET[:, None], TARGET[:5], torch.zeros(0), 1.0])
def test_labels_are_a_tensor_with_one_per_pair(name, target):
    with pytest.raises(DataError):
        LOG_ODDS[name]().loss(score, IMAGE, TEXT, target, GROUP)


@pytest.mark.parametrize("name", [*SWAPS, "dropout"])
@pytest.mark.parametrize(
    "text",
    [
        TEXT[:5], None, torch.tensor(1.0), {"a": TEXT, "b": TEXT[:5]}, {"a": TEXT, "b": list(range(N))},
        {"a": np.ones(N)},
    ],
)  # fmt: skip
def test_what_is_swapped_has_a_row_per_pair(name, text):
    with pytest.raises(DataError, match="the text of a batch of 8 pairs"):
        LOG_ODDS[name]().loss(lambda image, text: image.sum(1), IMAGE, text, TARGET)


@pytest.mark.parametrize("name", SWAPS)
def test_a_batch_of_one_pair_has_nothing_to_swap(name):
    with pytest.raises(DataError, match="a batch of 1 pair"):
        LOG_ODDS[name]().loss(score, IMAGE[:1], TEXT[:1], TARGET[:1])


@pytest.mark.parametrize("name", ["negatives", "choice"])
def test_a_batch_with_one_match_is_trained_on_plainly_and_that_is_said_once(name, caplog):
    method, target = LOG_ODDS[name](), torch.tensor([1] + [0] * (N - 1))
    with caplog.at_level(logging.WARNING):
        found = [method.loss(score, IMAGE, TEXT, target) for _ in range(2)]
    assert found == [Plain().loss(score, IMAGE, TEXT, target)] * 2
    assert [record.message for record in caplog.records] == [
        f"{method.name}: a batch with 1 matching pair(s) is trained on plainly, as are others"
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SwappedNegatives("imgae"), lambda: SwappedNegatives(None), lambda: SwappedNegatives(("image", "text")),
        lambda: SwappedNegatives(weight=-1), lambda: SwappedNegatives(weight=None), lambda: SwappedNegatives(seed="a"),
        lambda: SwapConsistency("both"), lambda: SwapConsistency(prior=2), lambda: SwapConsistency(weight=float("nan")),
        lambda: Choice(candidates=0), lambda: Choice(candidates=1.5), lambda: Choice(-1), lambda: ImageChoice("1"),
        lambda: ProductOfExperts(Weights(), "imgae"), lambda: ProductOfExperts(Weights(), strength=float("inf")),
        lambda: GroupReweighting(-1), lambda: GroupReweighting(float("nan")), lambda: JustTrainTwice(score, 0.5),
        lambda: JustTrainTwice(score, True), lambda: modulation(alpha=-5), lambda: modulation(alpha=float("nan")),
        lambda: ModalityDropout("a"), lambda: ModalityDropout(0.7, 0.7), lambda: ContrastiveDecoding("1"),
        lambda: ContrastiveDecoding(beta=2), lambda: token_counts(torch.tensor([[3]]), 3),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_an_error(make):
    with pytest.raises(ParamsError):
        make()


@pytest.mark.parametrize("wrong", [GROUP[:1], GROUP.float(), GROUP - 1, GROUP.tolist(), GROUP[:, None]])
def test_a_group_is_a_number_for_each_pair(wrong):
    with pytest.raises(DataError, match="groups that are"):
        GroupReweighting().loss(score, IMAGE, TEXT, TARGET, wrong)


def test_what_the_functions_of_a_method_give_is_checked():
    for first in (lambda i, t: score(i, t) * torch.nan, lambda i, t: score(i, t)[:1]):
        with pytest.raises(DataError, match=r"first run|a score of 8 pairs"):
            JustTrainTwice(first).loss(score, IMAGE, TEXT, TARGET)
    with pytest.raises(DataError, match="a loss of nan"):
        modulation(lambda i, t: (i.sum(1) * torch.nan, t.sum(1))).loss(score, IMAGE, TEXT, TARGET)
    with pytest.raises(ParamsError, match="alike gave"):
        SwappedNegatives(alike=lambda text: text * torch.nan).loss(score, IMAGE, TEXT, TARGET)
    with pytest.raises(DataError, match="scores that are ndarray"):
        ContrastiveDecoding()(np.ones(3), np.ones(3))


def test_a_run_goes_on_with_the_method_that_it_began_with():
    for method in (SwappedNegatives(), Choice(), GroupReweighting(), ProductOfExperts(Weights()), modulation()):
        state = method.state_dict()
        method.load_state_dict(state)
        others = (Plain(), SwapConsistency(), GroupReweighting(), ProductOfExperts(Weights(), gate=Weights()))
        for other in (one for one in others if one.name != method.name):
            with pytest.raises(DataError, match=f"a state of {method.name}"):
                other.load_state_dict(state)
        for lacking in ({}, {"method": method.name}):
            with pytest.raises(DataError, match="without"):
                method.load_state_dict(lacking)
    with pytest.raises(DataError, match="a state of NoneType"):
        SwappedNegatives().load_state_dict(None)
