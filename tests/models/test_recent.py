"""What is peculiar to the recent kinds, against answers worked out by hand. Their laws are in test_kinds.py."""

import json
import math
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_kinds import TEXTS, captured, pictures, result
from tiny.encoders import write_metaclip_2
from tiny.recent import write_gemma3, write_internvl, write_llava_onevision, write_mllama, write_qwen3_vl

from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.errors import ModelError
from attention_collapse.measures.reliance import lost_both, lost_image, lost_text, reliance_image, reliance_text
from attention_collapse.models import load
from attention_collapse.models.mm_shap import not_followed
from attention_collapse.models.recombined import recombined
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, OTHER, TEXT


def opened(folder, kind):
    return load(kind, ModelSpec(kind=kind, weights="checkpoint", path=str(folder)))


def changed(file, **settings):
    """A JSON file with some of its settings set."""
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def picture(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@contextmanager
def watched(model, inputs=(), outputs=()):
    """What goes into some modules (their first argument, or the one named) and comes out of others, in one pass."""
    seen, hooks = {}, []

    def before(name):
        return lambda _module, args, kwargs: seen.update({f"into {name}": args[0] if args else kwargs["hidden_states"]})

    for name in inputs:
        hooks.append(model.module.get_submodule(name).register_forward_pre_hook(before(name), with_kwargs=True))
    for name in outputs:
        out = lambda _module, _args, output, name=name: seen.update({f"out of {name}": output})  # noqa: E731
        hooks.append(model.module.get_submodule(name).register_forward_hook(out))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


# -- Qwen3-VL --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3") / "qwen3-vl"
    write_qwen3_vl(folder)
    return opened(folder, "qwen3-vl")


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((90, 64), (3, 2)),  # to the nearest multiples of 32, two patches of 16: 96 × 64
        ((60, 80), (2, 2)),  # 80 ÷ 32 = 2.5, and a half is rounded to the even number
        ((320, 320), (4, 4)),  # no more than 16 · 32² pixels
        ((20, 20), (2, 2)),  # no fewer than 4 · 32²
    ],
)
def test_qwen3_has_as_many_image_tokens_as_the_pictures_size_asks_for(size, grid, qwen3):
    batch = qwen3.pairs([picture(*size)], TEXTS[:1])
    assert batch.reads[0].lengths.tolist() == [math.prod(grid)]
    assert (batch.groups[qwen3.sites["text"][0]] == IMAGE).sum() == math.prod(grid)
    assert batch.inputs["image_grid_thw"].tolist() == [[1, 2 * grid[0], 2 * grid[1]]]


def test_qwen3_adds_inner_layers_of_the_encoder_to_the_image_tokens_after_the_first_layer_alone(qwen3):
    batch = qwen3.pairs(pictures(), TEXTS)
    layers = [f"model.language_model.layers.{index}" for index in range(3)]
    merger = "model.visual.deepstack_merger_list.0"
    with torch.inference_mode(), watched(qwen3, layers[1:], [*layers, merger]) as seen:
        qwen3.score(batch)
    added = [seen[f"into {after}"] - seen[f"out of {layer}"] for layer, after in pairwise(layers)]
    image = batch.groups[qwen3.sites["text"][0]] == IMAGE
    assert torch.equal(added[0].abs().amax(-1) > 0, image)  # exactly what is labelled as the image
    assert torch.allclose(added[0][image], seen[f"out of {merger}"], atol=1e-5)
    assert not added[1].any()


def test_qwen3_places_image_tokens_in_a_grid_and_text_after_its_longer_side(qwen3):
    """Time, row and column of a 3 × 2 grid of tokens; then the text, 3 further on."""
    batch = qwen3.pairs([pictures()[1]], TEXTS[:1])
    image = (batch.groups[qwen3.sites["text"][0]][0] == IMAGE).nonzero()[:, 0].tolist()
    first, after = image[0], len(batch.inputs["input_ids"][0]) - image[-1] - 1
    assert image == list(range(first, first + 6))
    start, end = list(range(first)), list(range(first + 3, first + 3 + after))
    expected = [
        [*start, *[first] * 6, *end],
        [*start, *(first + row for row in (0, 0, 1, 1, 2, 2)), *end],
        [*start, *(first + column for column in (0, 1, 0, 1, 0, 1)), *end],
    ]
    places = []
    rotary = qwen3.module.get_submodule("model.language_model.rotary_emb")
    hook = rotary.register_forward_pre_hook(lambda _module, args: places.append(args[1]))
    with torch.inference_mode():
        qwen3.score(batch)
    hook.remove()
    assert places[0][:, 0].tolist() == expected


