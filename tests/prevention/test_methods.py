"""Laws of the training methods: strength 0 is plain, and what is swapped, dropped, weighed and scaled is just that."""

import math

import pytest
import torch
from torch import nn

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.prevention import (
    METHODS,
    Choice,
    GradientModulation,
    GroupReweighting,
    ImageChoice,
    JustTrainTwice,
    ModalityDropout,
    Plain,
    ProductOfExperts,
    SwapConsistency,
    SwappedNegatives,
)
from attention_collapse.prevention.method import losses

N, WIDTH = 12, 5


class Fusion(nn.Module):
    """An image encoder, a text encoder, and a score made of both."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image, self.text = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)
            self.head = nn.Linear(4, 1)
        self.calls = []

    def forward(self, image, text):
        image = image["pixels"] if isinstance(image, dict) else image
        self.calls.append((image, text))
        return self.head(torch.tanh(self.image(image)) * torch.tanh(self.text(text)))[:, 0]


def batch(seed=0, n=N):
    drawn = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(n, WIDTH, generator=drawn) for _ in range(2))
    return image, text, (torch.arange(n) % 2).float()


def linear(seed=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(WIDTH, 1), nn.Flatten(0))


def unimodal(model):
    return lambda image, text: (model.image(image).sum(1), model.text(text).sum(1))


AT_ZERO = {
    "modality-dropout": lambda model: ModalityDropout(0.0, 0.0),
    "gradient-modulation": lambda model: GradientModulation(
        unimodal(model), model.image.parameters(), model.text.parameters(), alpha=0.0
    ),
    "product-of-experts": lambda model: ProductOfExperts(linear(), strength=0.0),
    "just-train-twice": lambda model: JustTrainTwice(lambda image, text: image[:, 0], weight=1.0),
    "swapped-negatives": lambda model: SwappedNegatives(weight=0.0),
    "choice": lambda model: Choice(weight=0.0),
    "image-choice": lambda model: ImageChoice(weight=0.0),
    "swap-consistency": lambda model: SwapConsistency(weight=0.0),
    "group-reweighting": lambda model: GroupReweighting(0.0),
    "erm": lambda model: Plain(),
}


def trained(method_of, steps=4):
    model = Fusion()
    method = method_of(model)
    optimizer = torch.optim.AdamW([*model.parameters(), *method.parameters()], lr=0.05)
    for step in range(steps):
        image, text, target = batch(step)
        loss = method.loss(model, image, text, target, group=target.long())
        optimizer.zero_grad()
        loss.backward()
        method.after_backward()
        optimizer.step()
    return model


def test_every_method_has_its_law_at_strength_zero():
    assert set(AT_ZERO) == {method.name for method in METHODS}


@pytest.mark.parametrize("name", AT_ZERO)
def test_at_strength_zero_training_is_plain_bit_for_bit(name):
    plain, other = trained(AT_ZERO["erm"]).state_dict(), trained(AT_ZERO[name]).state_dict()
    assert all(torch.equal(plain[key], other[key]) for key in plain)
    assert AT_ZERO[name](Fusion()).passes == 1


@pytest.mark.parametrize(
    "make",
    [lambda: ModalityDropout(0.3, 0.3), SwappedNegatives, lambda: SwappedNegatives("both"), Choice, SwapConsistency],
)
def test_drawing_leaves_the_run_s_own_random_numbers_alone_and_goes_on_where_it_was(make):
    model, method = Fusion(), make()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    image, text, target = batch()
    method.loss(model, image, text, target)
    assert torch.equal(torch.rand(3), expected)
    resumed = make()
    resumed.load_state_dict(method.state_dict())
    again = [one.loss(model, image, text, target).item() for one in (method, resumed)]
    assert again[0] == again[1]
    assert again[0] != make().loss(model, image, text, target).item()  # as from the start


def test_a_choice_of_images_takes_out_what_the_question_says_by_itself():
    """Logits that depend on the question alone: no choice, ln 2 whatever they are. An image that decides: by hand."""
    text, target = torch.arange(4), torch.tensor([0, 1, 2, 0])
    prior = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 5
    plain = losses(prior, target).mean().item()
    for candidates in (1, 3):
        found = ImageChoice(candidates=candidates).loss(lambda _image, t: prior[t], torch.zeros(4, 2), text, target)
        assert found.item() == pytest.approx(plain + math.log(1 + candidates), abs=1e-5)
    # Each image says its own answer by a logit of 2: the log-odds of the right one are 2 − ln 2 with it, and with the
    # other 0 − ln (e² + 1); so the choice is the softplus of their difference.
    image, two = torch.eye(3)[[0, 1]] * 2, torch.tensor([0, 1])
    own, other = 2 - math.log(2), -math.log(math.exp(2) + 1)
    found = ImageChoice(2.0).loss(lambda i, _text: i, image, two, two).item()
    expected = losses(image, two).mean().item() + 2 * math.log1p(math.exp(other - own))
    assert found == pytest.approx(expected, abs=1e-6)
    assert ImageChoice(candidates=3).passes == 4
    with pytest.raises(ParamsError, match="use `Choice`"):
        ImageChoice().loss(lambda i, _text: i[:, 0], image, two, two)


def test_dropout_takes_each_modality_at_its_rate_never_both_and_rescales_nothing():
    n, method = 20_000, ModalityDropout(0.3, 0.2)
    no_image, no_text = method.dropped(n)
    for gone, rate in ((no_image, 0.3), (no_text, 0.2)):
        assert abs(gone.float().mean().item() - rate) < 4 * math.sqrt(rate * (1 - rate) / n)
    assert not (no_image & no_text).any()
    model = Fusion()
    image, text, target = torch.ones(50, WIDTH), torch.ones(50, WIDTH), torch.ones(50)
    method.loss(model, image, text, target)
    seen = model.calls[-1]
    for modality in seen:
        assert set(modality.unique().tolist()) == {0.0, 1.0}  # whole, or nothing
        assert (modality == modality[:, :1]).all()
    assert ((seen[0][:, 0] == 0) | (seen[1][:, 0] == 0)).sum() == (seen[0][:, 0] == 0).sum() + (
        seen[1][:, 0] == 0
    ).sum()


def test_dropout_of_tokens_takes_what_the_user_says_and_never_invents_a_token():
    ids = torch.arange(1, 9).view(4, 2)
    given = {}

    def score(image, text):
        given.update(text)
        return image[:, 0]

    target, pixels = torch.ones(4), torch.ones(4, 1)
    ModalityDropout(0.0, 1.0, no_text=lambda text: {**text, "ids": torch.full_like(text["ids"], 99)}).loss(
        score, pixels, {"ids": ids, "length": 2}, target
    )
    assert (given["ids"] == 99).all() and given["length"] == 2
    with pytest.raises(ParamsError, match="no_text"):
        ModalityDropout(0.0, 1.0).loss(score, pixels, {"ids": ids}, target)


def test_swapped_negatives_are_the_matching_pairs_with_another_image_of_their_own():
    model, (image, text, target) = Fusion(), batch()
    method = SwappedNegatives("image")
    loss = method.loss(model, image, text, target)
    images, texts = model.calls[-1]
    true = target == 1
    assert len(images) == N + N // 2 == method.passes * N
    assert torch.equal(images[:N], image) and torch.equal(texts[:N], text)
    assert torch.equal(texts[N:], text[true])  # the text stays, with whatever cue it holds
    own, swapped = image[true], images[N:]
    assert not (own == swapped).all(1).any()
    assert sorted(swapped[:, 0].tolist()) == sorted(own[:, 0].tolist())  # each lent once
    answers = torch.cat([target, torch.zeros(N // 2)])
    assert loss.item() == pytest.approx(losses(model(images, texts), answers).mean().item(), abs=1e-6)


@pytest.mark.parametrize(("swap", "swapped"), [("image", ["image"]), ("text", ["text"]), ("both", ["image", "text"])])
def test_the_matching_pair_whose_text_is_nearest_lends_what_is_swapped(swap, swapped):
    """By direction, not by length; a pair that does not match lends nothing, however near its text is."""
    text = torch.tensor([[1.0, 0.0], [5.0, 0.5], [0.0, 1.0], [0.1, 3.0], [1.0, 0.0]])
    image, target, seen = torch.arange(5.0)[:, None], torch.tensor([1.0, 1, 1, 1, 0]), []

    def score(image, text):
        seen.append((image, text))
        return image[:, 0] * 0

    SwappedNegatives(swap, alike=lambda text: text["words"]).loss(score, image, {"words": text, "length": 2}, target)
    images, texts = seen[0]
    second = [3, 3, 1, 1] if swap == "both" else [1, 0, 3, 2]  # no torn pair is there twice
    expected = {"image": ([1, 0, 3, 2], [0, 1, 2, 3]), "text": ([0, 1, 2, 3], second)}
    for place, modality in enumerate(swapped):
        rows = slice(5 + 4 * place, 9 + 4 * place)
        whose_image, whose_text = expected[modality]
        assert images[rows, 0].tolist() == whose_image and torch.equal(texts["words"][rows], text[whose_text])
    assert len(images) == 5 + 4 * len(swapped)


def test_a_cue_of_the_text_alone_cannot_pay_beside_as_many_swapped_images():
    """With n matching pairs and n swapped ones, the best score that reads the text alone is 0 for the cue's yes."""
    model = nn.Linear(1, 1)  # reads the cue
    text, image, target = torch.ones(8, 1), torch.randn(8, 3), torch.ones(8)
    for _ in range(400):
        loss = SwappedNegatives("image").loss(lambda image, text: model(text)[:, 0], image, text, target)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.5 * parameter.grad)
    assert model(torch.ones(1, 1)).item() == pytest.approx(0, abs=1e-3)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_a_choice_is_blind_to_whatever_one_modality_says_by_itself():
    """An offset of the text alone, added to the score, leaves the choice between images as it was."""
    own = torch.randn(8, 8, generator=torch.Generator().manual_seed(5))
    position = torch.arange(8.0)

    def score(i, t):
        return own[i[:, 0].long(), t[:, 0].long()]

    i = t = position[:, None]
    ones = torch.ones(8)
    base = Choice(weight=1.0, seed=2).loss(score, i, t, ones) - losses(own.diag(), ones).mean()
    candidates = Choice(weight=1.0, seed=2)
    other_image, other_text = candidates.others(8), candidates.others(8)
    image_choice = -torch.log_softmax(torch.stack([own.diag(), own[other_image, torch.arange(8)]]), 0)[0].mean()
    text_choice = -torch.log_softmax(torch.stack([own.diag(), own[torch.arange(8), other_text]]), 0)[0].mean()
    assert base.item() == pytest.approx(((image_choice + text_choice) / 2).item(), abs=1e-6)

    def with_prior(i, t):
        return own[i[:, 0].long(), t[:, 0].long()] + 50 * t[:, 0]

    moved = Choice(weight=1.0, seed=2)
    total = moved.loss(with_prior, i, t, ones) - losses(own.diag() + 50 * position, ones).mean()
    texts = own[torch.arange(8), other_text] + 50 * other_text
    prior_choice = -torch.log_softmax(torch.stack([own.diag() + 50 * position, texts]), 0)[0].mean()
    assert total.item() == pytest.approx(((image_choice + prior_choice) / 2).item(), abs=1e-4)


