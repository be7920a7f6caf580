"""A tokenizer that cannot be the model's own, for every kind of model: nothing plausible comes of it."""

import json
import shutil

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from test_kinds import DECODER_KINDS, TABLE, kind_of
from transformers import AutoTokenizer

from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.vocabulary import require_vocabulary

ROWS = [row for row in TABLE if row not in {"openclip (CoCa)", "fusion-v1"}]  # of other tokenizers than those beside
OF_TRANSFORMERS = [row for row in ROWS if row != "openclip-coca"]
VOCABULARY = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "merges.txt.gz")
SCENES = ROOT / "data" / "controls" / "openclip-scenes"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    written = {}

    def folder(row):
        if row not in written:
            written[row] = tmp_path_factory.mktemp("originals") / kind_of(row)
            TABLE[row][0](written[row])
        return written[row]

    return folder


@pytest.fixture
def copy(originals, tmp_path):
    """A checkpoint folder of a kind, and the folder within it that holds the tokenizer."""

    def of(row):
        whole = shutil.copytree(originals(row), tmp_path / kind_of(row))
        return whole, whole / "text_encoder" if row.startswith("fusion") else whole

    return of


def read(row, folder):
    return load("m", ModelSpec(kind=kind_of(row), weights="checkpoint", path=str(folder)))


def edit(file, change):
    data = json.loads(file.read_text("utf-8"))
    change(data)
    file.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize("row", OF_TRANSFORMERS)