# -- Gemma 3 ---------------------------------------------------------------------------------------

WINDOW = 43  # of the first and the last of three layers: the last words of TEXTS[1] see half of the image


@pytest.fixture(scope="module")
def gemma3(tmp_path_factory):
    """By window of keys."""
    made = {}

    def model(window):
        if window not in made:
            folder = tmp_path_factory.mktemp("gemma3") / f"gemma3-{window}"
            write_gemma3(folder, window)
            made[window] = opened(folder, "gemma3")
        return made[window]

    return model


def places(batch, model, group):
    """Positions of a group's tokens, of each item."""
    labels = batch.groups[model.sites["text"][0]]
    return [(row == group).nonzero()[:, 0].tolist() for row in labels]


def test_gemma3_image_tokens_see_each_other_both_ways_text_is_causal_and_some_layers_see_a_window(gemma3):
    model = gemma3(WINDOW)
    batch = model.pairs(pictures(), TEXTS)
    real = batch.inputs["attention_mask"].sum(-1).tolist()
    reference, _ = captured(model, batch)
    for layer, site in enumerate(model.sites["text"]):
        for item, image in enumerate(places(batch, model, IMAGE)):
            for query in range(real[item]):
                own = [
                    key for key in range(real[item])
                    if (key <= query or (query in image and key in image))
                    and (layer == 1 or key > query - WINDOW)
                ]  # fmt: skip
                found = (reference.patterns[site][item, :, query] > 0).all(0).nonzero()[:, 0].tolist()
                assert found == own, (layer, item, query)


def test_gemma3_null_of_a_windowed_layer_is_over_its_own_keys(gemma3):
    """Some of the image's keys lie outside the window of the later words: uniform attention has the rest."""
    model = gemma3(WINDOW)
    batch = model.pairs(pictures(), TEXTS)
    seen, _ = probe_batch(model, batch, partial(result, model))
    partly = False
    for item, (image, text) in enumerate(zip(*(places(batch, model, g) for g in (IMAGE, TEXT)), strict=True)):
        for layer, site in enumerate(model.sites["text"]):
            width = 10**6 if layer == 1 else WINDOW
            within = [[key for key in image if key > query - width] for query in text]
            partly |= 0 < len(within[-1]) < len(image) and bool(item)
            found = {name: seen["vision"][site][f"{name}_all"][item] for name in ("support", "uniform")}
            assert np.allclose(found["support"], np.mean([len(keys) for keys in within]), atol=1e-6)
            assert np.allclose(found["uniform"], np.mean([math.log(len(keys)) for keys in within]), atol=1e-6)
            every = np.mean([min(query + 1, width) for query in text])
            groups = [seen["vision"][site][f"support_{group}_all"][item] for group in ("other", "image", "text")]
            assert np.allclose(sum(groups), every, atol=1e-6)
    assert partly


def test_gemma3_has_no_entropy_over_an_image_that_lies_outside_the_window(gemma3):
    model = gemma3(8)
    batch = model.pairs(pictures(), TEXTS)
    seen, _ = probe_batch(model, batch, partial(result, model))
    queries = [len(text) for text in places(batch, model, TEXT)]
    for layer, site in enumerate(model.sites["vision"]):
        of = seen["vision"][site]
        assert np.isnan(of["entropy_all"]).all() == (layer != 1)
        assert (of["mass_image_all"] == 0).all() == (layer != 1)
        assert of["undefined_all"].tolist() == ([0, 0] if layer == 1 else queries)


def test_gemma3_takes_the_whole_picture_and_no_crops_also_where_its_folder_asks_for_them(tmp_path):
    write_gemma3(tmp_path / "gemma3")
    file = tmp_path / "gemma3" / "preprocessor_config.json"
    crops = {"min_crop_size": 16, "max_num_crops": 4, "min_ratio_to_activate": 1.2}
    asked = {"do_pan_and_scan": True, **{f"pan_and_scan_{name}": value for name, value in crops.items()}}
    changed(file, **asked)
    model = opened(tmp_path / "gemma3", "gemma3")
    batch = model.pairs([picture(40, 200)], TEXTS[:1])
    assert batch.inputs["pixel_values"].shape == (1, 3, 32, 32)
    assert batch.reads[0].lengths.tolist() == [4]


