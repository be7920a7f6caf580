"""Checkpoints whose files contradict each other: processor against model, picture against tower."""

import json
import shutil

import pytest
import torch
from conftest import coco_folder
from test_kinds import DECODER_KINDS, TABLE, TRANSFORMERS, batches, kind_of, result

from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.takeable import takeable
from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.picture_fit import NORMALISATIONS
from attention_collapse.models.spec import ModelSpec

PROCESSOR, IMAGES, CONFIG = "processor_config.json", "preprocessor_config.json", "config.json"
(CLIP_MEAN, CLIP_STD), (HALF, _) = NORMALISATIONS["CLIP's"], NORMALISATIONS["SigLIP's"]
LLAVAS = ("llava", "llava-next")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    written = {}

    def folder(kind):
        if kind not in written:
            written[kind] = tmp_path_factory.mktemp("checkpoints") / kind
            TABLE[kind][0](written[kind])
        return written[kind]

    return folder


@pytest.fixture
def edited(folders, tmp_path):
    """A checkpoint with keys of one of its files changed; None takes a key out."""

    def edit(kind, file, changes):
        path = shutil.copytree(folders(kind), tmp_path / kind) / file
        content = json.loads(path.read_text()) if path.exists() else {}
        content = {key: value for key, value in (content | changes).items() if value is not None}
        path.write_text(json.dumps(content))
        return ModelSpec(kind=kind, weights="checkpoint", path=str(path.parent))

    return edit


# kind, file, change -> what the message must name; the numbers follow from pictures of 32 by 32 and patches of 8
DISAGREE = [
    *(
        (kind, file, change, said)
        for kind in LLAVAS
        for file, change, said in (
            (PROCESSOR, {"num_additional_image_tokens": None},
             "num_additional_image_tokens is absent from processor_config.json .taken as 0"),
            (PROCESSOR, {"num_additional_image_tokens": 5}, "processor_config.json has num_additional_image_tokens 5"),
            (PROCESSOR, {"patch_size": 16}, "processor_config.json has patch_size 16, but .*patch_size 8"),
            (PROCESSOR, {"patch_size": "8"}, "processor_config.json has patch_size '8'"),
            (PROCESSOR, {"patch_size": None}, "patch_size is absent from processor_config.json"),
            (PROCESSOR, {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy 'full', but"),
            (PROCESSOR, {"vision_feature_select_strategy": None}, "vision_feature_select_strategy is absent from"),
            (CONFIG, {"vision_feature_select_strategy": "full"}, "but config.json has vision_feature_.* 'full'"),
        )
    ),
    ("llava-next", IMAGES, {"image_grid_pinpoints": [[32, 32]]}, "has image_grid_pinpoints .* but config.json has"),
    ("llava-next", IMAGES, {"image_grid_pinpoints": None}, "image_grid_pinpoints is absent from preprocessor_config"),
    ("paligemma", IMAGES, {"image_seq_length": 4}, "places 4 and 4 image tokens .* makes 16 and 16 features: "
     "preprocessor_config.json has image_seq_length 4; config.json has vision_config.image_size 32"),
    ("paligemma", IMAGES, {"image_seq_length": None}, "image_seq_length is absent from"),
    *(
        (kind, PROCESSOR, {"image_seq_len": value}, said)
        for kind in ("idefics3", "smolvlm")
        for value, said in (
            (None, "image_seq_len is absent from processor_config.json .taken as 169"),
            (2, "places 10 and 6 image tokens .* makes 20 and 12 features: processor_config.json has image_seq_len 2"),
            (8, "processor_config.json has image_seq_len 8"),
        )
    ),
    ("smolvlm", IMAGES, {"max_image_size": {"longest_edge": 64}}, "image tokens for two pictures"),
    *(
        (kind, IMAGES, change, said)
        for kind in ("qwen2-vl", "qwen2-5-vl")
        for change, said in (
            ({"patch_size": 28}, "preprocessor_config.json has patch_size 28, but .* vision_config.patch_size 14"),
            ({"patch_size": 7}, "preprocessor_config.json has patch_size 7, but"),
            ({"merge_size": 1}, "has merge_size 1, but config.json has vision_config.spatial_merge_size 2"),
            ({"merge_size": 4}, "has merge_size 4, but config.json has vision_config.spatial_merge_size 2"),
            ({"temporal_patch_size": 1}, "has temporal_patch_size 1, but config.json has vision_config.temporal_patch"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "file", "change", "said"), DISAGREE)
def test_a_processor_that_does_not_fit_its_decoder_is_refused_with_file_and_key(kind, file, change, said, edited):
    with pytest.raises(ModelError, match=said) as caught:
        load(kind, edited(kind, file, change))
    assert "chat template" not in str(caught.value) and "(taken as None); " not in caught.value.got


@pytest.mark.parametrize("kind", LLAVAS)
def test_a_processor_without_its_own_file_is_refused(kind, folders, tmp_path):
    path = shutil.copytree(folders(kind), tmp_path / kind)
    (path / PROCESSOR).unlink()
    with pytest.raises(ModelError, match="patch_size is absent from processor_config.json"):
        load(kind, ModelSpec(kind=kind, weights="checkpoint", path=str(path)))


@pytest.mark.parametrize("kind", DECODER_KINDS)
def test_an_untrained_decoder_is_asked_too_and_whole_ones_agree(kind, folders):
    model = load(kind, ModelSpec(kind=kind, weights="untrained", architecture=str(folders(kind)), seed=1))
    assert not [note for note in model.provenance["notes"] if ".json" in note]


SQUARE = {"height": 64, "width": 64}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("clip", {"crop_size": {"height": 48, "width": 48}}),
        ("clip", {"do_center_crop": False}),
        ("siglip", {"size": SQUARE}),
        ("blip", {"size": SQUARE}),
        ("blip2", {"size": SQUARE}),
        ("flava", {"size": SQUARE, "crop_size": SQUARE}),
        ("idefics", {"image_size": 48}),
        ("llava", {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}),
        ("paligemma", {"size": SQUARE}),
    ],
)
def test_a_size_that_is_not_the_towers_is_refused(kind, change, edited):
    said = "does not fit the image tower: it makes (48 × 48|64 × 64|32 × 42) pixels where config.json has image_size 32"
    with pytest.raises(ModelError, match=said):
        load(kind, edited(kind, IMAGES, change))


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("clip", {"crop_size": {"height": 0, "width": 0}}, "has crop_size height 0, width 0"),
        ("clip", {"size": {"shortest_edge": 0}}, "has size shortest_edge 0"),
        ("siglip", {"size": {"height": 0, "width": 0}}, "has size height 0, width 0"),
        ("vilt", {"size_divisor": 7}, "has size_divisor 7, where config.json has patch_size 8"),
        ("qwen2-vl", {"min_pixels": 10**7, "max_pixels": 100}, "min_pixels .* 10000000, above max_pixels .* 100"),
        ("qwen2-vl", {"min_pixels": 0, "max_pixels": 0}, "longest_edge 0"),
    ],
)
def test_a_size_that_no_picture_can_have_is_named_by_its_key(kind, change, said, edited):
    with pytest.raises(ModelError, match=f"{IMAGES} .*{said}"):
        load(kind, edited(kind, IMAGES, change))