def test_swap_consistency_is_least_where_a_torn_pair_gets_the_prior():
    image, text, target = batch()
    loss = [
        SwapConsistency(weight=1.0).loss(lambda i, t, value=value: torch.full((N,), value), image, text, target).item()
        for value in (-1.0, 0.0, 1.0)
    ]
    plain = [losses(torch.full((N,), value), target).mean().item() for value in (-1.0, 0.0, 1.0)]
    penalty = [a - b for a, b in zip(loss, plain, strict=True)]
    assert penalty[1] == pytest.approx(math.log(2)) and penalty[0] > penalty[1] < penalty[2]


def test_a_branch_explains_its_modality_gets_no_gradient_from_the_sum_and_leaves_no_trace():
    model, (image, text, target) = Fusion(), batch()
    names = set(model.state_dict())
    branch = linear()
    method = ProductOfExperts(branch, "text")
    method.loss(model, image, text, target).backward()
    sum_and_own = [p.grad.clone() for p in branch.parameters()]
    branch.zero_grad()
    losses(branch(text), target).mean().backward()
    assert all(torch.allclose(a, p.grad) for a, p in zip(sum_and_own, branch.parameters(), strict=True))
    expected = losses(model(image, text) + branch(text).detach(), target).mean() + losses(branch(text), target).mean()
    assert method.loss(model, image, text, target).item() == pytest.approx(expected.item())
    assert set(model.state_dict()) == names  # nothing to remove at inference
    with pytest.raises(ParamsError, match="the shape of the score"):
        ProductOfExperts(nn.Linear(WIDTH, 3)).loss(model, image, text, target)


