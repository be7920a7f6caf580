"""Tiny randomly initialised checkpoints of vision-language encoders, in the layouts of their hub repositories.

Every writer fills an existing or new folder with configuration, weights, image processor and tokenizer files. The
tokenizers are trained on sixty captions, the weights drawn from one fixed seed, so a folder takes under a second and
less than one megabyte.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CAPTIONS = (
    "a black cat sleeping on a red sofa",
    "two cats sitting on a wooden table",
    "a small dog running across the green grass",
    "a brown dog with a yellow ball in its mouth",
    "a man walking his dog down a busy street",
    "a woman riding a blue bicycle next to a bus",
    "a white bowl of fruit on top of a table",
    "a red apple and two yellow bananas on a plate",
    "a group of people standing at a bus stop",
    "a red double decker bus driving down the road",
    "a yellow taxi parked in front of a tall building",
    "a traffic light hanging over an empty street",
    "a child holding a pink umbrella in the rain",
    "three children playing with a ball in the park",
    "an old man sitting on a bench near the lake",
    "a young girl eating a slice of pizza",
    "a kitchen with white cabinets and a silver oven",
    "a laptop, a phone and a cup of coffee on a desk",
    "a cat looking out of the window at a bird",
    "a bird flying over the blue water",
    "a brown horse standing in a field of grass",
    "two horses pulling a cart through the snow",
    "a flock of sheep on a green hill",
    "a black and white cow behind a wooden fence",
    "a large elephant walking towards the trees",
    "two zebras and a giraffe near a pond",
    "a man in a white shirt hitting a tennis ball",
    "a boy on a skateboard in the middle of the street",
    "a surfer riding a large wave in the ocean",
    "a person skiing down a snowy mountain",
    "a train at the station beside an orange platform",
    "an airplane flying high in a cloudy sky",
    "a boat on the river under a stone bridge",
    "a motorcycle parked beside a small green car",
    "a stop sign on the corner of a quiet street",
    "a fire hydrant painted red and yellow",
    "a clock on the side of a brick tower",
    "a vase of purple flowers on the window sill",
    "a bedroom with a large bed and two lamps",
    "a bathroom with a white sink and a mirror",
    "a table set with plates, forks and wine glasses",
    "a birthday cake with candles on a glass plate",
    "a sandwich and french fries on a paper plate",
    "a bunch of carrots and green broccoli",
    "a teddy bear lying on a purple blanket",
    "a gray kitten playing with a piece of string",
    "a woman holding a black dog in her arms",
    "a man cooking food in a large pan",
    "a couple of dogs lying under the table",
    "a tall tree in front of an orange sunset",
    "a crowd of people watching a baseball game",
    "a batter swinging his bat at the ball",
    "a kite flying above the sandy beach",
    "a street market selling fruit and vegetables",
    "a row of colorful houses along the street",
    "a police officer on a horse in the city",
    "a woman with a red suitcase at the airport",
    "a television and a shelf full of books",
    "a pair of scissors beside a sheet of blue paper",
    "the dog is on the left of the cat",
)
SEED = 0
SHARPNESS = 1.5  # standard deviation of a query's and a key's entries, for inputs of unit variance
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]
LANCZOS, BILINEAR, BICUBIC = 1, 2, 3  # PIL's numbers
QUERY_OR_KEY = re.compile(r"(^|\.)(q|q_proj|k_proj|query|key)\.weight$|(^|\.)[qk]_proj_weight$")
FUSED = {"qkv.weight": 2 / 3, "in_proj_weight": 2 / 3, "attn_pool.kv.weight": 1 / 2}  # share of queries and keys


# Weights


def _query_key_rows(model: nn.Module) -> Iterator[Tensor]:
    """The query and key projections of a model, also where they share a matrix with the values."""
    for name, weight in model.named_parameters():
        if QUERY_OR_KEY.search(name):
            yield weight
        for ending, share in FUSED.items():
            if name.endswith(ending):
                yield weight[: round(share * len(weight))]


@torch.no_grad()
def _enliven(model: nn.Module) -> nn.Module:
    """Sharpen the attention and draw the embeddings that initialisation leaves at zero."""
    for parameter in model.parameters():
        if parameter.ndim > 1 and float(parameter.std()) < 1e-6:
            nn.init.normal_(parameter, std=0.3)
    for rows in _query_key_rows(model):
        rows.mul_(SHARPNESS / (float(rows.std()) * math.sqrt(rows.shape[1])))
    return model.eval()


def _build(cls: Callable[[Any], nn.Module], config: Any) -> Any:
    """A model with this module's weights, which depend on nothing but the configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return _enliven(cls(config))


