"""The protocol mm-shap against what the published code of MM-SHAP does, worked out by hand and by loops.

Sources: Heidelberg-NLP/MM-SHAP, mm-shap_{clip,albef,lxmert}_dataset.py and its shap/explainers/_permutation.py.
"""

from dataclasses import replace
from math import ceil, comb, sqrt

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_kinds import DECODER_KINDS, TABLE, TEXTS, batches, kind_of, pictures

from attention_collapse.errors import DataError, ModelError
from attention_collapse.measures.token_shapley import token_shapley
from attention_collapse.models import load
from attention_collapse.models.interface import KindOfModel, Provenance
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.masking import games, not_playable
from attention_collapse.models.mm_shap import (
    match_probability,
    not_followed,
    published_pixels,
    published_players,
    published_side,
)
from attention_collapse.models.spec import ModelSpec

FUSION = {"blip": "albef", "blip2": "albef", "flava": "lxmert"}
FOLLOWED = {"clip": "clip", "metaclip-2": "clip", "align": "clip", **FUSION}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    loaded = {}

    def model(row):
        if row not in loaded:
            folder = ROOT / "data/controls/openclip-scenes"
            if row != "openclip-scenes":
                folder = tmp_path_factory.mktemp("checkpoints") / kind_of(row)
                TABLE[row][0](folder)
            kind = "openclip" if row == "openclip-scenes" else kind_of(row)
            loaded[row] = load(row, ModelSpec(kind=kind, weights="checkpoint", path=str(folder)))
        return loaded[row]

    return model


def game_of(model, text=TEXTS[0]):
    [game] = games(model, pictures()[0], [text], 8, "mm-shap")
    return game


# -- grid and border -------------------------------------------------------------------------------