@pytest.mark.parametrize(
    ("kind", "part", "change", "said"),
    [
        ("clip", "text_config", {"eos_token_id": [663]}, r"text_config.eos_token_id \[663\](.|\n)*one whole number"),
        ("clip", "text_config", {"hidden_act": "nope"}, r"text_config.hidden_act 'nope'(.|\n)*quick_gelu"),
        ("clip", "vision_config", {"patch_size": 0}, r"vision_config.patch_size 0(.|\n)*1 or more"),
        ("clip", "text_config", {"num_attention_heads": 0}, r"text_config.num_attention_heads 0(.|\n)*1 or more"),
        ("clip", "text_config", {"vocab_size": 9999}, r"token_embedding.weight is .* config.json makes it \(9999, "),
        ("clip", "vision_config", {"patch_size": 16}, r"patch_embedding.weight is .*, 8, 8.* makes it .*, 16, 16"),
        ("clip", "text_config", {"eos_token_id": "663"}, r"field 'eos_token_id': TypeError: .*'663'"),
        ("llava", "", {"vision_feature_layer": 50}, r"vision_feature_layer 50(.|\n)*layers from -3 to 2"),
        ("llava", "", {"vision_feature_layer": [-1, -99]}, r"vision_feature_layer \[-1, -99\]"),
    ],
)
def test_a_value_of_the_configuration_that_cannot_be_is_named_with_what_it_may_be(
    kind, part, change, said, folders, edited
):
    own = json.loads((folders(kind) / CONFIG).read_text())
    with pytest.raises(ModelError, match=said):
        load(kind, edited(kind, CONFIG, {part: own[part] | change} if part else change))


