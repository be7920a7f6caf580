from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from attention_collapse.data.planted import vocabulary
from attention_collapse.models import load, recombined
from attention_collapse.models.interface import Without
from attention_collapse.models.small import WRITERS, planted_spec

CAPTIONS = ["perhaps a red ring on the left", "indeed two blue crosses at the top and a green square at the bottom"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_pairing_of_prepared_parts_scores_as_the_pair_itself(kind, tmp_path):
    WRITERS[kind](tmp_path / kind, vocabulary(), 0)
    model, rng = load(kind, planted_spec(kind, tmp_path / kind)), np.random.default_rng(0)
    sizes = [(64, 64), (96, 64), (64, 80)]
    images = [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    prepared = recombined.recombined(model, images, CAPTIONS)
    pairings = [(0, 0), (2, 1), (1, 0), (0, 1)]
    with torch.inference_mode():
        found = model.score(prepared.batch(*zip(*pairings, strict=True)))
        own = torch.cat([model.score(model.pairs([images[i]], [CAPTIONS[t]])) for i, t in pairings])
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)


def test_too_much_to_hold_is_prepared_pair_by_pair(tmp_path, monkeypatch):
    WRITERS["blip"](tmp_path / "blip", vocabulary(), 0)
    model = load("blip", planted_spec("blip", tmp_path / "blip"))
    monkeypatch.setattr(recombined, "LIMIT", 1000)
    assert recombined.recombined(model, [Image.new("RGB", (64, 64))], CAPTIONS) is None


def test_no_image_is_read_for_nothing(tmp_path, monkeypatch):
    WRITERS["blip"](tmp_path / "blip", vocabulary(), 0)
    model = load("blip", planted_spec("blip", tmp_path / "blip"))
    read = []

    def images():
        for number in range(10):
            read.append(number)
            yield Image.new("RGB", (64, 64))

    monkeypatch.setattr(recombined, "PIXELS", 3 * 64 * 64)
    assert recombined.recombined(model, images(), CAPTIONS) is None and read == [0, 1, 2, 3]
    assert (
        recombined.recombined(SimpleNamespace(image_inputs=Without("x")), images(), CAPTIONS) is None and len(read) == 4
    )