def test_gemma3_pictures_and_captions_prepared_apart_score_as_their_pairs(gemma3):
    """The number of image tokens, and what marks them, is the same for every picture."""
    model, images = gemma3(WINDOW), [picture(60, 80), picture(90, 64, 1), picture(40, 200, 2)]
    prepared = recombined(model, images, TEXTS)
    pairings = [(0, 0), (2, 1), (1, 0), (0, 1)]
    with torch.inference_mode():
        found = model.score(prepared.batch(*zip(*pairings, strict=True)))
        own = torch.cat([model.score(model.pairs([images[i]], [TEXTS[t]])) for i, t in pairings])
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)


# -- Llama 3.2 Vision ------------------------------------------------------------------------------

TILES = {(50, 50): 1, (60, 80): 2, (40, 190): 3, (120, 120): 4}  # of 64 pixels, by height and width


@pytest.fixture(scope="module")
def mllama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mllama") / "mllama"
    write_mllama(folder)
    return opened(folder, "mllama")


def test_mllama_keys_are_the_patches_and_the_class_token_of_each_tile_that_the_picture_fills(mllama):
    batch = mllama.pairs([picture(*size) for size in TILES], [TEXTS[0]] * 4)
    tiles = np.array(list(TILES.values()))
    assert batch.reads[0].lengths.tolist() == (17 * tiles).tolist()
    seen, _ = probe_batch(mllama, batch, partial(result, mllama))
    for site in mllama.sites["vision"]:
        of = {key: value[:, 0] for key, value in seen["vision"][site].items() if value.ndim == 2}
        for rows in ("all", "readout"):
            assert np.allclose(of[f"support_image_{rows}"], 16 * tiles) and not of[f"support_text_{rows}"].any()
            assert np.allclose(of[f"support_other_{rows}"], tiles)
            assert np.allclose(of[f"uniform_{rows}"], np.log(17 * tiles))  # the null: padding is no key


def test_mllama_scores_pictures_of_other_numbers_of_tiles_alike_alone_and_together(mllama):
    images = [picture(*size) for size in TILES]
    with torch.inference_mode():
        together = mllama.score(mllama.pairs(images, [TEXTS[0]] * 4))
        alone = [mllama.score(mllama.pairs([image], [TEXTS[0]]))[0] for image in images]
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [({"max_image_tiles": 2}, "2 tiles of 64 × 64"), ({"size": {"height": 32, "width": 32}}, "32 × 32 pixels")],
)
def test_mllama_refuses_a_processor_that_cuts_other_tiles_than_its_encoder_was_made_for(wrong, found, tmp_path):
    write_mllama(tmp_path / "mllama")
    changed(tmp_path / "mllama" / "preprocessor_config.json", **wrong)
    with pytest.raises(ModelError, match=f"{found}(.|\n)*64 × 64(.|\n)*repository"):
        opened(tmp_path / "mllama", "mllama").pairs(pictures(), TEXTS)


@pytest.mark.parametrize(("attention", "feed_forward"), [(0.0, 0.0), (0.0, 0.9), (0.9, 0.0), (0.9, 0.9)])
def test_mllama_whose_gates_are_shut_does_not_rely_on_the_image(attention, feed_forward, tmp_path):
    """tanh(0) = 0 shuts the attention out. The gate of the feed-forward part lets through no image of its own."""
    write_mllama(tmp_path / "mllama")
    file = tmp_path / "mllama" / "model.safetensors"
    state = load_file(file)
    gates = {"cross_attn_attn_gate": attention, "cross_attn_mlp_gate": feed_forward}
    for name, value in state.items():
        if (gate := name.split(".")[-1]) in gates:
            value.fill_(gates[gate])
    save_file(state, file, metadata={"format": "pt"})
    model = opened(tmp_path / "mllama", "mllama")
    images, texts = [picture(60, 80, 0), picture(90, 64, 1)], TEXTS
    with torch.inference_mode():
        v = np.array([model.score(model.pairs([image] * 2, texts)).double().numpy() for image in images])
    own, other_image, other_text, neither = v.diagonal()[:, None], v.T, v, v.diagonal()[::-1, None]
    swapped = ~np.eye(2, dtype=bool)
    both = lost_both(own, neither)
    found_image = reliance_image(lost_image(own, other_image[swapped][:, None]).mean(), both.mean())
    found_text = reliance_text(lost_text(own, other_text[swapped][:, None]).mean(), both.mean())
    assert both.mean() > 1e-6 and found_text > 0
    assert (found_image == 0) == (attention == 0)


