"""The image encoder's shortcut: off outside its context whatever happens, bounded, and refused where it does not fit.

That it changes no score and spares the encoder, kind by kind, is in test_kinds.py.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.encoders import write_blip

from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.image_once import image_once
from attention_collapse.models.spec import ModelSpec


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip") / "blip"
    write_blip(folder)
    return load("tiny", ModelSpec(kind="blip", weights="checkpoint", path=str(folder)))


@pytest.fixture
def rows(blip):
    """Rows of each run of the image encoder."""
    counted = []
    patches = blip.module.vision_model.embeddings.patch_embedding
    hook = patches.register_forward_pre_hook(lambda _, args: counted.append(len(args[0])))
    yield counted
    hook.remove()


def score(model, images):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        return model.score(model.pairs([Image.fromarray(pixels[i]) for i in images], ["a red bus"] * len(images)))


def test_the_images_of_the_pass_before_are_kept_and_no_others(blip, rows):
    passes = ([0, 0, 1], [2, 1], [1], [1, 0, 2])
    expected = [score(blip, images) for images in passes]
    rows.clear()
    with image_once(blip) as announce:
        for images, bare in zip(passes, expected, strict=True):
            announce(images)
            assert torch.allclose(score(blip, images), bare, atol=1e-5, rtol=0)
    assert rows == [1, 1, 1, 1, 1]  # each new image by itself; the third pass needs no run, the fourth finds 1 alone


def test_no_score_depends_on_the_passes_before(blip):
    with image_once(blip) as announce:
        announce([1, 2])
        fresh = score(blip, [1, 2])
    with image_once(blip) as announce:
        for images in ([0, 1], [1, 2]):
            announce(images)
            later = score(blip, images)
    assert torch.equal(later, fresh)  # digit by digit


def test_it_is_off_after_an_exception(blip, rows):
    with pytest.raises(RuntimeError, match="stop"), image_once(blip) as announce:
        announce([0, 0])
        score(blip, [0, 0])
        raise RuntimeError("stop")
    assert "forward" not in vars(blip.module.vision_model)
    score(blip, [0, 0])
    assert rows == [1, 2]


def test_a_forward_that_another_library_put_in_place_stays(blip):
    tower = blip.module.vision_model
    tower.forward = placed = tower.forward  # as accelerate does, to move inputs between devices
    try:
        with image_once(blip):
            assert vars(tower)["forward"] is not placed
        assert vars(tower)["forward"] is placed
    finally:
        del tower.forward


def test_a_pass_that_was_not_announced_is_refused(blip):
    with image_once(blip) as announce:
        announce([0])
        with pytest.raises(ModelError, match=r"vision_model(.|\n)*one row per image, 1 rows(.|\n)*announce the images"):
            score(blip, [0, 1])


def test_a_tower_whose_output_does_not_count_images_is_refused(blip, monkeypatch):
    layer = "vision_model.encoder.layers.0"
    monkeypatch.setattr(blip, "image_encoder", layer)
    monkeypatch.setattr(blip.module.get_submodule(layer), "forward", lambda tokens, **_: tokens.flatten(0, 1))
    with image_once(blip) as announce:
        announce([0, 1])
        with pytest.raises(ModelError, match=rf"{layer} has a tensor of shape \(17, 32\) in a pass of 1 images"):
            score(blip, [0, 1])
