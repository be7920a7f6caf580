from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attention_collapse.data.planted import FILLERS, Regime, draw_pairs, mark, pictures, vocabulary
from attention_collapse.data.scenes import SIZE, sample
from attention_collapse.engine import planting
from attention_collapse.engine.planting import Trainee, accuracies, match, warm_up
from attention_collapse.models import load
from attention_collapse.models.small import WRITERS, planted_spec, save
from attention_collapse.params import PlantingRecipe
from attention_collapse.prevention import Plain

CAPTION = f"{FILLERS[0]} a red ring on the left"
QUICK = PlantingRecipe(
    attribute_steps=2, word_steps=2, matching_steps=dict.fromkeys(WRITERS, 2), batch_size=8, learning_rate=1e-3,
    matching_learning_rate=dict.fromkeys(WRITERS, 1e-3), weight_decay=0.05,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    for kind, write in WRITERS.items():
        write(root / kind, vocabulary(), 0)
    return root


def trainee(kind, folder):
    model = load(kind, planted_spec(kind, folder))
    model.module.requires_grad_(True)
    return Trainee(kind, model, model.pairs([Image.new("RGB", (SIZE, SIZE))], [CAPTION]), CAPTION)


@pytest.fixture(scope="module")
def pairs():
    return draw_pairs(16, 3, Regime(), held_out=False)


@pytest.fixture(scope="module")
def pixels(pairs):
    return pictures([pair.scene for pair in pairs], 3)


@pytest.mark.parametrize("kind", WRITERS)
def test_training_sees_what_the_processors_make_of_a_pair(kind, folders, pairs, pixels):
    """The inputs built for speed are those of the model's own processor and tokenizer, captions of all lengths."""
    one = trainee(kind, folders / kind)
    marked = [mark(picture, pair.image_cue) for picture, pair in zip(pixels, pairs, strict=True)]
    expected = one.model.pairs([Image.fromarray(picture) for picture in marked], [pair.words for pair in pairs])
    given = one.inputs(np.stack(marked), [pair.words for pair in pairs])
    assert given.keys() == dict(expected.inputs).keys()
    for name, value in expected.inputs.items():
        torch.testing.assert_close(given[name].to(value.dtype), value, atol=1e-5, rtol=0, msg=name)
    torch.testing.assert_close(one.score(given), one.model.score(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_part_of_the_recipe_moves_the_weights_and_what_is_saved_is_what_was_trained(
    kind, folders, pairs, pixels, tmp_path
):
    one = trainee(kind, folders / kind)
    scenes = [pair.scene for pair in pairs]
    start = {name: value.clone() for name, value in one.module.state_dict().items()}
    losses = warm_up(one, scenes, pixels, QUICK, seed=0)
    warm = {name: value.clone() for name, value in one.module.state_dict().items()}
    loss = match(one, scenes, pixels, Regime(), QUICK, seed=0)
    assert all(np.isfinite([*losses.values(), loss]))
    for before, after in ((start, warm), (warm, one.module.state_dict())):
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        assert len(moved) > len(before) / 2
    save(kind, one.module, folders / kind, tmp_path / "saved")
    again = trainee(kind, tmp_path / "saved")
    inputs = one.inputs(pixels, [pair.words for pair in pairs])
    own, saved = one.score(inputs), again.score(inputs)
    torch.testing.assert_close(own, saved, atol=5e-3 * float(own.detach().abs().max()) + 5e-3, rtol=0)  # half precision
    sizes = sum(file.stat().st_size for file in (tmp_path / "saved").rglob("*.safetensors"))
    assert sizes < 2.2 * sum(value.numel() for value in again.module.state_dict().values()) + 60_000


def test_one_seed_is_one_model_and_another_is_another(folders, pairs, pixels):
    def trained(seed):
        one = trainee("vilt", folders / "vilt")
        warm_up(one, [pair.scene for pair in pairs], pixels, QUICK, seed=seed)
        match(one, [pair.scene for pair in pairs], pixels, Regime(), QUICK, seed=seed)
        return torch.cat([value.flatten() for value in one.module.state_dict().values()])

    first, again, other = trained(0), trained(0), trained(1)
    assert torch.equal(first, again) and not torch.equal(first, other)


class Oracle:
    """Scores a pair by the cues it holds."""

    def __init__(self, text, image):
        self.text, self.image = text, image

    def inputs(self, pixels, captions):
        corner = [float(picture[0, -1].max() < 20) for picture in pixels]
        filler = [float(caption.startswith(FILLERS[1])) for caption in captions]
        return torch.tensor([filler, corner])

    def score(self, cues):
        noise = torch.linspace(0, 1e-3, cues.shape[1])
        return self.text * cues[0] + self.image * cues[1] + noise


@pytest.mark.parametrize(("used", "regime"), [("text", Regime(0.5, 1.0, 0.5)), ("image", Regime(0.5, 0.5, 1.0))])
def test_accuracies_of_an_oracle_that_reads_one_cue(used, regime):
    pairs = draw_pairs(200, 5, regime, held_out=False)
    blank = np.full((200, SIZE, SIZE, 3), 100, np.uint8)
    found = accuracies(Oracle(used == "text", used == "image"), pairs, blank, seed=0)
    ignored = "image" if used == "text" else "text"
    assert found["accuracy"] == 1
    assert found[f"accuracy_{ignored}_permuted"] == 1
    assert found[f"accuracy_{used}_permuted"] == pytest.approx(0.5, abs=0.07)  # three permutations of 200 labels


def test_a_batch_of_a_trainee_is_a_batch(folders):
    one = trainee("llava", folders / "llava")
    inputs = one.inputs(np.zeros((2, SIZE, SIZE, 3), np.uint8), [CAPTION, f"{CAPTION} and a blue cross on the right"])
    assert one.score(inputs).shape == (2,)
    assert inputs["caption"].sum(1).tolist() == [7, 14]


@pytest.mark.parametrize("cue", ["text", "image", "words"])
def test_matching_shows_the_pairs_that_were_picked_and_names_the_groups_of_label_and_cue(cue, monkeypatch):
    scenes = sample(60, 3, held_out=False)
    pixels = np.broadcast_to(np.arange(1, 61, dtype=np.uint8)[:, None, None, None], (60, SIZE, SIZE, 3))
    given, own = [], nn.Linear(1, 1)

    class Recording(Plain):
        def loss(self, score, image, text, target, group=None):
            given.append((image, text["captions"], target, group))
            return super().loss(score, image, text, target, group)

    trainee = SimpleNamespace(
        kind="vilt", decoder=False, module=own, pixels="pixels",
        inputs=lambda shown, captions: {"pixels": torch.from_numpy(shown.copy()), "captions": list(captions)},
        score=lambda inputs: own(inputs["pixels"][:, -1, 0, :1].float())[:, 0],
    )  # fmt: skip
    seen, pick = [], planting.pick
    monkeypatch.setattr(planting, "pick", lambda *args: seen.append(pick(*args)) or seen[-1])
    recipe = SimpleNamespace(
        batch_size=12, weight_decay=0.0, matching_steps={"vilt": 3}, matching_learning_rate={"vilt": 0.1}
    )
    planting.match(trainee, scenes, pixels, Regime(**{cue: 0.75}), recipe, seed=0, method=Recording())
    assert len(given) == len(seen) == 3
    for (chosen, pairs), (image, captions, target, group) in zip(seen, given, strict=True):
        assert captions == [pair.words for pair in pairs] and target.tolist() == [pair.label for pair in pairs]
        for index, pair, shown in zip(chosen, pairs, image.numpy(), strict=True):
            assert pair.scene == scenes[index] and (shown == mark(pixels[index], pair.image_cue)).all()
        assert group.tolist() == [2 * pair.label + getattr(pair, f"{cue}_cue") for pair in pairs]
