"""A pair's score is the pair's: alone or among longer ones, padded left or right, with eager or fused attention.

Every kind, in float32 to 1e-5; in half precision within the bounds that docs/models.md states.
"""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_kinds import DECODER_KINDS, TABLE, TRANSFORMERS, kind_of, pictures
from torch.nn.attention import SDPBackend, sdpa_kernel

from attention_collapse.models import load
from attention_collapse.models.interface import DualEncoder, unit_length
from attention_collapse.models.spec import ModelSpec

TEXTS = [
    "A cat sits on a red table.",
    "Two dogs run near a blue bus in the street.",
    "a dog",
    "a woman in a blue coat walks past a small shop near the river and two cats sit next to each other",
]
# The bounds of docs/models.md: of a cosine, and of a matching head's logit or a mean log-likelihood in nats.
BOUNDS = {"float32": (1e-6, 1e-5), "bfloat16": (0.01, 0.02), "float16": (0.001, 0.006)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    written, loaded = {}, {}

    def model(row, dtype="float32"):
        writer = TABLE[row][0]
        if writer not in written:
            written[writer] = tmp_path_factory.mktemp("checkpoints") / kind_of(row)
            writer(written[writer])
        if (row, dtype) not in loaded:
            own = None if dtype == "float32" else dtype
            spec = ModelSpec(kind=kind_of(row), weights="checkpoint", path=str(written[writer]), dtype=own)
            loaded[row, dtype] = load(row, spec)
        return loaded[row, dtype]

    return model


def images():
    first, second = pictures()
    return [first, second, second, first]


def scores(model, pictures_, texts):
    """(pair,) a dual encoder's cosine, and any other model's score, in float64."""
    with torch.inference_mode():
        if isinstance(model, DualEncoder):
            a, b = (model.embed(batch).embedding.double() for batch in (model.images(pictures_), model.texts(texts)))
            return (a * b).sum(-1)
        return model.score(model.pairs(pictures_, texts)).double()


@contextmanager
def eager(model):
    """Attention as a product of matrices and a softmax, not by a fused kernel."""
    if not hasattr(model.module, "set_attn_implementation"):
        with sdpa_kernel(SDPBackend.MATH):
            yield
        return
    before = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.module.set_attn_implementation(before)


def close(model, found, expected, dtype="float32"):
    bound = BOUNDS[dtype][not isinstance(model, DualEncoder)]
    return float((found - expected).abs().max()) <= bound


CASES = [(row, dtype) for row in TABLE for dtype in BOUNDS if dtype == "float32" or row in TRANSFORMERS]


@pytest.mark.parametrize(("row", "dtype"), CASES)
def test_a_pair_alone_scores_as_among_longer_ones(row, dtype, models):
    model = models(row, dtype)
    alone = torch.cat([scores(model, [image], [text]) for image, text in zip(images(), TEXTS, strict=True)])
    assert close(model, scores(model, images(), TEXTS), alone, dtype)
    if isinstance(model, DualEncoder) and dtype == "float32":  # the figure of a score: to 1e-5 of its scale of 100
        assert float((scores(model, images(), TEXTS) - alone).abs().max()) * 100 <= 2e-5


@pytest.mark.parametrize(("row", "dtype"), CASES)
def test_fused_attention_scores_as_eager_attention(row, dtype, models):
    model = models(row, dtype)
    fused = scores(model, images(), TEXTS)
    with eager(model):
        assert close(model, scores(model, images(), TEXTS), fused, dtype)
    assert close(model, fused, scores(models(row), images(), TEXTS), dtype)  # as in float32


def left_padded(batch):
    """The same pairs with their padding before them: every (batch, token) input rolled by its padding."""
    mask, inputs = batch.inputs["attention_mask"], {}
    for key, value in batch.inputs.items():
        per_token = isinstance(value, torch.Tensor) and value.shape[:2] == mask.shape
        inputs[key] = value
        if per_token:
            padding = (mask == 0).sum(-1).tolist()
            inputs[key] = torch.stack([row.roll(n, 0) for row, n in zip(value, padding, strict=True)])
    assert not inputs["attention_mask"][:, 0].all() and inputs["attention_mask"][:, -1].all()
    return replace(batch, inputs=inputs)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("row", DECODER_KINDS)
def test_a_decoder_scores_alike_with_its_padding_on_the_left(row, dtype, models):
    """Its positions are relative, so that it may; an encoder's are absolute, and its padding is always on the right."""
    model = models(row, dtype)
    batch = model.pairs(images(), TEXTS)
    with torch.inference_mode():
        assert close(model, model.score(left_padded(batch)).double(), model.score(batch).double(), dtype)


@pytest.mark.parametrize("row", [row for row in TABLE if row not in ("openclip", "openclip (CoCa)", "openclip-coca")])
def test_whatever_the_tokenizers_file_says_of_padding_the_scores_are_the_same(row, models):
    model = models(row)
    expected, before = scores(model, images(), TEXTS), model.tokenizer.padding_side
    try:
        model.tokenizer.padding_side = "left"
        assert torch.equal(scores(model, images(), TEXTS), expected)
    finally:
        model.tokenizer.padding_side = before


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("row", ["clip", "siglip", "siglip2", "align"])
def test_embeddings_have_length_1_in_float32_whatever_the_dtype(row, dtype, models):
    model = models(row, dtype)
    with torch.inference_mode():
        for batch in (model.images(images()), model.texts(TEXTS)):
            found = model.embed(batch)
            for vectors in (found.embedding, found.patches):
                if vectors is not None:
                    assert vectors.dtype == torch.float32
                    assert torch.allclose(vectors.double().norm(dim=-1), torch.tensor(1.0).double(), atol=1e-6)


@pytest.mark.parametrize("row", ["openclip", "openclip (CoCa)"])
def test_open_clips_too_when_its_module_is_in_half_precision(row, tmp_path):
    TABLE[row][0](tmp_path / "model")
    model = load(row, ModelSpec(kind="openclip", weights="checkpoint", path=str(tmp_path / "model")))
    model.module.to(torch.bfloat16)
    with torch.inference_mode():
        batch = model.texts(TEXTS)
        norms = model.embed(batch).embedding.double().norm(dim=-1)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-6)


def test_length_1_is_as_worked_out_by_hand():
    vectors = torch.tensor([[3.0, 4.0], [5.0, 12.0]], dtype=torch.bfloat16)
    expected = torch.tensor([[0.6, 0.8], [5 / 13, 12 / 13]])
    assert torch.allclose(unit_length(vectors), expected, atol=1e-7)


def test_the_scale_of_a_clip_in_bfloat16_is_not_rounded_again(models):
    model = models("clip", "bfloat16")
    stored = float(model.module.logit_scale)  # ln 100 = 4.6052 is 4.59375 in bfloat16
    assert model.logit_scale == pytest.approx(np.exp(stored), rel=1e-6)


def test_the_bounds_are_those_of_the_docs():
    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    for dtype, (cosine, other) in BOUNDS.items():
        assert f"| `{dtype}` | {cosine:g} | {other:g} |" in text