# Tokenizers


def _learn_merges(
    words: Iterable[tuple[str, ...]], number: int, join: Callable[[str, str], str] = str.__add__
) -> list[tuple[str, str]]:
    """Byte-pair encoding of words given as symbols: the `number` merges, the same ones every time."""
    counts = Counter(words)
    merges: list[tuple[str, str]] = []
    for _ in range(number):
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in counts.items():
            for pair in pairwise(symbols):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        merged: Counter[tuple[str, ...]] = Counter()
        for symbols, count in counts.items():
            left: list[str] = []
            for symbol in symbols:
                if left and (left[-1], symbol) == best:
                    left[-1] = join(*best)
                else:
                    left.append(symbol)
            merged[tuple(left)] += count
        counts = merged
    return merges


def _words() -> list[str]:
    return re.findall(r"\w+|,", " ".join(CAPTIONS))


@cache
def _wordpieces() -> dict[str, int]:
    """A WordPiece vocabulary: special tokens, letters, frequent pieces."""
    split = [(word[0], *(f"##{letter}" for letter in word[1:])) for word in _words()]
    merges = _learn_merges(split, 150, lambda left, right: left + right.removeprefix("##"))
    letters = [mark + letter for mark in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    pieces = [left + right.removeprefix("##") for left, right in merges]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *letters, *pieces]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def _bert_tokenizer(max_length: int, extra: Iterable[str] = (), options: dict[str, Any] | None = None) -> Any:
    """A tokenizer as bert-base-uncased has it, with further tokens at the end of the vocabulary."""
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(vocab=dict(_wordpieces()), model_max_length=max_length, **(options or {}))
    tokenizer.add_tokens(list(extra), special_tokens=True)
    return tokenizer


def _save_bert_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer, and the vocab.txt that hub repositories have beside it."""
    tokenizer.save_pretrained(folder)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), "utf-8")


@cache
def _clip_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary layout (bytes, bytes that end a word, merges, start, end) and the merges, for few merges."""
    from open_clip.tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    merges = _learn_merges([(*word[:-1], f"{word[-1]}</w>") for word in _words()], 150)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    return {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}, merges


def _unigram_pieces() -> list[tuple[str, float]]:
    """Pieces and log-probabilities of a T5-like vocabulary: padding, end, unknown, letters and whole words."""
    words = " ".join(CAPTIONS).replace(",", "").split()
    counts = {f"▁{word}": words.count(word) for word in words}
    pieces = [(piece, math.log(count / len(words))) for piece, count in sorted(counts.items())]
    letters = [(letter, -12.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    known = {piece for piece, _ in pieces}
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *(i for i in letters if i[0] not in known), *pieces]


def _unigram_json(**extra: Any) -> dict[str, Any]:
    """A tokenizer.json with the unigram vocabulary, an end token after every text, and `extra` parts."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import Unigram

    tokenizer = Tokenizer(Unigram(_unigram_pieces(), unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("</s>", "<unk>")])
    return json.loads(tokenizer.to_str()) | extra


def _sentencepiece_model() -> bytes:
    """The unigram vocabulary as a serialised SentencePiece model."""
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto()
    for index, (piece, score) in enumerate(_unigram_pieces()):
        kind = {0: proto.SentencePiece.CONTROL, 1: proto.SentencePiece.CONTROL, 2: proto.SentencePiece.UNKNOWN}
        proto.pieces.add(piece=piece, score=score, type=kind.get(index, proto.SentencePiece.NORMAL))
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.trainer_spec.pad_id, proto.trainer_spec.eos_id = 0, 1
    proto.trainer_spec.unk_id, proto.trainer_spec.bos_id = 2, -1
    proto.normalizer_spec.name = "identity"
    return bytes(proto.SerializeToString())


def _gemma_json() -> dict[str, Any]:
    """A tokenizer.json like Gemma's: BPE over text with ▁ for spaces, bytes for unknown letters, an end token."""
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    merges = _learn_merges([("▁", *word) for word in _words()], 150)
    pieces = [*"▁abcdefghijklmnopqrstuvwxyz0123456789.,", *("".join(merge) for merge in merges)]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return dict(json.loads(tokenizer.to_str()))


# Files


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False), "utf-8")