def test_a_picture_of_one_token_has_no_entropy_and_is_refused(edited, tmp_path):
    pairs = table(read_folder(coco_folder(tmp_path / "pairs", n=3))[0], "folder")
    model = load("qwen2-vl", edited("qwen2-vl", IMAGES, {"min_pixels": 1, "max_pixels": 100}))
    with pytest.raises(ModelError, match=r"becomes 1 image token.*can only be 0(.|\n)*max_pixels"):
        takeable(model, pairs)


@pytest.mark.parametrize("kind", [kind for kind in TRANSFORMERS if kind != "idefics"])  # its processor always scales
@pytest.mark.parametrize("change", [{"do_rescale": False}, {"rescale_factor": 1e-9}])
def test_pixels_of_another_scale_are_refused(kind, change, edited):
    if kind in {"siglip2", "mllama"} and "rescale_factor" in change:
        pytest.skip("its padding, 0, stands beside a black of -1")
    with pytest.raises(ModelError, match="black and white are"):
        load(kind, edited(kind, IMAGES, change))


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("clip", {"image_mean": HALF, "image_std": HALF}, "mean 0.5, 0.5, 0.5 .* SigLIP's, where .* CLIP's"),
        ("clip", {"do_normalize": False}, "pictures are not normalised"),
        ("llava", {"image_mean": HALF, "image_std": HALF}, "SigLIP's, where .* CLIP's"),
        ("siglip", {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}, "CLIP's, where .* SigLIP's"),
        ("paligemma", {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}, "CLIP's, where .* SigLIP's"),
        ("vilt", {"size": {"shortest_edge": 64}}, "size 64, config.json has image_size"),
    ],
)
def test_what_is_unusual_but_possible_is_said(kind, change, said, edited):
    import re

    [note] = [note for note in load(kind, edited(kind, IMAGES, change)).provenance["notes"] if IMAGES in note]
    assert re.search(said, note)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_of_a_whole_checkpoint_nothing_is_said_and_it_runs(kind, folders):
    model = load(kind, ModelSpec(kind=kind_of(kind), weights="checkpoint", path=str(folders(kind))))
    assert not [note for note in model.provenance["notes"] if ".json" in note]
    with torch.inference_mode():
        assert all(result(model, batch).isfinite().all() for batch in batches(model))


@pytest.mark.parametrize(
    ("name", "acts", "said"),
    [
        ("openai-clip", ("gelu", "gelu"), "hidden_act is gelu, where OpenAI's weights were trained with quick_gelu"),
        ("openai-clip", ("quick_gelu", "quick_gelu"), None),
        ("laion", ("gelu", "gelu"), None),
        ("laion", ("gelu", "quick_gelu"), "hidden_act is gelu in text_config and quick_gelu in vision_config"),
    ],
)
def test_an_activation_that_contradicts_the_weights_origin_is_said(name, acts, said, folders, tmp_path):
    path = shutil.copytree(folders("clip"), tmp_path / name)
    config = json.loads((path / CONFIG).read_text())
    for part, act in zip(("text_config", "vision_config"), acts, strict=True):
        config[part]["hidden_act"] = act
    (path / CONFIG).write_text(json.dumps(config))
    notes = load("m", ModelSpec(kind="clip", weights="checkpoint", path=str(path))).provenance["notes"]
    assert [note for note in notes if "hidden_act" in note] == ([f"config.json: {said}"] if said else [])


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_folder_as_the_library_saves_it_now_is_whole_too(kind, folders, tmp_path):
    """Version 5 writes the image processor's settings into processor_config.json."""
    model = load(kind, ModelSpec(kind=kind, weights="checkpoint", path=str(folders(kind))))
    model.module.save_pretrained(tmp_path / kind)
    model._processor.save_pretrained(tmp_path / kind)
    assert not (tmp_path / kind / IMAGES).exists()
    notes = load(kind, ModelSpec(kind=kind, weights="checkpoint", path=str(tmp_path / kind))).provenance["notes"]
    assert not [note for note in notes if ".json" in note]


def test_what_is_wrong_there_is_said_of_that_file(folders, tmp_path):
    model = load("clip", ModelSpec(kind="clip", weights="checkpoint", path=str(folders("clip"))))
    model.module.save_pretrained(tmp_path / "clip")
    model._processor.image_processor.crop_size = {"height": 48, "width": 48}
    model._processor.save_pretrained(tmp_path / "clip")
    with pytest.raises(ModelError, match="does not fit the image tower(.|\n)*take processor_config.json from"):
        load("clip", ModelSpec(kind="clip", weights="checkpoint", path=str(tmp_path / "clip")))
