"""Tokens and cells taken away, for every kind of model, against loops that know nothing of batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_kinds import DECODER_KINDS, TABLE, TEXTS, batches, kind_of, pictures, result, tokens_of

from attention_collapse.errors import ModelError
from attention_collapse.measures.token_shapley import grid_side
from attention_collapse.models import load
from attention_collapse.models.interface import DualEncoder, Provenance
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.masking import _by_pixel, _painted, games
from attention_collapse.models.spec import ModelSpec

PAINTED = {
    "siglip2", "idefics", "idefics3", "internvl", "llava-next", "llava-onevision", "mllama", "qwen2-vl", "qwen2-5-vl",
    "qwen3-vl", "smolvlm",
}  # fmt: skip
LIKELIHOOD = {*DECODER_KINDS, "openclip-coca"}
ZERO = {"openclip (CoCa)", "openclip-coca", "clip"}  # CLIP's vocabulary


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    loaded = {}

    def model(row):
        if row not in loaded:
            folder = tmp_path_factory.mktemp("checkpoints") / kind_of(row)
            TABLE[row][0](folder)
            loaded[row] = load(row, ModelSpec(kind=kind_of(row), weights="checkpoint", path=str(folder)))
        return loaded[row]

    return model


@pytest.fixture(scope="module")
def scenes():
    return load(
        "scenes", ModelSpec(kind="openclip", weights="checkpoint", path=str(ROOT / "data/controls/openclip-scenes"))
    )


def coalitions(tokens, cells, random=8):
    """All, none, one modality, each token alone away, each cell alone away, and some at random."""
    p, text = tokens + cells, np.arange(tokens + cells) < tokens
    drawn = np.random.default_rng(0).random((random, p)) < 0.5
    return np.vstack([np.ones(p, bool), np.zeros(p, bool), text, ~text, ~np.eye(p, dtype=bool), drawn])


def game_of(model, text=TEXTS[0], batch_size=8):
    [game] = games(model, pictures()[0], [text], batch_size)
    return game, grid_side(game.tokens)


def plain(model, image, text):
    first, *second = (result(model, batch) for batch in batches(model, [image], [text]))
    if isinstance(model, DualEncoder):
        return float(model.logit_scale * (first * second[0]).sum() + model.logit_bias)
    return float(first[0])


@pytest.mark.parametrize("row", TABLE)
def test_every_kind_is_a_game_of_its_captions_tokens_and_of_cells(row, models):
    model = models(row)
    game, side = game_of(model)
    assert game.tokens == len(tokens_of(model, row)[0]) - (row in LIKELIHOOD)
    masks = coalitions(game.tokens, side**2)
    values = game(masks)
    assert values.shape == (len(masks),) and np.isfinite(values).all()
    with torch.inference_mode():
        assert values[0] == pytest.approx(plain(model, pictures()[0], TEXTS[0]), abs=2e-5)  # nothing is away
    moved = np.abs(values - values[0]) > 1e-6
    tokens, cells = np.split(moved[4 : 4 + masks.shape[1]], [game.tokens])
    # What a likelihood says of the last token does not depend on reading it: it is no player. All others count.
    assert tokens.all() and cells.all() and moved[1:4].all()
    assert ("mean colour" in game.masking) == (row in PAINTED)
    assert ("tokens are id 0;" in game.masking) >= (row in ZERO)


@pytest.mark.parametrize("row", ["openclip", "clip", "siglip2", "vilt", "blip2", "qwen2-vl", "paligemma", "fusion-v2"])
def test_a_coalitions_score_does_not_depend_on_its_batch(row, models):
    game, side = game_of(models(row))
    masks = coalitions(game.tokens, side**2, random=3)[[0, 1, 2, -1, -2]]
    alone = np.concatenate([game_of(models(row), batch_size=1)[0](mask[None]) for mask in masks])
    assert np.allclose(game(masks), alone, atol=1e-4)


def one_by_one(model, image, text, masks, words):
    """The score of each masked pair alone, by loops; `words`: positions of the caption's tokens."""
    found, (images, texts) = [], batches(model, [image], [text])
    [(pixels_name, pixels)] = images.inputs.items()
    ids_name = next(name for name in ("text", "input_ids") if name in texts.inputs)
    side = grid_side(len(words))
    for mask in masks:
        ids, shown = texts.inputs[ids_name].clone(), pixels.clone()
        for here, position in zip(mask, words, strict=False):
            if not here:
                ids[0, position] = 0
        for y in range(shown.shape[2]):
            for x in range(shown.shape[3]):
                if not mask[len(words) + y * side // shown.shape[2] * side + x * side // shown.shape[3]]:
                    shown[0, :, y, x] = 0.0
        a = model.embed(replace(images, inputs={pixels_name: shown})).embedding
        b = model.embed(replace(texts, inputs={**texts.inputs, ids_name: ids})).embedding
        found.append(model.logit_scale * float(a[0].double() @ b[0].double()) + model.logit_bias)
    return found


@pytest.mark.parametrize("row", ["clip", "openclip-scenes"])
def test_a_dual_encoders_scores_are_those_of_each_masked_pair_alone(row, models, scenes):
    model = scenes if row == "openclip-scenes" else models(row)
    text = "two red circles left" if row == "openclip-scenes" else TEXTS[0]
    game, side = game_of(model, text)
    masks = coalitions(game.tokens, side**2)
    with torch.inference_mode():
        expected = one_by_one(model, pictures()[0], text, masks, range(1, 1 + game.tokens))
    assert np.allclose(game(masks), expected, atol=1e-6 * model.logit_scale)


def rows_through(module):
    """Shapes of what goes into a module."""
    shapes = []
    module.register_forward_hook(lambda _module, args, _out: shapes.append(tuple(args[0].shape)))
    return shapes


def test_each_distinct_masked_item_is_encoded_once_and_images_for_all_captions(scenes):
    images, words = rows_through(scenes.module.visual), rows_through(scenes.module.token_embedding)
    played = games(scenes, pictures()[0], ["a red ring", "two blue squares"], 4)
    assert [game.tokens for game in played] == [3, 3]
    masks = coalitions(3, 9)
    for game in played:
        game(masks)
        game(masks[:5])
    distinct_images, distinct_words = (len(np.unique(part, axis=0)) for part in (masks[:, 3:], masks[:, :3]))
    assert sum(shape[0] for shape in images) == distinct_images < len(masks)
    again = len(np.unique(masks[:5, :3], axis=0))  # captions are not kept between calls
    assert sum(shape[0] for shape in words) == 2 * (distinct_words + again)
    assert {shape[1] for shape in words} == {5}  # start, three words, end: not the context of 32
    assert max(shape[0] for shape in images + words) == 4


@pytest.mark.parametrize("row", ["openclip", "openclip (CoCa)"])
def test_a_tower_that_reads_beyond_the_end_token_keeps_its_whole_context(row, models):
    model = models(row)
    words = rows_through(model.module.text.token_embedding)
    game, side = game_of(model)
    game(coalitions(game.tokens, side**2))
    context = batches(model)[1].inputs["text"].shape[1]
    assert {shape[1] for shape in words} == {context}


@pytest.mark.parametrize(
    ("place", "name", "value"), [("__dict__", "text_pool_type", "last"), ("_buffers", "attn_mask", torch.zeros(32, 32))]
)
def test_only_a_causal_tower_that_reads_out_at_the_end_token_is_cut(place, name, value, scenes, monkeypatch):
    words = rows_through(scenes.module.token_embedding)
    monkeypatch.setitem(getattr(scenes.module, place), name, value)
    game, side = game_of(scenes, "a red ring")
    game(coalitions(game.tokens, side**2))
    assert {shape[1] for shape in words} == {32}


@pytest.mark.parametrize("row", ["align", "blip", "blip2", "vilt", "flava", "siglip", "openclip", "fusion-v2", "llava"])
def test_absent_tokens_become_the_mask_token_or_else_the_unknown_one(row, models):
    model = models(row)
    mask = model.tokenizer.mask_token_id
    expected = model.tokenizer.unk_token_id if mask is None else mask
    assert f"absent tokens are id {expected};" in game_of(model)[0].masking
    assert (mask is None) == (row in {"siglip", "openclip", "llava"})


def test_a_fusion_model_sees_its_special_tokens_the_mask_token_and_zeros(models):
    model, seen = models("vilt"), {}
    game, side = game_of(model)
    hook = model.module.register_forward_pre_hook(lambda _m, _a, inputs: seen.update(inputs), with_kwargs=True)
    mask = np.ones(game.tokens + side**2, bool)
    mask[[1, game.tokens + side]] = False  # the second token, the first cell of the second row
    try:
        game(mask[None])
    finally:
        hook.remove()
    [own] = batches(model, pictures()[:1], TEXTS[:1])
    ids = own.inputs["input_ids"].clone()
    ids[0, 2] = model.tokenizer.mask_token_id
    pixels = own.inputs["pixel_values"].clone()
    height, width = (-(-size // side) for size in pixels.shape[2:])
    pixels[..., height : -(-2 * pixels.shape[2] // side), :width] = 0
    assert torch.equal(seen["input_ids"], ids) and torch.equal(seen["pixel_values"], pixels)
    assert torch.equal(seen["attention_mask"], own.inputs["attention_mask"])


@pytest.mark.parametrize("row", ["llava", "paligemma"])
def test_a_likelihood_stays_that_of_the_whole_caption(row, models):
    """What is read is masked; what is to be said is not."""
    model = models(row)
    game, side = game_of(model)
    mask = np.ones(game.tokens + side**2, bool)
    mask[[0, 2]] = False
    [batch] = batches(model, pictures()[:1], TEXTS[:1])
    inputs = {key: value for key, value in batch.inputs.items() if key != "caption"}
    positions = batch.inputs["caption"][0].nonzero()[:, 0]
    read = inputs["input_ids"].clone()
    read[0, positions[[0, 2]]] = int(game.masking.split("id ")[1].split(";")[0])
    with torch.inference_mode():
        logits = model.module(**{**inputs, "input_ids": read}).logits[0]
    said = inputs["input_ids"][0, positions]
    expected = logits[positions - 1].log_softmax(-1).gather(-1, said[:, None]).mean()
    assert game(mask[None])[0] == pytest.approx(float(expected), abs=1e-5)
    embedding = model.module.get_input_embeddings()
    assert not embedding._forward_pre_hooks  # and the model is as it was


@pytest.mark.parametrize("row", sorted(LIKELIHOOD))
def test_a_caption_of_one_token_has_no_player_where_the_score_is_its_likelihood(row, models):
    """Else the image would have all of T-SHAP, whatever the model does."""
    model = models(row)
    one = next(word for word in ("a", "red", "circle", "cat", "two", "on") if len(caption_ids(model, row, word)) == 1)
    game, _ = game_of(model, one)
    assert game.tokens == 0


def caption_ids(model, row, text):
    """Ids of a caption's tokens, by the model's own mark of them."""
    batch = model.pairs(pictures()[:1], [text])
    mark = batch.inputs[model.caption][0].bool().cpu()
    ids = batch.inputs[model.ids][0].cpu()[mark]
    return ids[~torch.isin(ids, torch.tensor(model.tokenizer.all_special_ids))].tolist()


def test_the_model_is_as_it_was_also_after_an_error(models):
    model = models("llava")
    game, side = game_of(model)
    broken = model.module.lm_head.register_forward_hook(lambda *_: 1 / 0)
    try:
        with pytest.raises(ModelError, match="division by zero"):
            game(np.ones((1, game.tokens + side**2), bool))
    finally:
        broken.remove()
    assert not model.module.get_input_embeddings()._forward_pre_hooks


@given(st.integers(1, 6), st.integers(6, 40), st.integers(6, 40))
def test_every_pixel_is_in_one_cell_and_cells_are_in_reading_order(side, height, width):
    each = _by_pixel(np.eye(side**2, dtype=bool), height, width)  # (cell, height, width)
    assert each.shape == (side**2, height, width)
    assert (each.sum(0) == 1).all() and each.any((1, 2)).all()
    heights, widths = each.any(2).sum(1), each.any(1).sum(1)
    assert np.ptp(heights) <= 1 and np.ptp(widths) <= 1
    number = each.argmax(0)
    assert number[0, 0] == 0 and number[0, -1] == side - 1 and number[-1, 0] == side * (side - 1)


def test_absent_cells_are_painted_in_the_mean_colour():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2, :2], pixels[2:, 2:] = (200, 0, 100), (0, 40, 100)
    image = Image.fromarray(pixels)
    assert np.array_equal(_painted(image, np.ones(4, bool)), pixels)
    painted = np.asarray(_painted(image, np.array([True, True, True, False])))
    assert (painted[2:, 2:] == (50, 10, 50)).all()
    assert np.array_equal(painted[:2], pixels[:2]) and np.array_equal(painted[2:, :2], pixels[2:, :2])


def test_the_players_of_a_scoring_function_are_words_and_a_blank_stands_for_an_absent_one():
    seen = []
    score = lambda images, texts: (seen.extend(zip(images, texts, strict=True)), [float(len(t)) for t in texts])[1]  # noqa: E731
    model = Scorer("x", score, Provenance("x", None, None, None, 0, untrained=False))
    [game] = games(model, pictures()[0], ["A  cat sits."], 3)
    assert (game.tokens, game.masking) == (3, "absent words are '_'; absent cells are the mean colour")
    masks = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1, 0], [0] * 7], bool)
    assert game(masks).tolist() == [11, 7, 5]
    assert [text for _, text in seen] == ["A cat sits.", "_ cat _", "_ _ _"]
    assert (
        np.array_equal(seen[0][0], pictures()[0]) and len(np.unique(np.asarray(seen[2][0]).reshape(-1, 3), axis=0)) == 1
    )


def test_a_users_own_module_is_masked_by_words_whatever_its_inputs_are_called(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)
    model = load("mine", ModelSpec(kind="python", weights="factory", factory="examples.own_model:table"))
    game, side = game_of(model)
    assert (game.tokens, game.masking) == (7, "absent words are '_'; absent cells are the mean colour")
    values = game(coalitions(7, side**2))
    with torch.inference_mode():
        assert values[0] == pytest.approx(plain(model, pictures()[0], TEXTS[0]), abs=1e-6)
    assert np.isfinite(values).all() and len(np.unique(values.round(7))) > 8


def test_words_that_a_tokenizer_does_not_know_are_players_too_and_so_is_a_piece_with_the_id_of_padding(models, scenes):
    assert game_of(models("vilt"), "猫 a cat")[0].tokens == 3
    assert game_of(scenes, "a red ring !!")[0].tokens == 5  # the first "!" is CLIP's id 0