def test_a_closed_gate_is_the_plain_loss_and_the_entropy_term_opens_it():
    model, (image, text, target) = Fusion(), batch()

    class Closed(nn.Module):
        def forward(self, text):
            return torch.full((len(text),), -100.0)

    plain = losses(model(image, text), target).mean() + losses(linear()(text), target).mean()
    shut = ProductOfExperts(linear(), gate=Closed())
    assert shut.loss(model, image, text, target).item() == pytest.approx(plain.item(), abs=1e-6)
    pressed = ProductOfExperts(linear(), gate=Closed(), entropy=1.0).loss(model, image, text, target).item()
    assert pressed - plain.item() == pytest.approx(math.log(2), abs=1e-5)  # the answer of a shut gate says nothing


def test_just_train_twice_weighs_the_first_run_s_errors_alone():
    image, text, target = batch()
    first = torch.where(torch.arange(N) < 4, 1 - 2 * target, 2 * target - 1)  # wrong for the first four
    logits = torch.linspace(-1, 1, N)
    loss = JustTrainTwice(lambda *_: first, weight=5.0).loss(lambda *_: logits, image, text, target)
    one, weight = losses(logits, target), torch.where(torch.arange(N) < 4, 5.0, 1.0)
    assert loss.item() == pytest.approx(((one * weight).sum() / weight.sum()).item())