def _image_processor(folder: Path, processor: str, kind: str, **settings: Any) -> None:
    """Write preprocessor_config.json."""
    shared = {"do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255}
    names = {"image_processor_type": kind, "processor_class": processor}
    _write_json(folder / "preprocessor_config.json", shared | names | settings)


def _clip_processor(folder: Path) -> None:
    """Pictures of 32 pixels a side, as CLIP's processor makes them."""
    _image_processor(
        folder,
        "CLIPProcessor",
        "CLIPImageProcessor",
        size={"shortest_edge": 32},
        do_center_crop=True,
        crop_size={"height": 32, "width": 32},
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        resample=BICUBIC,
        do_convert_rgb=True,
    )


def write_clip(folder: Path) -> None:
    """CLIPModel: 4 vision layers, 3 causal text layers, both 32 wide."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    vocabulary, merges = _clip_bpe()
    end = vocabulary["<|endoftext|>"]
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "projection_dim": 24}
    ids = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    text = {"num_hidden_layers": 3, "vocab_size": len(vocabulary), "max_position_embeddings": 77, **ids}
    vision = {"num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(
        text_config=shared | text,
        vision_config=shared | vision,
        projection_dim=24,
        logit_scale_init_value=4.6052,
        architectures=["CLIPModel"],
    )
    _build(CLIPModel, config).save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77).save_pretrained(folder)
    _write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n", "utf-8")
    _clip_processor(folder)


def write_metaclip_2(folder: Path) -> None:
    """MetaClip2Model (facebook/metaclip-2-worldwide-b32): CLIP's towers and XLM-R's tokenizer (end token: 2)."""
    from transformers import MetaClip2Config, MetaClip2Model, XLMRobertaTokenizer

    special = ("<s>", "<pad>", "</s>", "<unk>")
    words = [piece for piece in _unigram_pieces() if piece[0] not in special]
    pieces = [*((token, 0.0) for token in special), *words, ("<mask>", 0.0)]
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "projection_dim": 24}
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    text = {"num_hidden_layers": 3, "vocab_size": len(pieces), "max_position_embeddings": 77, **ids}
    vision = {"num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
    config = MetaClip2Config(
        text_config=shared | text,
        vision_config=shared | vision,
        projection_dim=24,
        logit_scale_init_value=4.6052,
        architectures=["MetaClip2Model"],
    )
    _build(MetaClip2Model, config).save_pretrained(folder)
    XLMRobertaTokenizer(vocab=pieces, model_max_length=77).save_pretrained(folder)
    _clip_processor(folder)


def _siglip_scores(model: Any) -> Any:
    """A trained SigLIP's scale and bias of the logits."""
    with torch.no_grad():
        model.logit_scale.fill_(4.7648)
        model.logit_bias.fill_(-12.93)
    return model


def write_siglip(folder: Path) -> None:
    """SiglipModel: 4 vision layers and an attention pool, 3 text layers, both 32 wide.

    Its SiglipTokenizer needs the sentencepiece package; tokenizer.json holds the same vocabulary for those without.
    """
    from transformers import SiglipConfig, SiglipModel

    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    text = {"num_hidden_layers": 3, "vocab_size": len(_unigram_pieces()), "max_position_embeddings": 64}
    ids = {"pad_token_id": 1, "eos_token_id": 1, "bos_token_id": None}
    vision = {"num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
    config = SiglipConfig(text_config=shared | text | ids, vision_config=shared | vision, architectures=["SiglipModel"])
    _siglip_scores(_build(SiglipModel, config)).save_pretrained(folder)
    punctuation = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
    cleaning = [
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": punctuation}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ]
    _write_json(folder / "tokenizer.json", _unigram_json(normalizer={"type": "Sequence", "normalizers": cleaning}))
    (folder / "spiece.model").write_bytes(_sentencepiece_model())
    token = {"lstrip": True, "normalized": False, "rstrip": True, "single_word": False, "special": True}
    settings = {
        "added_tokens_decoder": {"1": {"content": "</s>", **token}, "2": {"content": "<unk>", **token}},
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "eos_token": "</s>",
        "model_input_names": ["input_ids"],
        "model_max_length": 64,
        "pad_token": "</s>",
        "processor_class": "SiglipProcessor",
        "sp_model_kwargs": {},
        "tokenizer_class": "SiglipTokenizer",
        "unk_token": "<unk>",
    }
    _write_json(folder / "tokenizer_config.json", settings)
    _image_processor(
        folder,
        "SiglipProcessor",
        "SiglipImageProcessor",
        size={"height": 32, "width": 32},
        image_mean=HALF,
        image_std=HALF,
        resample=BICUBIC,
    )


def write_siglip2(folder: Path) -> None:
    """Siglip2Model (NaFlex): 4 vision layers and an attention pool, 3 text layers, both 32 wide.

    Patches are as many and as large as in the real models: Siglip2Processor's own defaults override the files'.
    """
    from transformers import Siglip2Config, Siglip2Model

    tokenizer = _gemma_json()
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    text = {"num_hidden_layers": 3, "vocab_size": len(tokenizer["model"]["vocab"]), "max_position_embeddings": 64}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    vision = {"num_hidden_layers": 4, "num_patches": 256, "patch_size": 16}
    config = Siglip2Config(
        text_config=shared | text | ids, vision_config=shared | vision, architectures=["Siglip2Model"]
    )
    _siglip_scores(_build(Siglip2Model, config)).save_pretrained(folder)
    _write_json(folder / "tokenizer.json", tokenizer)
    settings = {
        "add_bos_token": False,
        "add_eos_token": True,
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<eos>",
        "model_input_names": ["input_ids"],
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "<pad>",
        "padding_side": "right",
        "processor_class": "Siglip2Processor",
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
    }
    _write_json(folder / "tokenizer_config.json", settings)
    _image_processor(
        folder,
        "Siglip2Processor",
        "Siglip2ImageProcessor",
        image_mean=HALF,
        image_std=HALF,
        max_num_patches=256,
        patch_size=16,
        resample=BILINEAR,
    )


def write_align(folder: Path) -> None:
    """AlignModel: a three-stage EfficientNet without attention, 3 BERT layers 32 wide."""
    from transformers import AlignConfig, AlignModel

    tokenizer = _bert_tokenizer(512)
    text = {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    vision = {
        "image_size": 32,
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "kernel_sizes": [3, 3, 5],
        "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 40],
        "strides": [1, 2, 2],
        "num_block_repeats": [1, 2, 1],
        "expand_ratios": [1, 2, 2],
        "hidden_dim": 40,
        "initializer_range": 0.2,
    }
    config = AlignConfig(
        text_config=text | {"vocab_size": len(tokenizer), "initializer_range": 0.2},
        vision_config=vision,
        projection_dim=40,
        temperature_init_value=0.1,
        architectures=["AlignModel"],
    )
    _build(AlignModel, config).save_pretrained(folder)
    _save_bert_tokenizer(tokenizer, folder)
    _image_processor(
        folder,
        "AlignProcessor",
        "EfficientNetImageProcessor",
        size={"height": 38, "width": 38},
        do_center_crop=True,
        crop_size={"height": 32, "width": 32},
        do_normalize=False,
        include_top=False,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        image_mean=HALF,
        image_std=HALF,
        resample=BILINEAR,
    )


def write_blip(folder: Path) -> None:
    """BlipForImageTextRetrieval: 4 vision layers, 3 text layers with cross-attention in each."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    tokenizer = _bert_tokenizer(512, extra=("[DEC]", "[ENC]"))
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.2}
    text = {"num_hidden_layers": 3, "vocab_size": len(tokenizer), "projection_dim": 32}
    ids = {"bos_token_id": len(tokenizer) - 2, "eos_token_id": 2, "pad_token_id": 0, "sep_token_id": 3}
    vision = {"num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
    config = BlipConfig(
        text_config=shared | text | ids,
        vision_config=shared | vision,
        projection_dim=24,
        image_text_hidden_size=24,
        initializer_range=0.2,
        architectures=["BlipForImageTextRetrieval"],
    )
    _build(BlipForImageTextRetrieval, config).save_pretrained(folder)
    _save_bert_tokenizer(tokenizer, folder)
    _image_processor(
        folder,
        "BlipProcessor",
        "BlipImageProcessor",
        size={"height": 32, "width": 32},
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        resample=BICUBIC,
    )


def write_blip2(folder: Path, *, image_tokens: bool = True) -> None:
    """Blip2ForImageTextRetrieval: 3 vision layers, 4 Q-Former layers with cross-attention in every other, 6 queries.

    With `image_tokens`, the processor puts one <image> token per query before the text and the model cuts them off
    again; without, as the repository was at first, neither happens.
    """
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    extra = ("[DEC]", "<image>") if image_tokens else ("[DEC]",)
    tokenizer = _bert_tokenizer(512, extra, {"bos_token": "[DEC]", "truncation_side": "right"})
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.2}
    former = {
        "num_hidden_layers": 4,
        "cross_attention_frequency": 2,
        "encoder_hidden_size": 32,
        "use_qformer_text_input": True,
        "vocab_size": len(tokenizer),
    }
    language = {"model_type": "opt", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 8}
    config = Blip2Config(
        vision_config=shared | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        qformer_config=shared | former,
        text_config=language,
        num_query_tokens=6,
        image_text_hidden_size=24,
        image_token_index=len(tokenizer) - 1 if image_tokens else None,
        initializer_range=0.2,
        architectures=["Blip2ForImageTextRetrieval"],
    )
    _build(Blip2ForImageTextRetrieval, config).save_pretrained(folder)
    _save_bert_tokenizer(tokenizer, folder)
    _image_processor(
        folder,
        "Blip2Processor",
        "BlipImageProcessor",
        size={"height": 32, "width": 32},
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        resample=BICUBIC,
        do_convert_rgb=True,
    )
    if image_tokens:
        _write_json(folder / "processor_config.json", {"num_query_tokens": 6, "processor_class": "Blip2Processor"})


def write_vilt(folder: Path) -> None:
    """ViltForImageAndTextRetrieval: 4 joint layers, shorter image side 32 in patches of 8 pixels."""
    from transformers import ViltConfig, ViltForImageAndTextRetrieval

    tokenizer = _bert_tokenizer(40)
    config = ViltConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        max_position_embeddings=40,
        initializer_range=0.2,
        architectures=["ViltForImageAndTextRetrieval"],
    )
    _build(ViltForImageAndTextRetrieval, config).save_pretrained(folder)
    _save_bert_tokenizer(tokenizer, folder)
    _image_processor(
        folder,
        "ViltProcessor",
        "ViltImageProcessor",
        size={"shortest_edge": 32},
        size_divisor=8,
        do_pad=True,
        image_mean=HALF,
        image_std=HALF,
        resample=BICUBIC,
    )


def write_flava(folder: Path) -> None:
    """FlavaForPreTraining: 4 image, 3 text and 2 multimodal layers, and a tiny image codebook."""
    from transformers import FlavaConfig, FlavaForPreTraining

    tokenizer = _bert_tokenizer(512)
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.2}
    config = FlavaConfig(
        text_config=shared | {"num_hidden_layers": 3, "vocab_size": len(tokenizer)},
        image_config=shared | {"num_hidden_layers": 4, "image_size": 32, "patch_size": 8, "vocab_size": 64},
        multimodal_config=shared | {"num_hidden_layers": 2},
        image_codebook_config={"hidden_size": 8, "vocab_size": 64, "num_blocks_per_group": 1},
        hidden_size=32,
        projection_dim=24,
        initializer_range=0.2,
        architectures=["FlavaForPreTraining"],
    )
    _build(FlavaForPreTraining, config).save_pretrained(folder)
    _save_bert_tokenizer(tokenizer, folder)
    _image_processor(
        folder,
        "FlavaProcessor",
        "FlavaImageProcessor",
        size={"height": 32, "width": 32},
        do_center_crop=True,
        crop_size={"height": 32, "width": 32},
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        resample=BICUBIC,
        input_size_patches=4,
        total_mask_patches=6,
        mask_group_min_patches=2,
        mask_group_min_aspect_ratio=0.3,
        codebook_do_resize=True,
        codebook_size={"height": 32, "width": 32},
        codebook_do_center_crop=True,
        codebook_crop_size={"height": 32, "width": 32},
        codebook_do_rescale=True,
        codebook_rescale_factor=1 / 255,
        codebook_do_map_pixels=True,
        codebook_do_normalize=True,
        codebook_image_mean=[0.0, 0.0, 0.0],
        codebook_image_std=[1.0, 1.0, 1.0],
        codebook_resample=LANCZOS,
    )


def _write_openclip(folder: Path, cls: Any, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any]) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors."""
    from safetensors.torch import save_file

    _write_json(
        folder / "open_clip_config.json",
        {"model_cfg": model_cfg | {"custom_text": True}, "preprocess_cfg": preprocess_cfg},
    )
    module = _build(lambda settings: cls(**settings), model_cfg)
    state = {key: value.contiguous() for key, value in module.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})


def write_openclip_siglip(folder: Path) -> None:
    """An open_clip CustomTextCLIP as timm/ViT-B-16-SigLIP: 4 timm layers and a latent attention pool, 3 text layers.

    timm builds its registered vit_base_patch16_siglip_224 with the smaller sizes in timm/config.json, to which
    open_clip_config.json holds the absolute path.
    """
    from open_clip import CustomTextCLIP

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 4, "mlp_ratio": 2}
    trunk = {"architecture": "vit_base_patch16_siglip_224", "num_classes": 0, "model_args": sizes}
    _write_json(
        folder / "timm" / "config.json", trunk | {"pretrained_cfg": {"input_size": [3, 32, 32], "num_classes": 0}}
    )
    vision = {
        "image_size": 32,
        "timm_model_name": f"local-dir:{(folder / 'timm').resolve()}",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    }
    text = {
        "context_length": 64,
        "vocab_size": len(_unigram_pieces()),
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 4,
        "layers": 3,
        "mlp_ratio": 2.0,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }
    model = {"embed_dim": 32, "init_logit_bias": -10, "vision_cfg": vision, "text_cfg": text}
    preprocess = {"mean": HALF, "std": HALF, "interpolation": "bicubic", "resize_mode": "squash"}
    _write_openclip(folder, CustomTextCLIP, model, preprocess)
    _write_json(folder / "tokenizer.json", _unigram_json())
    settings = {
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": True,
        "eos_token": "</s>",
        "extra_ids": 0,
        "model_max_length": 64,
        "pad_token": "</s>",
        "tokenizer_class": "T5Tokenizer",
        "unk_token": "<unk>",
    }
    _write_json(folder / "tokenizer_config.json", settings)


def write_openclip_coca(folder: Path) -> None:
    """An open_clip CoCa: 4 vision layers and a pool of 8 queries, 3 text layers, 2 decoder layers with cross-attention.

    Its merges are a file of its own, to keep the vocabulary small; the real models take those that open_clip brings.
    """
    from open_clip.coca_model import CoCa

    vocabulary, merges = _clip_bpe()
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "merges.txt.gz").open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=0, fileobj=raw, mtime=0) as stream,
    ):
        stream.write("\n".join(["#version: 0.2", *map(" ".join, merges)]).encode("utf-8"))
    vision = {"image_size": 32, "layers": 4, "width": 32, "head_width": 8, "patch_size": 8, "mlp_ratio": 2.0}
    pool = {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8, "output_tokens": True}
    shared = {"context_length": 76, "vocab_size": len(vocabulary), "width": 32, "heads": 4}
    text = {"layers": 3, "mlp_ratio": 2.0, "embed_cls": True, "output_tokens": True}
    model = {
        "embed_dim": 32,
        "vision_cfg": vision | pool,
        "text_cfg": shared | text | {"tokenizer_kwargs": {"bpe_path": "merges.txt.gz"}},
        "multimodal_cfg": shared | {"layers": 2, "mlp_ratio": 2, "attn_pooler_heads": 4},
    }

    def initialised(**settings: Any) -> CoCa:
        module = CoCa(**settings)
        nn.init.normal_(module.text_decoder.text_projection, std=0.2)  # which open_clip leaves as it finds the memory
        return module

    _write_openclip(folder, initialised, model, {"mean": CLIP_MEAN, "std": CLIP_STD})


ENCODERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "clip": (write_clip, "CLIPModel"),
    "metaclip_2": (write_metaclip_2, "MetaClip2Model"),
    "siglip": (write_siglip, "SiglipModel"),
    "siglip2": (write_siglip2, "Siglip2Model"),
    "align": (write_align, "AlignModel"),
    "blip": (write_blip, "BlipForImageTextRetrieval"),
    "blip2": (write_blip2, "Blip2ForImageTextRetrieval"),
    "vilt": (write_vilt, "ViltForImageAndTextRetrieval"),
    "flava": (write_flava, "FlavaForPreTraining"),
    "openclip_siglip": (write_openclip_siglip, "CustomTextCLIP"),
    "openclip_coca": (write_openclip_coca, "CoCa"),
}
