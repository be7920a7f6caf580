"""What a model can read of the captions: counted, said, and refused where it is too little; for every kind."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT, coco_folder, photograph
from PIL import Image
from tiny.encoders import write_align, write_blip, write_clip, write_openclip_siglip
from tiny.inhouse import write_fusion_v1, write_fusion_v2
from transformers import PreTrainedTokenizerFast

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.captions import examine_captions, read_captions
from attention_collapse.engine.seeing import require_told_apart
from attention_collapse.errors import DataError, ModelError, ParamsError
from attention_collapse.models import load
from attention_collapse.models.caption_tokens import caption_tokens, has_content
from attention_collapse.models.interface import Provenance
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.small import WRITERS, planted_spec
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import parse_spec
from attention_collapse.report.captions import caption_notes

SCENES = str(ROOT / "data" / "controls" / "openclip-scenes")
KNOWN = ["a red circle", "two red circles", "a blue square", "a circle on the left"]
FOREIGN = ["a zebra quietly munching hay", "surfers wearing neoprene", "kitchen appliances", "buses downtown"]


def folder(root, captions, images=None):
    """A COCO-layout folder with these captions, one an image."""
    made = coco_folder(root, n=len(captions), captions=1)
    file = made / "annotations" / "captions_val2017.json"
    data = json.loads(file.read_text())
    for record, caption in zip(data["annotations"], captions, strict=True):
        record["caption"] = caption
    file.write_text(json.dumps(data))
    return made


def pairs_of(root, captions):
    return table(read_folder(folder(root, captions))[0], "folder")


def scorer(function):
    return Scorer("mine", function, Provenance("x", None, None, None, 0, untrained=False))


def word_model(kind, path, words):
    """A small model of a kind whose vocabulary are these words."""
    path.mkdir()
    WRITERS[kind](path, words, 0)
    return load(kind, planted_spec(kind, path))


# -- tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_of_a_vocabulary_of_words_the_share_is_that_of_the_words_it_lacks(kind, tmp_path):
    model = word_model(kind, tmp_path / kind, ["a", "red", "circle", "blue"])
    pairs = pairs_of(tmp_path / "pairs", ["a red circle", "a blue zebra", "a red sofa on a"])
    found = read_captions(model, pairs)
    assert (found.n, found.n_tokens, found.n_unknown) == (3, 11, 3)  # zebra, sofa, on
    assert found.unknown_share == pytest.approx(3 / 11)
    assert found.unknown_words == ("zebra", "sofa", "on")
    said = caption_notes(found.to_dict() | {"ignored": []}, 0)[0]
    assert said.endswith("are unknown to the model, such as those of 'zebra', 'sofa', 'on'")
    assert (found.n_different, found.n_without_content, found.n_with_control_tokens) == (3, 0, 0)


@pytest.mark.parametrize("kind", WRITERS)
def test_most_of_the_text_unknown_is_an_error_unless_it_is_said_to_be_meant(kind, tmp_path):
    model = word_model(kind, tmp_path / kind, ["a", "red", "circle"])
    pairs = pairs_of(tmp_path / "pairs", ["a zebra eats hay", "a red bus", "people on the beach"])
    with pytest.raises(
        DataError, match=r"72.7% of the tokens of 3 captions(.|\n)*at most 50%(.|\n)*max_unknown"
    ) as error:
        read_captions(model, pairs)
    assert error.value.got.endswith("such as those of 'zebra', 'eats', 'hay'")
    assert read_captions(model, pairs, max_unknown=0.73).n_unknown == 8


def load_tiny(writer, kind, path):
    writer(path)
    return load(kind, ModelSpec(kind=kind, weights="checkpoint", path=str(path)))


def test_a_restricted_vocabulary_of_bytes_spells_out_what_it_does_not_know():
    model = load("scenes", ModelSpec(kind="openclip", weights="checkpoint", path=SCENES))
    known, foreign = (caption_tokens(model, texts) for texts in (KNOWN, FOREIGN))
    assert all(item.unknown == 0 for item in known)
    share = sum(item.unknown for item in foreign) / sum(len(item.ids) for item in foreign)
    assert share > 0.5


def test_clips_own_vocabulary_spells_out_no_english_word_and_every_foreign_letter():
    from open_clip import get_tokenizer

    class Described:
        tokenizer = get_tokenizer("ViT-B-32")

        def cleaned(self, texts):
            return [self.tokenizer.clean_fn(text) for text in texts]

    english = caption_tokens(Described(), [*KNOWN, *FOREIGN])
    assert sum(item.unknown for item in english) == 0
    [foreign] = caption_tokens(Described(), ["ꦏꦸꦕꦶꦁ"])  # Javanese: no piece of it is in the vocabulary
    assert foreign.unknown == len(foreign.ids) > 0


UNKNOWN = {"unk_token": "[UNK]"}


def fast(model, normalizer=None, pre=None):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **UNKNOWN)


def described(own):
    class Described:
        tokenizer = own

    return Described()


def test_a_word_is_spelled_out_if_more_than_half_of_its_pieces_are_single_letters():
    from tokenizers import models, pre_tokenizers

    words = ["[UNK]", "cat", "hay", *[f"##{letter}" for letter in "abcdehrsz"], "z", "2", "0", "##0", "猫", "##が"]
    vocabulary = {word: number for number, word in enumerate(words)}
    own = fast(models.WordPiece(vocabulary, **UNKNOWN), pre=pre_tokenizers.WhitespaceSplit())
    found = caption_tokens(described(own), ["cat", "cats", "zebra", "hay zebra 猫が 200", "dog"])
    # "cats" is a word and a letter; Japanese has no capitals, so that its single signs spell nothing; nor do digits
    assert [(len(item.ids), item.unknown) for item in found] == [(1, 0), (2, 0), (5, 5), (11, 5), (1, 1)]
    assert [item.unknown_words for item in found] == [(), (), ("zebra",), ("zebra",), ("dog",)]


def test_bytes_that_stand_for_a_letter_without_a_piece_are_unknown():
    from tokenizers import models, normalizers

    words = {"[UNK]": 0, "▁": 1, "c": 2, "a": 3, "t": 4, "▁c": 5, "▁ca": 6, "▁cat": 7}
    words |= {f"<0x{byte:02X}>": 8 + byte for byte in range(256)}
    merges = [("▁", "c"), ("▁c", "a"), ("▁ca", "t")]
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    own = fast(models.BPE(words, merges, byte_fallback=True, **UNKNOWN), spaces)
    found = caption_tokens(described(own), ["cat cat", "cat é"])
    assert [(item.unknown, item.unknown_words) for item in found] == [(0, ()), (2, ("é",))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a cat", True),
        ("...!?", False),
        ("<|endoftext|>", False),
        ("—", False),
        ("2", True),
        ("猫", True),
        ("🐈", True),
    ],
)
def test_content_is_a_letter_a_number_or_a_picture(text, says):
    assert has_content(text, ["<|endoftext|>"]) == says


def test_captions_that_say_nothing_or_the_same_are_counted(tmp_path):
    model = load_tiny(write_clip, "clip", tmp_path / "clip")
    pairs = pairs_of(tmp_path / "pairs", ["a cat", "A  CAT", "...", "<|endoftext|>", "a <|endoftext|> cat"])
    found = read_captions(model, pairs)
    assert (found.n_different, found.n_without_content, found.n_with_control_tokens) == (4, 2, 2)


def test_what_a_tokenizer_cleans_away_is_no_content(tmp_path):
    model = load_tiny(write_openclip_siglip, "openclip", tmp_path / "siglip")
    found = read_captions(model, pairs_of(tmp_path / "pairs", ["a cat", "!!! ...", "a, cat!"]), max_unknown=1)
    assert (found.n_without_content, found.n_different) == (1, 2)


# -- telling apart -------------------------------------------------------------------------------


def test_a_model_without_a_tokenizer_says_that_it_does_not_know(tmp_path):
    model = scorer(lambda images, texts: [float(len(text)) for text in texts])
    found = examine_captions(model, pairs_of(tmp_path / "pairs", ["a cat", "a dog house", "..."]))
    assert found["unknown_share"] is None and found["n_without_content"] == 1 and found["n_different"] == 3
    assert found["ignored"] == ["image"]
    assert "not known" in caption_notes(found, 0)[0]


def light(image):
    return float(np.asarray(image).mean())


@pytest.mark.parametrize(
    ("function", "ignored"),
    [
        (lambda images, texts: [len(text) * light(image) for image, text in zip(images, texts, strict=True)], []),
        (lambda images, texts: [light(image) for image in images], ["text"]),
        (lambda images, texts: [1.0] * len(texts), ["image", "text"]),
    ],
)
def test_what_a_scoring_function_does_not_depend_on_is_said(function, ignored, tmp_path):
    pairs = pairs_of(tmp_path / "pairs", ["a cat", "a dog house", "two red circles"])
    assert require_told_apart(scorer(function), pairs) == ignored


@pytest.mark.parametrize(
    ("writer", "kind"), [(write_clip, "clip"), (write_align, "align"), (write_openclip_siglip, "openclip")]
)
def test_an_encoder_whose_captions_or_images_are_all_one_is_refused(writer, kind, tmp_path, monkeypatch):
    model = load_tiny(writer, kind, tmp_path / kind)
    pairs = pairs_of(tmp_path / "pairs", KNOWN)
    assert require_told_apart(model, pairs) == []
    embed = model.embed

    for only in ("captions", "images"):

        def same(batch, only=only):
            found = embed(batch)
            is_text = "input_ids" in batch.inputs or "text" in batch.inputs
            if is_text == (only == "captions"):
                found = type(found)(found.embedding[:1].expand_as(found.embedding), None)
            return found

        monkeypatch.setattr(model, "embed", same)
        with pytest.raises(ModelError, match=rf"4 different {only} have one and the same embedding \(cosine 1.0\)"):
            require_told_apart(model, pairs)


@pytest.mark.parametrize(
    ("writer", "kind"), [(write_blip, "blip"), (write_fusion_v1, "fusion-v1"), (write_fusion_v2, "fusion-v2")]
)
def test_a_scorer_of_pairs_that_reads_no_text_is_refused_and_one_that_sees_no_image_is_named(
    writer, kind, tmp_path, monkeypatch
):
    model = load_tiny(writer, kind, tmp_path / kind)
    pairs = pairs_of(tmp_path / "pairs", KNOWN)
    assert require_told_apart(model, pairs) == []
    score = model.score
    monkeypatch.setattr(model, "score", lambda batch: 1 + 0 * score(batch))
    with pytest.raises(ModelError, match="4 different captions have one and the same score with one image"):
        require_told_apart(model, pairs)
    ids = model.ids
    monkeypatch.setattr(model, "score", lambda batch: (batch.inputs[ids].double() ** 2).sum(-1))
    assert require_told_apart(model, pairs) == ["image"]


def test_captions_or_images_that_are_one_are_nothing_to_tell_apart(tmp_path):
    model = load_tiny(write_clip, "clip", tmp_path / "clip")
    made = folder(tmp_path / "pairs", ["a cat"] * 3)
    for number in (1, 2, 3):
        photograph(made / "val2017" / f"{number:012d}.jpg", seed=0)
    found = examine_captions(model, table(read_folder(made)[0], "folder"))
    assert found["n_different"] == 1 and found["ignored"] == []
    assert any("all 3 captions are the same to the model" in line for line in caption_notes(found, 0))


def test_pictures_of_one_colour_in_different_files_are_one_picture(tmp_path):
    model = load_tiny(write_clip, "clip", tmp_path / "clip")
    made = folder(tmp_path / "pairs", KNOWN)
    for number in range(1, 5):
        Image.new("RGB", (30 + number, 40), (9, 9, 9)).save(made / "val2017" / f"{number:012d}.jpg")
    assert require_told_apart(model, table(read_folder(made)[0], "folder")) == []


def test_a_score_that_is_no_number_is_said_as_such(tmp_path):
    model = scorer(lambda images, texts: [float("nan")] * len(texts))
    with pytest.raises(ModelError, match="nan"):
        require_told_apart(model, pairs_of(tmp_path / "pairs", KNOWN))


# -- diagnose ------------------------------------------------------------------------------------


def test_diagnose_refuses_says_the_share_and_can_be_told(tmp_path, capsys):
    made = folder(tmp_path / "pairs", FOREIGN)
    command = ["diagnose", "--model", SCENES, "--pairs", str(made), "--out", str(tmp_path / "out.json")]
    assert main(command) == 1
    assert "of the tokens of 4 captions are unknown to the model" in capsys.readouterr().err
    assert main([*command, "--max-unknown", "0.99"]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["captions"]
    assert found["max_unknown"] == 0.99 and 0.5 < found["unknown_share"] < 1
    said = f"{100 * found['unknown_share']:.1f} % of the {found['n_tokens']} caption tokens are unknown to the model"
    assert said in capsys.readouterr().out


def test_the_description_of_a_model_may_say_it_too(tmp_path):
    made = folder(tmp_path / "pairs", FOREIGN)
    spec = {"kind": "openclip", "weights": "checkpoint", "path": SCENES, "max_unknown": 1}
    assert diagnose(spec, made).captions["max_unknown"] == 1
    with pytest.raises(DataError, match="unknown to the model"):
        diagnose(spec, made, max_unknown=0.1)  # the argument counts
    with pytest.raises(ParamsError, match="max_unknown is 2"):
        diagnose(spec, made, max_unknown=2)
    with pytest.raises(ParamsError, match="max_unknown"):
        parse_spec(spec | {"max_unknown": 1.5}, "model")


def test_the_permission_is_no_part_of_what_a_result_was_made_from():
    spec = {"kind": "openclip", "weights": "checkpoint", "path": SCENES}
    assert parse_spec(spec, "m").model_dump() == parse_spec(spec | {"max_unknown": 0.9}, "m").model_dump()


def test_cut_captions_and_captions_without_content_are_said_of_how_many(tmp_path):
    made = folder(tmp_path / "pairs", ["red circle " * 40, "a red circle", "!!!", "a circle"])
    text = diagnose(SCENES, made, max_unknown=1).text()
    assert "1 of 4 captions were longer than the context and were cut" in text
    assert "NOTE: 1 of 4 captions hold no word" in text


def test_an_additive_scorer_counts_its_cut_captions_though_it_has_no_attention(tmp_path):
    write_fusion_v1(tmp_path / "v1")
    made = folder(tmp_path / "pairs", ["a cat sits " * 40, "a cat", "two dogs"])
    spec = {"kind": "fusion-v1", "weights": "checkpoint", "path": str(tmp_path / "v1")}
    assert diagnose(spec, made, max_unknown=1).n_truncated == 1


def test_tokens_are_counted_without_the_context(tmp_path):
    """What a caption says beyond the context is unread, and counted as cut, not as unknown."""
    model = load_tiny(write_clip, "clip", tmp_path / "clip")
    with torch.inference_mode():
        [long] = caption_tokens(model, ["a cat " * 200])
    assert len(long.ids) >= 400 and long.unknown == 0
