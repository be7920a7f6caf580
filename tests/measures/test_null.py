"""The known answers of docs/measures.md, section 3, and the closed forms against patterns spelled out."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT, SHARED

from attention_collapse.measures.null import VISION_TOWERS, caption_null, uniform_entropy, uniform_entropy_causal


@pytest.fixture(scope="module")
def lengths():
    data = json.loads((ROOT / "data" / "coco_val2017_caption_lengths.json").read_text())
    assert sum(data["n_tokens"].values()) == data["n_captions"] == 25_014
    return {int(tokens): count for tokens, count in data["n_tokens"].items()}


def spelled_out(tokens, causal):
    """Mean entropy of uniform attention, from the pattern itself."""
    seen = np.tril(np.ones((tokens, tokens))) if causal else np.ones((tokens, tokens))
    p = seen / seen.sum(1, keepdims=True)
    return float(-(p * np.log(np.where(p > 0, p, 1))).sum(1).mean())


@pytest.mark.parametrize("tokens", [1, 2, 9, 50, 77])
def test_closed_forms_are_those_of_the_pattern(tokens):
    assert uniform_entropy(tokens) == pytest.approx(spelled_out(tokens, causal=False), abs=1e-12)
    assert uniform_entropy_causal(tokens) == pytest.approx(spelled_out(tokens, causal=True), abs=1e-12)


@pytest.mark.parametrize(
    ("tower", "tokens", "mean", "share"),
    [
        ("ViT-B/32, 224 px", 50, 0.6905, 0.389),
        ("ViT-B/16, 224 px", 197, 0.7508, 0.992),
        ("ViT-L/14, 224 px", 257, 0.7598, 0.996),
        ("ViT-L/14, 336 px", 577, 0.7837, 0.9996),
    ],
)
def test_the_table_of_towers(lengths, tower, tokens, mean, share):
    assert VISION_TOWERS[tower] == tokens
    null = caption_null(tokens, lengths)
    assert round(null["mean"], 4) == mean
    assert null["share_above_0_7"] == pytest.approx(share, abs=5e-4)


def test_other_rows_of_vit_b_32(lengths):
    assert round(caption_null(50, lengths)["sd"], 4) == 0.0180
    assert round(caption_null(50, lengths, "readout")["mean"], 4) == 0.6022
    assert round(caption_null(50, lengths, "padded")["mean"], 4) == 0.5362


def test_independent_derivation(lengths):
    """The same mean by summing ln i caption by caption, without the closed form."""
    total = sum(
        count * math.log(50) / (math.log(50) + sum(math.log(i) for i in range(1, n + 1)) / n)
        for n, count in lengths.items()
    )
    assert caption_null(50, lengths)["mean"] == pytest.approx(total / 25_014, abs=1e-12)


def test_the_histogram_is_that_of_the_captions(lengths):
    """The committed fact, recounted from all captions where they are at hand."""
    file = SHARED / "coco-captions" / "captions_val2017.json"
    if not file.is_file():
        pytest.skip("COCO's captions (../shared/data/coco-captions) are not on this machine")
    from collections import Counter

    import open_clip

    encode = open_clip.SimpleTokenizer().encode
    counts = Counter(len(encode(a["caption"])) + 2 for a in json.loads(file.read_text())["annotations"])
    assert dict(counts) == lengths
