"""T-SHAP of pairs, on scoring functions whose answer is known and on a small dual encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coco_folder

from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.token_contribution import COLUMNS, token_contributions
from attention_collapse.errors import DataError, ModelError, ParamsError
from attention_collapse.models import load
from attention_collapse.models.interface import Provenance
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.spec import ModelSpec


@pytest.fixture
def pairs(tmp_path):
    return table(read_folder(coco_folder(tmp_path / "in", n=6, captions=2))[0], "folder")


@pytest.fixture(scope="module")
def tiny(tiny_openclip):
    return load("tiny", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))


def scorer(function):
    return Scorer("known", function, Provenance("x", None, None, None, 0, untrained=False))


def light(image):
    return float(np.asarray(image.convert("L"))[:10, :10].mean())


def words(text):
    return sum(word != "_" for word in text.split())


def run(model, pairs, images=4, seed=0, permutations=1, **options):
    options |= {"images": images, "seed": seed, "permutations": permutations}
    return token_contributions(model, pairs, batch_size=16, **options)


def test_ten_permutations_unless_others_are_asked_for_and_their_halves(pairs):
    model = scorer(
        lambda images, texts: [words(text) * light(image) for image, text in zip(images, texts, strict=True)]
    )
    frame = token_contributions(model, pairs, images=3, seed=0, batch_size=16)
    assert (frame["evaluations"] == 310).all()
    assert frame[["t_shap_first", "t_shap_second"]].notna().all().all()
    assert run(model, pairs)[["t_shap_first", "t_shap_second"]].isna().all().all()


def test_a_model_that_ignores_the_image_has_t_shap_1_and_one_that_ignores_the_text_0(pairs):
    blind = run(scorer(lambda images, texts: [words(text) for text in texts]), pairs)
    assert tuple(blind.columns) == COLUMNS
    assert blind["image_id"].tolist() == pairs["image_id"][:4]
    assert blind["caption_id"].tolist() == [ids[0] for ids in pairs["caption_ids"][:4]]
    assert (blind["t_shap"] == 1).all() and (blind["t_shap_foil"] == 1).all()
    assert (blind["text_tokens"] == 6).all() and (blind["patches"] == 9).all() and (blind["evaluations"] == 31).all()
    deaf = run(scorer(lambda images, texts: [light(image) for image in images]), pairs)
    assert (deaf["t_shap"] == 0).all() and (deaf["t_shap_foil"] == 0).all()
    assert deaf["t_shap_floor"].mean() == pytest.approx(6 / 15, abs=0.06)  # 40 shuffles, standard deviation about 0.1
    assert blind.attrs["masking"] == "absent words are '_'; absent cells are the mean colour"


def test_a_model_that_is_always_of_one_mind_has_none(pairs):
    frame = run(scorer(lambda images, texts: [1.0] * len(images)), pairs)
    assert frame[["t_shap", "t_shap_foil", "t_shap_floor"]].isna().all(axis=None)


def test_the_foil_is_the_caption_of_another_pair_with_the_same_image(pairs):
    said = {}

    def score(images, texts):
        for image, text in zip(images, texts, strict=True):
            if "_" not in text:
                said.setdefault(image.tobytes(), set()).add(text)
        return [words(text) + light(image) for image, text in zip(images, texts, strict=True)]

    run(scorer(score), pairs, images=6)
    first = [captions[0] for captions in pairs["captions"]]
    for own in range(6):
        whole = load_rgb(Path(pairs[own]["image"]["path"]))[0]
        [foil] = said[whole.tobytes()] - {first[own]}
        assert first[own] in said[whole.tobytes()] and foil in first


def test_shares_are_those_of_the_definition(pairs):
    """An additive score: each word is worth 1, and the image the mean of its red."""

    def red(image):
        return float(np.asarray(image)[..., 0].mean())

    frame = run(scorer(lambda images, texts: [words(t) + red(i) for i, t in zip(images, texts, strict=True)]), pairs, 2)
    for row in range(2):
        pixels = np.asarray(load_rgb(Path(pairs[row]["image"]["path"]))[0], float)[..., 0]
        mean = pixels.mean().round()
        height, width = pixels.shape
        cells = np.zeros(9)
        for y in range(height):
            for x in range(width):
                cells[y * 3 // height * 3 + x * 3 // width] += (pixels[y, x] - mean) / pixels.size
        assert frame["t_shap"][row] == pytest.approx(6 / (6 + np.abs(cells).sum()), abs=1e-9)


def test_caption_and_foil_share_their_masked_images(pairs, tiny):
    said = [
        "a red circle",
        "a red circle on the left",
        "the left circle",
        "a left picture",
        "on the left",
        "the red picture",
    ]
    pairs = pairs.map(lambda _, i: {"captions": [said[i]]}, with_indices=True)
    shapes = []
    hook = tiny.module.visual.register_forward_hook(lambda _m, args, _out: shapes.append(len(args[0])))
    try:
        frame = run(tiny, pairs, images=3)
    finally:
        hook.remove()
    assert frame["text_tokens"].tolist() == [3, 6, 3] and (frame["patches"] == 9).all()
    assert sum(shapes) == (2 * frame["patches"]).sum()  # the prefixes of one order, and their complements
    assert frame["t_shap"].between(0, 1).all() and (frame["t_shap"] != frame["t_shap_foil"]).all()
    assert frame.attrs["masking"] == "absent tokens are id 0; absent cells are 0 after normalisation"


def test_by_mm_shap_start_and_end_make_the_grid_and_permutations_are_ten(pairs, tiny):
    said = ["a red circle on the left", "a left picture"]  # 6 and 3 tokens, 8 and 5 ids
    pairs = pairs.map(lambda _, i: {"captions": [said[i % 2]]}, with_indices=True)
    frame = run(tiny, pairs, images=2, permutations=10, protocol="mm-shap")
    assert frame["text_tokens"].tolist() == [6, 3] and frame["patches"].tolist() == [9, 9]
    assert frame["t_shap"].between(0, 1).all() and frame["t_shap_foil"].between(0, 1).all()
    assert frame.attrs["protocol"] == "mm-shap" and "id 0 and attended, start and end" in frame.attrs["masking"]
    native = run(tiny, pairs, images=2, permutations=10)
    assert native.attrs["protocol"] == "native" and "attended" not in native.attrs["masking"]
    # 64 pixels by 3: cells of 21 and a rest of 1 here, cells of 22, 21 and 21 there.
    assert (native["t_shap"] != frame["t_shap"]).all()


def test_what_mm_shap_cannot_be_followed_for_is_refused(pairs, tiny):
    with pytest.raises(ParamsError, match="9 permutations by the protocol mm-shap(.|\n)*10(.|\n)*protocol native"):
        run(tiny, pairs, permutations=9, protocol="mm-shap")
    with pytest.raises(ModelError, match="known: T-SHAP by the protocol mm-shap .its tokens are not known"):
        run(scorer(lambda images, texts: [1.0] * len(texts)), pairs, permutations=10, protocol="mm-shap")


def test_captions_that_ask_for_different_grids_keep_their_own(pairs):
    several = pairs.map(
        lambda row, i: {"captions": [["a cat", "a cat on a red table near two dogs"][i % 2]]}, with_indices=True
    )
    frame = run(scorer(lambda images, texts: [words(t) for t in texts]), several, images=6)
    assert frame["text_tokens"].tolist() == [2, 9] * 3 and frame["patches"].tolist() == [4, 16] * 3
    assert (frame["t_shap"] == 1).all() and (frame["t_shap_foil"] == 1).all()


def test_a_budget_in_permutations(pairs):
    model = scorer(lambda images, texts: [words(t) * light(i) for i, t in zip(images, texts, strict=True)])
    frame = run(model, pairs, images=1, permutations=3)
    assert frame["evaluations"].tolist() == [93]


def test_the_seed_draws_foils_and_permutations(pairs, tiny):
    one, same, other = (run(tiny, pairs, images=2, seed=seed) for seed in (0, 0, 1))
    assert one.equals(same) and not one.equals(other)
    alone, again = (run(tiny, pairs.select([0]), seed=seed) for seed in (0, 1))  # no foil to draw
    assert alone["t_shap"][0] != again["t_shap"][0]


def test_without_another_pair_there_is_no_foil_and_without_tokens_no_share(pairs):
    model = scorer(lambda images, texts: [words(t) for t in texts])
    alone = run(model, pairs.select([0]))
    assert len(alone) == 1 and alone["t_shap"][0] == 1 and alone["t_shap_foil"].isna().all()
    mute = pairs.map(lambda row, i: {"captions": [" " if i == 0 else row["captions"][0]]}, with_indices=True)
    frame = run(model, mute.select([0, 1]))
    assert frame["t_shap"].isna().tolist() == [True, False] and frame["t_shap_foil"].isna().tolist() == [False, True]
    assert frame["evaluations"].tolist() == [0, 31] and len(run(model, pairs, images=0)) == 0


def test_a_score_that_is_no_number_names_the_model_and_the_image(pairs):
    model = scorer(None)  # a scoring function's own NaN is refused before: as one of a model's module it comes here
    model.score = lambda batch: torch.tensor([torch.nan if "_" in text else 1.0 for _, text in batch.inputs])
    with pytest.raises(DataError, match=r"known, image 1: \d+ NaN or infinite scores(.|\n)*half precision"):
        run(model, pairs)