@pytest.mark.parametrize("settings", [True, False])
def test_a_folder_without_tokenizer_files_is_refused_not_given_an_invented_tokenizer(row, settings, copy):
    whole, folder = copy(row)
    for name in VOCABULARY if settings else (*VOCABULARY, "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"no tokenizer files in(.|\n)*copy the tokenizer's files from the base model"):
        read(row, whole)


def test_open_clips_own_merges_that_are_absent_are_an_error(copy):
    whole, folder = copy("openclip-coca")
    (folder / "merges.txt.gz").unlink()
    with pytest.raises(ModelError, match="does not describe a model"):
        read("openclip-coca", whole)


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
def test_half_a_vocabulary_is_none(file, copy):
    whole, folder = copy("clip")
    for name in {"tokenizer.json", "vocab.json", "merges.txt"} - {file}:
        (folder / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer files"):
        read("clip", whole)


@pytest.mark.parametrize("row", OF_TRANSFORMERS)
def test_a_tokenizer_larger_than_the_embedding_says_both_sizes(row, copy):
    whole, folder = copy(row)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = len(tokenizer)
    tokenizer.add_tokens([f"zz{number}" for number in range(30)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=rf"ids up to {own + 29}, the embedding \d+ rows(.|\n)*resize_token_embed"):
        read(row, whole)


def few_words(data):
    """Ten words and the special tokens, at the ids from 0."""
    model, special = data["model"], [token["content"] for token in data["added_tokens"] if token["special"]]
    kept = [*special, *[word for word in model["vocab"] if word not in special][:10]]
    data["model"] = {"type": "WordLevel", "vocab": {word: place for place, word in enumerate(kept)}}
    data["model"]["unk_token"] = kept[-1]
    data["added_tokens"] = [
        token | {"id": kept.index(token["content"])} for token in data["added_tokens"] if token["special"]
    ]
    for part in (data.get("post_processor") or {}).get("special_tokens", {}).values():
        part["ids"] = [kept.index(token) for token in part["tokens"]]


@pytest.mark.parametrize("row", [row for row in OF_TRANSFORMERS if row not in {"openclip", "siglip", "metaclip-2"}])
def test_a_tokenizer_that_knows_a_small_part_of_the_embedding_is_refused(row, copy):  # the others: unigram lists
    whole, folder = copy(row)
    edit(folder / "tokenizer.json", few_words)
    for name in set(VOCABULARY) - {"tokenizer.json"}:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"has \d+ tokens, the embedding \d+ rows|no tokenizer files|no processor"):
        read(row, whole)


class Words:
    def __init__(self, size, first=0):
        self.size, self.first = size, first

    def get_vocab(self):
        return {str(number): number + self.first for number in range(self.size)}


@pytest.mark.parametrize(
    ("tokens", "rows"),
    [
        (49408, 49408),  # CLIP
        (32002, 32064),  # LLaVA: padded to a multiple of 64
        (151657, 151936),  # Qwen2-VL: of 256, and rows kept
        (50295, 51200),  # Phi: of 1,024
        (60, 64),
        (60, 128),
        (33, 64),
    ],
)
def test_embeddings_that_are_padded_fit(tokens, rows):
    require_vocabulary("m", "here", Words(tokens), rows)


@pytest.mark.parametrize(
    ("tokens", "rows"),
    [(30522, 49408), (2, 49408), (49408, 30522), (32000, 49408), (60, 49408), (7, 47), (65, 64)],
)
def test_another_models_tokenizer_does_not_fit(tokens, rows):
    with pytest.raises(ModelError, match=f"{rows} rows"):
        require_vocabulary("m", "here", Words(tokens), rows)


def test_ids_and_not_their_number_are_looked_up():
    with pytest.raises(ModelError, match="ids up to 104, the embedding 100 rows"):
        require_vocabulary("m", "here", Words(90, first=15), 100)
    require_vocabulary("m", "here", Words(90, first=15), 100, unread=range(100, 105))


def moved(role):
    """The tokenizer with the token of a role at a word's id, and the word at its."""

    def change(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        own = getattr(tokenizer, f"{role}_token")
        vocabulary = tokenizer.get_vocab()
        other = next(word for word in sorted(vocabulary) if word not in tokenizer.all_special_tokens)
        new = {own: vocabulary[other], other: vocabulary[own]}

        def swap(data):
            if isinstance(data["model"]["vocab"], dict):
                data["model"]["vocab"] |= {word: place for word, place in new.items() if word in data["model"]["vocab"]}
            for token in data["added_tokens"]:
                token["id"] = new.get(token["content"], token["id"])
            data["added_tokens"].sort(key=lambda token: token["id"])
            post = data.get("post_processor") or {}
            for name, part in (post.get("special_tokens") or {}).items():
                part["ids"] = [new.get(name, part["ids"][0])]
            for end in ("sep", "cls"):
                if end in post:
                    post[end] = [post[end][0], new.get(post[end][0], post[end][1])]

        edit(folder / "tokenizer.json", swap)
        settings = folder / "tokenizer_config.json"
        edit(settings, lambda data: data.pop("added_tokens_decoder", None))
        for name in set(VOCABULARY) - {"tokenizer.json"}:
            (folder / name).unlink(missing_ok=True)
        assert AutoTokenizer.from_pretrained(folder).get_vocab()[own] == new[own]

    return change


@pytest.mark.parametrize(
    ("row", "role"),
    [
        ("clip", "eos"), ("siglip2", "pad"), ("align", "pad"), ("blip", "pad"), ("blip", "sep"), ("blip2", "pad"),
        ("flava", "pad"), ("fusion-v2", "pad"),
    ],
)  # fmt: skip
def test_a_tokenizer_of_the_same_size_whose_special_tokens_lie_elsewhere_is_another_models(row, role, copy):
    whole, folder = copy(row)
    moved(role)(folder)
    with pytest.raises(ModelError, match=rf"{role}_token_id \d+(.|\n)*as the tokenizer has it(.|\n)*another model's"):
        read(row, whole)


def test_a_decoders_start_token_is_the_configurations(copy):
    whole, folder = copy("idefics3")
    edit(folder / "config.json", lambda data: data["text_config"].update(bos_token_id=509))
    with pytest.raises(ModelError, match=r"bos_token_id 509(.|\n)*bos_token_id 506, as the tokenizer has it"):
        read("idefics3", whole)


@pytest.mark.parametrize("row", ["align", "blip", "blip2", "vilt", "flava"])
def test_a_text_encoder_that_reads_out_at_its_class_token_gets_one(row, copy):
    whole, folder = copy(row)
    edit(folder / "tokenizer.json", lambda data: data.update(post_processor=None))
    edit(folder / "tokenizer_config.json", lambda data: data.update(tokenizer_class="PreTrainedTokenizerFast"))
    with pytest.raises(ModelError, match="captions begin with the token(.|\n)*does not add its special tokens"):
        read(row, whole)


# -- the end token ------------------------------------------------------------------------------


def test_a_clip_whose_configuration_names_no_end_token_finds_none_in_any_caption(copy):
    """The library's default, 49407, lies outside this vocabulary: every caption would be read at its first token."""
    whole, folder = copy("clip")
    edit(folder / "config.json", lambda data: data["text_config"].pop("eos_token_id"))
    with pytest.raises(ModelError, match="and not at the tokenizer's end token"):
        read("clip", whole)


def test_clips_known_slip_of_an_end_token_of_2_is_read_as_the_model_reads_it(copy):
    """The first configurations say 2, and the library then takes the largest id, which is the end token."""
    whole, folder = copy("clip")
    edit(
        folder / "config.json", lambda data: data["text_config"].update(eos_token_id=2, bos_token_id=0, pad_token_id=1)
    )
    model = read("clip", whole)
    [read_] = model.texts(["a cat", "a red cat on a table"]).reads
    assert read_.rows["readout"].argmax(-1).tolist() == [int(length) - 1 for length in read_.lengths]


def test_a_token_above_the_end_token_must_not_stand_in_a_caption_where_the_largest_id_is_read(copy):
    whole, folder = copy("clip")
    edit(folder / "config.json", lambda data: data["text_config"].update(eos_token_id=2, vocab_size=672))
    state = load_file(folder / "model.safetensors")
    table = state["text_model.embeddings.token_embedding.weight"]
    state["text_model.embeddings.token_embedding.weight"] = torch.cat([table, table[:8]])
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)
    model = read("clip", whole)
    model.texts(["a cat"])
    with pytest.raises(ModelError, match="reads the caption 'a zebra' out at the token 664, and not at"):
        model.texts(["a cat", "a zebra"])


def test_a_padding_token_above_the_end_token_is_not_the_end_of_a_caption(copy):
    """Padding that was added later has the largest id, so that a short caption would be read out there."""
    whole, folder = copy("clip")
    edit(folder / "config.json", lambda data: data["text_config"].update(eos_token_id=2, vocab_size=665))
    state = load_file(folder / "model.safetensors")
    table = state["text_model.embeddings.token_embedding.weight"]
    state["text_model.embeddings.token_embedding.weight"] = torch.cat([table, table[:1]])
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="'a' out at the token 664"):
        read("clip", whole).texts(["a", "a red cat on a table"])


@pytest.mark.parametrize(
    ("pool", "end", "message"),
    [("argmax", 2, "reads the caption 'a' out at the token"), ("eos", 2, "out at the token"), ("eos", 1, "")],
)
def test_an_open_clip_tower_that_looks_for_an_end_token_finds_the_tokenizers(pool, end, message, copy):
    """This tokenizer's end token is 1, and no largest id."""
    whole, folder = copy("openclip")

    def change(data):
        data["model_cfg"]["text_cfg"] |= {"pool_type": pool, "eos_id": end}

    edit(folder / "open_clip_config.json", change)
    if not message:
        [read_] = read("openclip", whole).texts(["a cat"]).reads
        assert int(read_.rows["readout"].argmax()) == int(read_.lengths[0]) - 1
        return
    with pytest.raises(ModelError, match=message):
        read("openclip", whole)


def test_words_are_counted_as_cut_after_the_tokenizers_own_cleaning(copy):
    """`clean: canonicalize` drops punctuation: 40 letters joined by ", " are 40 words and an end token of 64."""
    model = read("openclip", copy("openclip")[0])
    assert model.texts([", ".join(["a"] * 40), ", ".join(["a"] * 70)]).truncated == (False, True)
    full = [", ".join(["a"] * number) for number in (63, 64)]
    assert model.texts(full).truncated == (False, True)


@pytest.mark.parametrize("row", [*DECODER_KINDS, "openclip-coca", "openclip (CoCa)"])
def test_the_tokenizers_of_the_kinds_fit(row, originals):
    assert read(row, originals(row)).tokenizer


def test_the_trained_models_of_the_studies_have_their_own_tokenizers():
    assert read("openclip", SCENES).tokenizer
    assert read("align", SCENES.with_name("align-scenes")).tokenizer