def test_groups_weigh_alike_whatever_their_share():
    target = torch.ones(10)
    group = torch.tensor([0] * 9 + [1])
    logits = torch.cat([torch.full((9,), 2.0), torch.tensor([-1.0])])
    loss = GroupReweighting().loss(lambda *_: logits, logits, logits, target, group)
    each = [losses(logits[group == g], target[group == g]).mean().item() for g in (0, 1)]
    assert loss.item() == pytest.approx(sum(each) / 2, rel=1e-6)
    with pytest.raises(ParamsError, match="group"):
        GroupReweighting().loss(lambda *_: logits, logits, logits, target)


def test_modulation_scales_exactly_the_leading_modality_s_gradients_linear_layers_included():
    image, text, target = batch()
    right = {"image": 3.0, "text": 0.0}  # log-odds of the right answer by the image alone, and by the text alone

    def alone(_image, _text):
        return tuple((2 * target - 1) * right[modality] for modality in ("image", "text"))

    plain, model = Fusion(), Fusion()
    losses(plain(image, text), target).mean().backward()
    method = GradientModulation(alone, model.image.parameters(), model.text.parameters(), alpha=0.5, noise=False)
    method.loss(model, image, text, target).backward()
    method.after_backward()
    ratio = (1 / (1 + math.exp(-3.0))) / 0.5
    factor = 1 - math.tanh(0.5 * (ratio - 1))
    for name, parameter in model.named_parameters():
        expected = dict(plain.named_parameters())[name].grad * (factor if name.startswith("image") else 1.0)
        assert torch.allclose(parameter.grad, expected), name
    assert 0 < factor < 1
    noisy = Fusion()
    method = GradientModulation(alone, noisy.image.parameters(), noisy.text.parameters(), alpha=0.5)
    method.loss(noisy, image, text, target).backward()
    method.after_backward()
    assert not torch.allclose(noisy.image.weight.grad, model.image.weight.grad)
    assert torch.equal(noisy.text.weight.grad, model.text.weight.grad)


def test_modulation_needs_an_encoder_for_each_modality():
    model = Fusion()
    with pytest.raises(ParamsError, match="both modalities"):
        GradientModulation(unimodal(model), model.parameters(), model.text.parameters())
    with pytest.raises(ParamsError, match="no parameters of the text"):
        GradientModulation(unimodal(model), model.parameters(), [])


@pytest.mark.parametrize("make", [SwapConsistency])
def test_a_batch_of_one_has_nothing_to_swap(make):
    image, text, target = batch(n=1)
    with pytest.raises(DataError, match="a batch of 1 pair"):
        make().loss(Fusion(), image, text, target)


@pytest.mark.parametrize("make", [SwappedNegatives, Choice])
def test_without_two_matching_pairs_the_batch_counts_as_it_is(make):
    model, (image, text, _) = Fusion(), batch(n=3)
    target = torch.tensor([1.0, 0.0, 0.0])
    plain = losses(model(image, text), target).mean().item()
    assert make().loss(model, image, text, target).item() == pytest.approx(plain)


@pytest.mark.parametrize("name", [name for name in AT_ZERO if name not in {"just-train-twice"}])
def test_a_loss_that_is_nan_is_an_error_before_a_step_is_taken(name):
    image, text, target = batch()
    with pytest.raises(DataError, match="finite loss"):
        AT_ZERO[name](Fusion()).loss(lambda *_: torch.full((N,), math.nan), image, text, target, target.long())


@pytest.mark.parametrize("make", [SwappedNegatives, Choice, SwapConsistency])
def test_classes_are_refused_where_the_answer_of_a_torn_pair_is_not_known(make):
    image, text, _ = batch()
    with pytest.raises(ParamsError, match="log-odds of a match"):
        make().loss(lambda i, t: torch.zeros(len(i), 3), image, text, torch.zeros(N, dtype=torch.long))


@pytest.mark.parametrize("name", ["erm", "modality-dropout", "group-reweighting"])
def test_class_numbers_are_a_target_too(name):
    image, text, _ = batch()
    target, logits = torch.arange(N) % 3, torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    loss = AT_ZERO[name](Fusion()).loss(lambda *_: logits, image, text, target, target)
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(logits, target).item(), abs=1e-6)


def test_rates_out_of_range_are_named():
    with pytest.raises(ParamsError, match=r"text is 0\.8"):
        ModalityDropout(0.3, 0.8)
    with pytest.raises(ParamsError, match="weight is 0"):
        JustTrainTwice(lambda *_: None, weight=0.5)