@pytest.mark.parametrize(
    ("cross", "layers", "text"),
    [
        ((1, 3), 5, (2, 4)),  # as in the published checkpoints: the layer after it
        ((1,), 2, (0,)),  # none follows: the layer before it
        ((1, 2), 4, (3, 3)),  # two in a row share the next
        ((0, 9), 11, (1, 10)),  # by number and not by letter
    ],
)
def test_mllama_text_is_read_in_the_layer_beside_each_cross_attention(cross, layers, text, tmp_path):
    write_mllama(tmp_path / "mllama", cross, layers)
    model = opened(tmp_path / "mllama", "mllama")
    prefix = "model.language_model.layers"
    assert model.sites["vision"] == tuple(f"{prefix}.{layer}.cross_attn" for layer in cross)
    assert model.sites["text"] == tuple(f"{prefix}.{layer}.self_attn" for layer in text)
    batch = model.pairs(pictures(), TEXTS)
    seen, _ = probe_batch(model, batch, partial(result, model))
    assert all(np.isfinite(seen[read.tower][site]["entropy_all"]).all() for read in batch.reads for site in read.sites)


# -- LLaVA-OneVision -------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize(
    ("most_tiles", "size", "rows", "columns"),
    [
        (9, (60, 80), 6, 8),  # in 64 × 64 pixels it is 48 high: 6 rows of patches of 8
        (9, (90, 64), 8, 6),  # 45 wide, and padding is of whole patches on both sides
        (9, (30, 30), 4, 4),  # one tile, beside the whole image
        (2, (60, 80), 4, 6),  # √(6 · 8 / (2 · 4²)) = 1.22 patches become one, each way
    ],
)
def test_onevision_has_the_whole_image_then_rows_of_tiles_and_a_learned_token_after_each(
    most_tiles, size, rows, columns, layer, tmp_path
):
    write_llava_onevision(tmp_path / "ov", most_tiles)
    changed(tmp_path / "ov" / "config.json", vision_feature_layer=layer)
    model = opened(tmp_path / "ov", "llava-onevision")
    batch = model.pairs([picture(*size), picture(90, 64)], TEXTS)
    first = "model.language_model.layers.0"
    with torch.inference_mode(), watched(model, [first], []) as seen:
        model.score(batch)
    placed = batch.inputs["input_ids"] == model.module.config.image_token_id
    closing = (seen[f"into {first}"] == model.module.model.image_newline).all(-1)  # (item, token)
    labels = batch.groups[model.sites["text"][0]]
    assert torch.equal(labels == IMAGE, placed & ~closing) and (labels[closing] == OTHER).all()
    assert batch.reads[0].lengths[0] == 16 + rows * columns and closing[0].sum() == rows
    places = placed[0].nonzero()[:, 0]
    assert closing[0].nonzero()[:, 0].tolist() == places[15 + (columns + 1) * torch.arange(1, rows + 1)].tolist()
    with torch.inference_mode():
        tower = model.module.model.vision_tower(batch.inputs["pixel_values"][0, :1], output_hidden_states=True)
        whole = model.module.model.multi_modal_projector(tower.hidden_states[layer])[0]
    assert torch.allclose(seen[f"into {first}"][0, places[:16]], whole, atol=1e-5)


