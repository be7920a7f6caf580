"""Laws of contrastive decoding, a known example, and a decoder of the library itself."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter
from tiny.decoders import DECODERS

from attention_collapse.errors import DataError, ParamsError
from attention_collapse.models.answering import asked, load_answering
from attention_collapse.models.spec import ModelSpec
from attention_collapse.prevention import ContrastiveDecoding


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(9,), (9, 13)])
def test_at_strength_0_the_score_is_the_model_s_own_bit_for_bit(shape, beta):
    own = drawn(*shape)
    contrast = ContrastiveDecoding(alpha=0.0, beta=beta)
    assert torch.equal(contrast(own, drawn(*shape, seed=1)), own) and contrast.passes() == 1


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_a_model_that_ignores_its_image_is_left_with_what_it_said(alpha):
    own = drawn(9, 13)
    found = ContrastiveDecoding(alpha, beta=0.0)(own, own)
    assert torch.allclose(found, own) and torch.equal(found.argsort(-1), own.argsort(-1))
    odds = drawn(9)
    assert torch.allclose(ContrastiveDecoding(alpha, beta=0.0)(odds, odds), odds)
    assert torch.equal(ContrastiveDecoding(alpha)(odds, odds) > 0, odds > 0)


def test_three_answers_by_hand():
    """p = 0.5, 0.4, 0.1 with the image and 0.8, 0.1, 0.1 without: squared over the other 0.3125, 1.6 and 0.1."""
    own, without = torch.tensor([[0.5, 0.4, 0.1]]).log(), torch.tensor([[0.8, 0.1, 0.1]]).log()
    expected = torch.tensor([[0.3125, 1.6, 0.1]]).log()
    assert torch.allclose(ContrastiveDecoding(1.0, 0.0)(own, without), expected)
    cut = ContrastiveDecoding(1.0, 0.3)(own, without)  # 0.1 < 0.3 · 0.5
    assert torch.allclose(cut[:, :2], expected[:, :2]) and cut[0, 2] == -math.inf
    half = ContrastiveDecoding(0.5, 0.0)(own, without)
    assert torch.allclose(half.exp(), torch.tensor([[0.5**1.5 / 0.8**0.5, 0.4**1.5 / 0.1**0.5, 0.1]]))


def test_the_cut_off_of_1_leaves_the_model_s_own_choice():
    own, without = drawn(50, 13), drawn(50, 13, seed=1)
    found = ContrastiveDecoding(1.0, 1.0)(own, without)
    assert torch.equal(found.argmax(-1), own.argmax(-1)) and (found > -math.inf).sum() == 50
    assert not torch.equal(ContrastiveDecoding(1.0, 0.0)(own, without).argmax(-1), own.argmax(-1))


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.6])
def test_log_odds_are_two_answers(beta):
    """The same choice as from (pair, 2) logits, whatever constant a pair's logits carry."""
    odds, without = 3 * drawn(200), 3 * drawn(200, seed=1)
    pairs, others = (torch.stack([one, torch.zeros_like(one)], 1) for one in (odds, without))
    contrast = ContrastiveDecoding(1.0, beta)
    both = contrast(pairs + drawn(200, 1, seed=2), others + drawn(200, 1, seed=3))
    assert torch.equal(contrast(odds, without) > 0, both[:, 0] > both[:, 1])
    kept = both.isfinite().all(1)
    assert torch.equal(contrast(odds, without).isfinite(), kept) and (kept.all() if beta == 0 else 0 < kept.sum() < 200)
    assert torch.allclose(contrast(odds, without)[kept], (both[:, 0] - both[:, 1])[kept])


def test_of_several_other_images_the_mean_log_probability_is_taken():
    own, one, two = drawn(4, 3), drawn(4, 3, seed=1), drawn(4, 3, seed=2)
    contrast = ContrastiveDecoding(1.0, 0.0)
    assert torch.allclose(contrast(own, one, two), 2 * own - (one + two) / 2) and contrast.passes(2) == 3


def test_an_answer_that_the_model_rules_out_stays_out():
    own = torch.tensor([[0.0, -math.inf, -1.0]])
    found = ContrastiveDecoding(1.0, 0.0)(own, torch.tensor([[0.0, -math.inf, -3.0]]))
    assert found.tolist() == [[0.0, -math.inf, 1.0]]


def test_what_cannot_be_contrasted_is_said():
    contrast, own = ContrastiveDecoding(), drawn(3, 2)
    for others in ((), (drawn(3),), (own, drawn(2, 2))):
        with pytest.raises(DataError, match="without the image"):
            contrast(own, *others)
    with pytest.raises(DataError, match="NaN"):
        contrast(own, torch.full_like(own, math.nan))
    for options, said in (({"alpha": -1.0}, "alpha"), ({"alpha": math.inf}, "alpha"), ({"beta": 1.5}, "beta")):
        with pytest.raises(ParamsError, match=said):
            ContrastiveDecoding(**options)


def test_a_decoder_s_answers_are_contrasted_in_a_few_lines(tmp_path):
    """By the log-likelihoods that transformers itself gives, with a blurred picture."""
    folder = tmp_path / "llava"
    folder.mkdir()
    DECODERS["llava"][0](folder)
    model = load_answering("llava", ModelSpec(kind="llava", weights="checkpoint", path=str(Path(folder))))
    noise = torch.randint(0, 255, (48, 48, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    picture = Image.fromarray(noise.numpy())
    texts = [asked("is there a cat", answer) for answer in ("yes", "no", "two")]

    def answers(image):
        with torch.inference_mode():
            return model.score(model.pairs([image] * len(texts), texts))[None]  # (1, answer)

    own, blurred = answers(picture), answers(picture.filter(ImageFilter.GaussianBlur(8)))
    assert not torch.allclose(own, blurred)
    found = ContrastiveDecoding(alpha=1.0, beta=0.0)(own, blurred)
    assert torch.allclose(found, 2 * own - blurred)