@pytest.mark.parametrize(("ids", "side"), [(2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (13, 4), (16, 4), (17, 5), (77, 9)])
def test_the_grid_has_the_root_of_all_ids_rounded_up(ids, side):
    assert published_side(ids) == side == ceil(sqrt(ids))


def absent(cell, side, height, width):
    """Rows and columns (first and last) of what is hidden when one cell is absent; None where nothing is."""
    cells = np.ones(side**2, bool)
    cells[cell] = False
    rows, columns = np.nonzero(~published_pixels(cells, height, width))
    return (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None


def test_what_does_not_divide_is_left_over_at_the_far_edges():
    """224 // 5 = 44: five cells reach pixel 220, and the last four rows and columns are in no cell."""
    none = published_pixels(np.zeros(25, bool), 224, 224)
    assert not none[:220, :220].any() and none[220:].all() and none[:, 220:].all()
    assert absent(0, 5, 224, 224) == (0, 43, 0, 43)
    assert absent(7, 5, 224, 224) == (44, 87, 88, 131)  # row 1, column 2
    assert absent(24, 5, 224, 224) == (176, 219, 176, 219)


def test_cells_that_fit_more_often_than_there_are_of_them_fill_rows_of_that_many():
    """32 px, side 5: 32 // 5 = 6, 32 // 6 = 5. Side 6: 32 // 6 = 5, and 32 // 5 = 6. Side 7: 4, and 8 to a row."""
    assert absent(5, 5, 32, 32) == (6, 11, 0, 5) and absent(35, 6, 32, 32) == (25, 29, 25, 29)
    assert absent(6, 7, 32, 32) == (0, 3, 24, 27) and absent(7, 7, 32, 32) == (0, 3, 28, 31)  # the eighth of row 0
    assert absent(8, 7, 32, 32) == (4, 7, 0, 3) and absent(48, 7, 32, 32) == (24, 27, 0, 3)  # 48 = 6 · 8 + 0
    left = published_pixels(np.zeros(49, bool), 32, 32)
    assert left[28:].all() and left[24:28, 4:].all() and not left[:24].any() and not left[24:28, :4].any()


def test_an_image_that_is_not_square_has_the_grids_number_to_a_row_as_for_lxmert():
    """800 × 1067, side 4: cells of 200 × 266; the last three columns are in none."""
    assert absent(6, 4, 800, 1067) == (200, 399, 532, 797)
    assert published_pixels(np.zeros(16, bool), 800, 1067)[:, 1064:].all()
    assert absent(6, 7, 28, 32) == (0, 3, 24, 27) and absent(7, 7, 28, 32) == (4, 7, 0, 3)  # 32 // 4 = 8 would fit


@pytest.mark.parametrize(("side", "height", "width"), [(3, 10, 10), (4, 18, 18), (5, 32, 32), (7, 32, 32), (4, 18, 27)])
def test_any_coalitions_pixels_are_those_of_the_published_loop(side, height, width):
    rng = np.random.default_rng(0)
    masks = rng.random((6, side**2)) < 0.5
    expected = np.ones((6, height, width), bool)
    tall, wide = height // side, width // side
    columns = width // wide if height == width else side
    for shown, mask in zip(expected, masks, strict=True):
        for k in np.flatnonzero(~mask):
            m, n = k // columns, k % columns
            shown[m * tall : (m + 1) * tall, n * wide : (n + 1) * wide] = False
    assert np.array_equal(published_pixels(masks, height, width), expected)


def test_more_cells_than_pixels_are_refused():
    with pytest.raises(DataError, match="9 × 9 cells over 8 × 8 pixels(.|\n)*a pixel or more for each cell"):
        published_pixels(np.ones(81, bool), 8, 8)


# -- players and masked ids ------------------------------------------------------------------------


def test_start_and_end_are_put_back_but_for_the_end_token_of_albef():
    text = torch.tensor([False, True, True, True, True, False])
    assert published_players("clip", text).tolist() == [False, False, True, True, False, False]
    assert published_players("lxmert", text).equal(published_players("clip", text))
    assert published_players("albef", text).tolist() == [False, False, True, True, True, False]


def inputs_seen(model, game, mask):
    """What a fusion model's module is given for one coalition."""
    seen = {}
    module = model.module.flava if kind_of(model.name) == "flava" else model.module
    hook = module.register_forward_pre_hook(lambda _m, _a, inputs: seen.update(inputs), with_kwargs=True)
    try:
        value = game(mask[None])[0]
    finally:
        hook.remove()
    return seen, value


@pytest.mark.parametrize("row", FUSION)
def test_a_fusion_model_sees_id_0_attended_and_zeros_and_gives_the_softmax_of_its_head(row, models):
    model = models(row)
    game = game_of(model)
    [own] = batches(model, pictures()[:1], TEXTS[:1])
    ids = own.inputs["input_ids"][0]
    placeholder = getattr(model.module.config, "image_token_index", None)
    places = [i for i, (id_, on) in enumerate(zip(ids.tolist(), own.inputs["attention_mask"][0].tolist(), strict=True))
              if on and id_ != placeholder]  # fmt: skip
    assert places and int(ids[places[0]]) == model.tokenizer.cls_token_id
    assert game.slots == len(places) and game.side == ceil(sqrt(len(places)))
    assert game.tokens == len(places) - (1 if FUSION[row] == "albef" else 2)
    mask = np.ones(game.tokens + game.side**2, bool)
    mask[[1, game.tokens - 1, game.tokens + game.side + 1]] = False  # two tokens; the cell in row 1, column 1
    seen, value = inputs_seen(model, game, mask)
    expected = ids.clone()
    expected[places[2]] = expected[places[game.tokens]] = 0  # the start token is no player
    assert seen["input_ids"][0].tolist() == expected.tolist()
    assert (seen["input_ids"][0, places[-1]] == 0) == (FUSION[row] == "albef")  # its end token
    assert seen["attention_mask"].equal(own.inputs["attention_mask"])
    assert all(seen["attention_mask"][0, places] == 1)
    pixels = own.inputs["pixel_values"].clone()
    patch = pixels.shape[2] // game.side
    pixels[:, :, patch : 2 * patch, patch : 2 * patch] = 0
    assert seen["pixel_values"].equal(pixels)
    with torch.inference_mode():
        batch = replace(own, inputs={**own.inputs, "input_ids": expected[None], "pixel_values": pixels})
        no, yes = model.match_logits(batch)[0].double().tolist()
        assert float(model.score(batch)) == pytest.approx(yes, abs=1e-6)
    assert value == pytest.approx(np.exp(yes) / (np.exp(no) + np.exp(yes)), abs=1e-6)
    drawn = np.random.default_rng(0).random((20, len(mask))) < 0.5
    assert ((game(drawn) >= 0) & (game(drawn) <= 1)).all() and np.ptp(game(drawn)) > 0
    assert "id 0 and attended" in game.masking and "P(match)" in game.masking


@pytest.mark.parametrize("row", ["clip", "metaclip-2", "align", "openclip-scenes"])
def test_a_dual_encoders_score_is_its_own_logit_of_ids_0_and_zeros(row, models):
    model, text = models(row), "two red circles left" if row == "openclip-scenes" else TEXTS[0]
    game = game_of(model, text)
    images, texts = batches(model, pictures()[:1], [text])
    [pixels] = images.inputs.values()
    ids_name = "text" if row == "openclip-scenes" else "input_ids"
    length = int(texts.reads[0].lengths)
    assert (game.slots, game.tokens, game.side) == (length, length - 2, ceil(sqrt(length)))
    drawn = np.random.default_rng(0).random((12, game.tokens + game.side**2)) < 0.5
    if row != "align":  # this random image tower makes 0 of zeros, which has no direction
        drawn[0] = False
    patch, expected = pixels.shape[2] // game.side, []
    for mask in drawn:
        ids, shown = texts.inputs[ids_name].clone(), pixels.clone()
        for place in np.flatnonzero(~mask[: game.tokens]):
            ids[0, 1 + place] = 0
        for k in np.flatnonzero(~mask[game.tokens :]):
            m, n = divmod(int(k), pixels.shape[3] // patch)
            shown[..., m * patch : (m + 1) * patch, n * patch : (n + 1) * patch] = 0
        with torch.inference_mode():
            if row == "openclip-scenes":
                out = model.module(image=shown, text=torch.nn.functional.pad(ids, (0, 32 - ids.shape[1])))
                features = out if isinstance(out, tuple) else (out["image_features"], out["text_features"])
                expected.append(float(model.module.logit_scale.exp() * (features[0] @ features[1].T)))
            else:
                out = model.module(input_ids=ids, pixel_values=shown, attention_mask=torch.ones_like(ids))
                expected.append(float(out.logits_per_image))
    assert np.allclose(game(drawn), expected, atol=2e-6 * max(1, model.logit_scale))


# -- the game --------------------------------------------------------------------------------------


def test_shares_are_those_of_the_published_game_enumerated_whole(models):
    """Four ids and four cells are players in the published code: Shapley values of all 256 coalitions."""
    model = models("blip")
    game = game_of(model, "a cat")  # [CLS] a cat [SEP]: 4 ids, 2 × 2 cells, players a, cat, [SEP]
    assert (game.slots, game.tokens, game.side) == (4, 3, 2)
    [own] = batches(model, pictures()[:1], ["a cat"])
    table = {}
    for number in range(2**8):  # of the published players: four ids and four cells
        here = [bool(number >> k & 1) for k in range(8)]
        ids, pixels = own.inputs["input_ids"].clone(), own.inputs["pixel_values"].clone()
        ids[0, [k for k in range(4) if not here[k]]] = 0
        ids[0, 0] = own.inputs["input_ids"][0, 0]
        half = pixels.shape[2] // 2
        for k in range(4):
            if not here[4 + k]:
                m, n = divmod(k, pixels.shape[2] // half)
                pixels[:, :, m * half : (m + 1) * half, n * half : (n + 1) * half] = 0
        with torch.inference_mode():
            logits = model.module(**{**own.inputs, "input_ids": ids, "pixel_values": pixels}).itm_score
        table[number] = float(logits.double().softmax(-1)[0, 1])
    phi = np.zeros(8)
    subsets = [[s for s in range(2**8) if not s >> k & 1] for k in range(8)]
    weights = [1 / (8 * comb(7, size)) for size in range(8)]
    for k in range(8):
        phi[k] = sum(weights[bin(s).count("1")] * (table[s | 1 << k] - table[s]) for s in subsets[k])
    assert phi[0] == pytest.approx(0, abs=1e-9)  # what is put back has no effect
    assert phi.sum() == pytest.approx(table[255] - table[0], abs=1e-9)
    share = np.abs(phi[:4]).sum() / np.abs(phi).sum()
    found = token_shapley(game, text=3, image=4, slots=4, seed=0, permutations=400, floor_draws=0)
    assert found.share == pytest.approx(share, abs=0.01)
    assert np.allclose(found.phi, phi[1:], atol=0.02 * np.abs(phi).sum())


# -- which kinds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE)
def test_every_kind_is_followed_or_says_why_not(row, models):
    model = models(row)
    assert not not_playable(model, "native")
    if row in FOLLOWED:
        assert model.mm_shap == FOLLOWED[row] and not not_followed(model)
        return
    why = not_playable(model, "mm-shap")
    assert why and ("likelihood" in why) == (row in {*DECODER_KINDS, "openclip-coca"})
    with pytest.raises(ModelError, match=f"{row[:4]}(.|\n)*expected: CLIP's kind(.|\n)*the protocol native"):
        game_of(model)


def test_a_scoring_function_has_no_tokens_that_could_be_id_0():
    model = Scorer("x", lambda _i, texts: [0.0] * len(texts), Provenance("x", None, None, None, 0, untrained=False))
    assert not_followed(model) == "its tokens are not known"


def test_a_kind_that_says_a_script_and_has_no_head_of_two_classes_is_named(models):
    class Headless(KindOfModel, base=True):
        name, mm_shap = "headless", "albef"

    with pytest.raises(ModelError, match="headless: no matching head of two classes(.|\n)*match_logits"):
        match_probability(Headless())