# -- InternVL --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def internvl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("internvl") / "internvl"
    write_internvl(folder)
    return opened(folder, "internvl")


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((60, 80), 3 * 2 + 1),  # 4 : 3 lies nearest to 3 × 2 tiles; and the whole image
        ((32, 64), 2 + 1),
        ((50, 50), 2 * 2 + 1),  # of squares the larger, where the picture has over half of its pixels
        ((30, 30), 1),  # one tile is the whole image
    ],
)
def test_internvl_has_four_tokens_for_each_tile_and_for_the_whole_image_last(size, tiles, internvl):
    image = picture(*size)
    batch = internvl.pairs([image], TEXTS[:1])
    assert batch.inputs["pixel_values"].shape == (tiles, 3, 32, 32)
    assert batch.reads[0].lengths.tolist() == [4 * tiles]
    whole = internvl._processor.image_processor(images=[image], crop_to_patches=False, return_tensors="pt")
    assert torch.allclose(batch.inputs["pixel_values"][-1], whole["pixel_values"][0], atol=0.05)
    labels = batch.groups[internvl.sites["text"][0]][0]
    [inside] = places(batch, internvl, IMAGE)
    assert inside == list(range(inside[0], inside[0] + 4 * tiles))
    around = [internvl.tokenizer.convert_ids_to_tokens(int(batch.inputs["input_ids"][0, place]))
              for place in (inside[0] - 1, inside[-1] + 1)]  # fmt: skip
    assert around == ["<img>", "</img>"] and (labels[[inside[0] - 1, inside[-1] + 1]] == OTHER).all()


def test_internvl_makes_one_token_of_two_by_two_patches_row_by_row(internvl):
    grid = torch.arange(16).view(1, 4, 4, 1)  # patches numbered row by row
    shuffled = internvl.module.model.pixel_shuffle(grid, 0.5).view(4, 4)
    assert [sorted(token) for token in shuffled.tolist()] == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]


def test_internvl_pairs_are_padded_at_their_end_though_its_processor_pads_at_the_start(internvl):
    batch = internvl.pairs(pictures(), TEXTS)
    real = batch.inputs["attention_mask"]
    assert real[0].sum() < real.shape[1] and (real.diff(dim=1) <= 0).all()
    for row, caption, text in zip(batch.inputs["input_ids"], batch.inputs["caption"], TEXTS, strict=True):
        assert internvl.tokenizer.decode(row[caption]) == text


# -- MetaCLIP 2 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metaclip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metaclip") / "metaclip-2"
    write_metaclip_2(folder)
    return opened(folder, "metaclip-2")


def test_metaclip_reads_a_caption_out_at_its_end_token_which_is_id_2_and_not_the_largest(metaclip):
    captions = [*TEXTS, "a red bus " * 60]  # the last is cut, and keeps its end token
    batch = metaclip.texts(captions)
    ids = batch.inputs["input_ids"].tolist()
    ends = [row.index(2) for row in ids]
    assert ends[:2] == [len(metaclip.tokenizer(text)["input_ids"]) - 1 for text in TEXTS] and ends[2] == 76
    assert all(max(row) != 2 for row in ids) and ids[0][ends[0] + 1] == 1  # padding is no end token
    assert batch.reads[0].rows["readout"].argmax(-1).tolist() == ends
    assert batch.reads[0].lengths.tolist() == [end + 1 for end in ends] and batch.truncated == (False, False, True)
    with torch.inference_mode():
        found = metaclip.embed(batch).embedding
        states = metaclip.module.text_model(**batch.inputs).last_hidden_state
        own = metaclip.module.text_projection(states[torch.arange(3), torch.tensor(ends)])
    assert torch.allclose(found, own / own.norm(dim=-1, keepdim=True), atol=1e-6)


def test_metaclip_with_words_that_have_no_start_token_is_not_played_by_clips_script(metaclip, tmp_path):
    """As its checkpoints with mT5's tokenizer: an end token and no other."""
    write_metaclip_2(tmp_path / "mt5")
    file = tmp_path / "mt5" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    single = [part for part in tokenizer["post_processor"]["single"] if part.get("SpecialToken", {}).get("id") != "<s>"]
    tokenizer["post_processor"]["single"] = single
    file.write_text(json.dumps(tokenizer))
    changed(tmp_path / "mt5" / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    model = opened(tmp_path / "mt5", "metaclip-2")
    assert model.tokenizer("a")["input_ids"][-1] == 2 != model.tokenizer("a")["input_ids"][0]
    assert metaclip.mm_shap == "clip" and not_followed(model) == "its captions have no start token"
