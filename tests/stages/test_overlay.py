"""The pairs are chosen by rule, and the map is the readout's own attention."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from attention_collapse.engine.maps import attention_maps, readout_attention
from attention_collapse.engine.summary import extremes
from attention_collapse.models import load
from attention_collapse.models.interface import Batch, Read, Without
from attention_collapse.models.pictures import patch_keys
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Params
from attention_collapse.probe import IMAGE, OTHER
from attention_collapse.report.overlay import Overlay, attention_overlay
from attention_collapse.study.layout import Study
from attention_collapse.study.maps import Seen, grey, read_maps, write_maps

SPEC = {"kind": "openclip", "weights": "checkpoint", "path": "x"}


def test_lowest_median_and_highest_are_chosen_and_ties_go_by_id():
    images = pd.DataFrame({"image_id": [5, 4, 3, 2, 1], "mcs_all": [0.9, 0.5, 0.5, np.nan, 0.1]})

    def chosen(table, score="mcs_all"):
        return [tuple(row) for row in extremes(table, score).itertuples(index=False)]

    assert chosen(images) == [("lowest", 1, 0.1), ("median", 3, 0.5), ("highest", 5, 0.9)]
    assert chosen(images.iloc[:1]) == [("lowest", 5, 0.9)]  # once, not three times
    assert chosen(images.iloc[3:4]) == [] and chosen(images, "mcs_readout") == []


@pytest.fixture(scope="module")
def tiny(tiny_openclip):
    model = load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(2)]
    return model, pictures, model.images([Image.fromarray(picture) for picture in pictures])


def test_the_map_is_the_class_tokens_attention_as_pytorch_gives_it(tiny):
    model, _pictures, batch = tiny
    [read] = batch.reads
    attention, seen = model.module.get_submodule(read.sites[-1]), []
    hook = attention.register_forward_pre_hook(
        lambda _module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    model.embed(batch)
    hook.remove()
    args, kwargs = seen[0]
    _, pattern = attention(*args, **(kwargs | {"need_weights": True, "average_attn_weights": True}))  # mean over heads
    shares = readout_attention(model, batch, read)
    assert torch.allclose(shares.sum(-1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(shares, pattern[:, 0].double(), atol=1e-6)
    found = attention_maps(model, batch)
    own = pattern[1, 0, 1:].double()
    assert found[1].mass == pytest.approx(float(own.sum()), abs=1e-6)
    assert np.allclose(found[1].grid, (own / own.mean()).view(4, 4).numpy(), atol=1e-5)  # 17 tokens: 4 × 4 patches


def test_tokens_that_are_no_grid_of_patches_are_refused_with_a_reason():
    def batch(labels):
        read = Read("vision", ("site",), {}, torch.ones(1))
        return Batch({"image": torch.zeros(1, 3, 8, 8)}, (read,), {"site": torch.tensor([labels])}, (False,)), read

    why = patch_keys(Without("they are shuffled"), *batch([OTHER, IMAGE]))
    assert why == "the image's tokens are not patches in the picture's order: they are shuffled"
    assert "3 image tokens" in patch_keys("image", *batch([OTHER, IMAGE, IMAGE, IMAGE]))
    _, keys = patch_keys("image", *batch([OTHER, IMAGE, IMAGE, OTHER, IMAGE, IMAGE]))
    assert keys.tolist() == [[1, 2, 4, 5]]


def test_the_figure_shows_the_map_and_uniform_attention_on_one_scale():
    grid = np.array([[0.0, 1.0], [0.5, 2.5]])
    words = "two <red> rings at the top"
    item = Overlay("lowest MCS", words, np.zeros((6, 4, 3), np.uint8), np.arange(16.0).reshape(4, 4), grid, 0.25)
    figure = attention_overlay("m", [item], "image")
    axes = figure.axes
    drawn = [one.images[1] for one in axes[1:3]]
    assert np.allclose(drawn[0].get_array(), grid, atol=1e-8) and np.array_equal(drawn[1].get_array(), np.ones((2, 2)))
    assert drawn[0].get_clim() == drawn[1].get_clim() == (1 / 2.5, 2.5)
    assert axes[1].get_xlabel() == "25% on patches" and any(words in text.get_text() for text in figure.texts)
    flat = attention_overlay("m", [Overlay("one", words, item.picture, np.zeros((4, 4)), np.ones((2, 2)), 1.0)], "text")
    flat.canvas.draw()


def test_uniform_attention_leaves_the_picture_as_it_is_and_half_counts_as_much_as_twice():
    grid = np.array([[1.0, 2.0], [0.5, 8.0]])
    item = Overlay("one", "words", np.zeros((4, 4, 3), np.uint8), np.ones((4, 4)), grid, 1.0)
    _, seen, uniform, _ = attention_overlay("m", [item], "image").axes
    assert np.array_equal(uniform.images[1].get_alpha(), np.zeros((2, 2)))
    [[one, twice], [half, most]] = seen.images[1].get_alpha()
    assert one == 0 and half == pytest.approx(twice) and 0 < twice < most < 1


def test_a_model_without_a_map_says_why():
    figure = attention_overlay("m", "the vision tower is convolutional and has no attention", "image")
    assert not figure.axes
    assert "convolutional" in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_maps_are_written_once_and_read_back_and_small_differences_leave_them(tmp_path):
    study = Study(Params.model_validate({"study": "s", "params_file": "p", "models": {"m": SPEC}}), tmp_path)
    rng = np.random.default_rng(0)
    pixels, grid = rng.normal(size=(16, 12)), rng.random((4, 4))
    found = [Seen(7, 70, grey(pixels), grid / grid.mean(), 0.25)]
    write_maps(study, "m", "text", found)
    readout, [back] = read_maps(study, "m")
    assert readout == "text" and (back.image_id, back.caption_id, back.mass) == (7, 70, 0.25)
    assert np.array_equal(back.seen, found[0].seen) and np.allclose(back.grid, found[0].grid, rtol=1e-5)
    assert back.seen.min() == 0 and back.seen.max() == 255  # from the least to the greatest
    before = {file: file.read_bytes() for file in study.maps("m").iterdir()}
    near = found[0].seen.astype(int) + np.where(found[0].seen < 250, 2, 0)
    write_maps(study, "m", "text", [replace(found[0], seen=near.astype(np.uint8), grid=back.grid * (1 + 1e-6))])
    assert {file: file.read_bytes() for file in study.maps("m").iterdir()} == before
    write_maps(study, "m", "text", [replace(found[0], seen=(near + 3).clip(0, 255).astype(np.uint8))])
    assert study.maps("m").joinpath("7.png").read_bytes() != before[study.maps("m") / "7.png"]
    write_maps(study, "m", "image", "the vision tower is convolutional")
    assert read_maps(study, "m") == ("image", "the vision tower is convolutional")
    assert not list(study.maps("m").glob("*.png"))
