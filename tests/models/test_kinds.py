"""Every kind of model, small, from a folder in its hub's own layout, against references that do not use the probe.

Adding a kind: its module in `models/kinds`, and its row here.
"""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny.decoders import DECODERS
from tiny.encoders import ENCODERS
from tiny.inhouse import write_fusion_v1, write_fusion_v2
from tiny.recent import RECENT
from torch import nn
from torch.overrides import TorchFunctionMode

from attention_collapse.cli import main
from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION, DUAL_ENCODER, NO_ATTENTION, SINGLE_STREAM, THREE_GROUP
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.image_once import image_once
from attention_collapse.models.interface import DualEncoder, KindOfModel, PairScorer, Without, is_likelihood
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import GROUPS, IMAGE, TEXT
from attention_collapse.registry import LIBRARIES, kinds

# kind: (writer of its folder, family, layers read for vision, for text)
TABLE = {
    "openclip": (ENCODERS["openclip_siglip"][0], DUAL_ENCODER, 4, 3),
    "openclip (CoCa)": (ENCODERS["openclip_coca"][0], DUAL_ENCODER, 4, 3),
    "openclip-coca": (ENCODERS["openclip_coca"][0], CROSS_ATTENTION, 2, 2),
    "clip": (ENCODERS["clip"][0], DUAL_ENCODER, 4, 3),
    "metaclip-2": (ENCODERS["metaclip_2"][0], DUAL_ENCODER, 4, 3),
    "siglip": (ENCODERS["siglip"][0], DUAL_ENCODER, 4, 3),
    "siglip2": (ENCODERS["siglip2"][0], DUAL_ENCODER, 4, 3),
    "align": (ENCODERS["align"][0], DUAL_ENCODER, 0, 3),
    "blip": (ENCODERS["blip"][0], CROSS_ATTENTION, 3, 3),
    "blip2": (ENCODERS["blip2"][0], CROSS_ATTENTION, 2, 2),
    "vilt": (ENCODERS["vilt"][0], SINGLE_STREAM, 4, 4),
    "flava": (ENCODERS["flava"][0], SINGLE_STREAM, 2, 2),
    "idefics": (DECODERS["idefics"][0], CROSS_ATTENTION, 2, 2),
    "idefics3": (DECODERS["idefics3"][0], SINGLE_STREAM, 2, 2),
    "llava": (DECODERS["llava"][0], SINGLE_STREAM, 2, 2),
    "llava-next": (DECODERS["llava_next"][0], SINGLE_STREAM, 2, 2),
    "paligemma": (DECODERS["paligemma"][0], SINGLE_STREAM, 2, 2),
    "qwen2-vl": (DECODERS["qwen2_vl"][0], SINGLE_STREAM, 2, 2),
    "qwen2-5-vl": (DECODERS["qwen2_5_vl"][0], SINGLE_STREAM, 2, 2),
    "smolvlm": (DECODERS["smolvlm"][0], SINGLE_STREAM, 2, 2),
    "gemma3": (RECENT["gemma3"][0], SINGLE_STREAM, 3, 3),
    "internvl": (RECENT["internvl"][0], SINGLE_STREAM, 2, 2),
    "llava-onevision": (RECENT["llava_onevision"][0], SINGLE_STREAM, 2, 2),
    "mllama": (RECENT["mllama"][0], CROSS_ATTENTION, 2, 2),
    "qwen3-vl": (RECENT["qwen3_vl"][0], SINGLE_STREAM, 3, 3),
    "fusion-v1": (write_fusion_v1, NO_ATTENTION, 0, 0),
    "fusion-v2": (write_fusion_v2, THREE_GROUP, 1, 4),
}
TRANSFORMERS = [k for k in TABLE if not k.startswith(("openclip", "fusion"))]
DECODER_KINDS = [
    "idefics", "idefics3", "llava", "llava-next", "paligemma", "qwen2-vl", "qwen2-5-vl", "smolvlm",
    "gemma3", "internvl", "llava-onevision", "mllama", "qwen3-vl",
]  # fmt: skip
TEXTS = ["A cat sits on a red table.", "Two dogs run near a blue bus in the street."]


def kind_of(row):
    return row.split(" ")[0]


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in ((60, 80), (90, 64))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    written = {}

    def folder(row):
        writer = TABLE[row][0]
        if writer not in written:
            written[writer] = tmp_path_factory.mktemp("checkpoints") / kind_of(row)
            writer(written[writer])
        return written[writer]

    return folder


@pytest.fixture(scope="module")
def models(folders):
    loaded = {}

    def model(row):
        if row not in loaded:
            where = ModelSpec(kind=kind_of(row), weights="checkpoint", path=str(folders(row)))
            loaded[row] = load(row, where)
        return loaded[row]

    return model


def batches(model, images=None, texts=None):
    images, texts = images or pictures(), texts or TEXTS
    if isinstance(model, DualEncoder):
        return [model.images(images), model.texts(texts)]
    return [model.pairs(images, texts)]


def forward(model):
    """The function that runs a batch: to a score of each pair, or to the embeddings of a dual encoder."""
    return model.embed if isinstance(model, DualEncoder) else model.score


def result(model, batch):
    """(batch,) scores, or (batch, width) embeddings."""
    output = forward(model)(batch)
    return output.embedding if isinstance(model, DualEncoder) else output


class Reference(TorchFunctionMode):
    """Attention as the model itself computes it, eagerly: patterns (batch, head, query, key) and values by site.

    Softmax outputs are taken where they are made, at Python's level; `nn.MultiheadAttention`, which has a kernel of its
    own, is asked for its weights.
    """

    SOFTMAX = (torch.softmax, torch.Tensor.softmax, nn.functional.softmax)
    PRODUCT = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm)

    def __init__(self, module, sites):
        super().__init__()
        self.patterns, self.values, self.running, self.pending = {}, {}, [], None
        self.hooks = []
        for name, part in module.named_modules():
            if name not in sites:
                continue
            if isinstance(part, nn.MultiheadAttention):
                self.hooks.append(part.register_forward_pre_hook(self.ask(name), with_kwargs=True))
            else:
                if hasattr(part, "fused_attn"):  # timm
                    part.fused_attn = False
                self.hooks.append(part.register_forward_pre_hook(lambda *_, name=name: self.running.append(name)))
                self.hooks.append(part.register_forward_hook(lambda *_: (self.running.pop(), None)[1]))

    def ask(self, name):
        def hook(part, args, kwargs):
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            order = (lambda x: x.transpose(0, 1)) if part.batch_first else (lambda x: x)
            with torch._C.DisableTorchFunction():
                separate = {}
                if not part._qkv_same_embed_dim:
                    separate = {f"{x}_proj_weight": getattr(part, f"{x}_proj_weight") for x in "qkv"}
                _, weights = nn.functional.multi_head_attention_forward(
                    *(order(given[x]) for x in ("query", "key", "value")), part.embed_dim, part.num_heads,
                    part.in_proj_weight, part.in_proj_bias, None, None, False, 0.0, part.out_proj.weight,
                    part.out_proj.bias, training=False, need_weights=True, average_attn_weights=False,
                    attn_mask=given.get("attn_mask"), key_padding_mask=given.get("key_padding_mask"),
                    use_separate_proj_weight=bool(separate), **separate,
                )  # fmt: skip
            self.patterns[name] = weights.double()
            self.values[name] = given["value"].clone()

        return hook

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if self.running and func in self.SOFTMAX:
            self.pending = result
        elif self.running and func in self.PRODUCT and self.pending is not None:
            assert args[0].shape == self.pending.shape
            self.patterns[self.running[-1]] = self.pending.double()
            self.values[self.running[-1]] = args[1].movedim(-2, 1).flatten(2).clone()  # (batch, key, ...)
            self.pending = None
        return result


def captured(model, batch):
    """The reference's patterns and values; the model runs eagerly, and afterwards as it was."""
    sites = {site for read in batch.reads for site in read.sites}
    config = getattr(model.module, "config", None)
    before = None if config is None else config._attn_implementation
    if config is not None:
        model.module.set_attn_implementation("eager")
    reference = Reference(model.module, sites)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), reference:
            output = result(model, batch)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in reference.hooks:
            hook.remove()
        if before is not None:
            model.module.set_attn_implementation(before)
    assert reference.patterns.keys() == sites
    return reference, output


def reduced(p, labels, rows, group):
    """Means over query rows of the statistics of whole patterns, in float64."""
    own = (labels == group)[:, None, None] if group is not None else torch.ones(1, 1, 1, 1, dtype=torch.bool)
    part = (p * own) / (p * own).sum(-1, keepdim=True)
    count = ((p > 0) & own).sum(-1).double()  # (batch, head, query)
    entropy = torch.special.entr(part).sum(-1)
    weight, defined = rows[:, None], (rows[:, None] > 0) & (count > 1)
    result = {
        "entropy": (entropy.where(weight > 0, 0.0) * weight).sum(-1),
        "uniform": (count.log().where(weight > 0, 0.0) * weight).sum(-1),
        "support": (count * weight).sum(-1),
        "entropy_normalized": ((entropy / count.log()).where(defined, 0.0) * weight).sum(-1)
        / (weight * defined).sum(-1),
    }
    for index, name in enumerate(GROUPS):
        mine = (labels == index)[:, None, None]
        result[f"mass_{name}"] = ((p * mine).sum(-1).where(weight > 0, 0.0) * weight).sum(-1)
        result[f"support_{name}"] = (((p > 0) & mine).sum(-1).double() * weight).sum(-1)
    return result


def test_the_table_names_every_kind():
    users = {name for name, kind in kinds().items() if kind.library == "user"}
    assert {kind_of(row) for row in TABLE} | users == set(kinds()) and users == {"python", "scorer"}


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.name)
def test_a_kinds_module_says_what_is_read_without_importing_it(kind):
    assert kind.label and kind.library in LIBRARIES
    assert all(isinstance(name, str) for name in kind.model_types)
    for facts in kind.catalogue.values():
        assert {"weights", "licence", "millions"} <= facts.keys()


@pytest.mark.parametrize("row", TABLE)
def test_a_kinds_class_says_all_that_callers_ask_of_it(row, models):
    model = models(row)
    assert isinstance(model, DualEncoder) == (TABLE[row][1] == DUAL_ENCODER) != isinstance(model, PairScorer)
    [first, *others] = batches(model)
    inputs = first.inputs | (others[0].inputs if others else {})
    for name in (model.ids, model.caption, model.pixels, model.picture):
        assert (name in inputs) if isinstance(name, str) else (isinstance(name, Without) and name.why), name
    assert model.tokenizer.all_special_ids
    assert isinstance(model.pixels, Without) or inputs[model.pixels].ndim == 4
    assert model.picture in (model.pixels, model.picture) if isinstance(model.picture, str) else True
    if isinstance(model, PairScorer):
        assert isinstance(model.image_encoder, Without) or model.module.get_submodule(model.image_encoder)
        own = model.image_inputs
        assert isinstance(own, Without) or (set(own) < set(inputs) and not {model.ids, model.caption} & set(own))


def test_a_kind_that_forgets_what_would_be_slow_or_wrong_is_refused():
    with pytest.raises(ModelError, match="class Forgetful of .* does not say picture, image_inputs"):

        class Forgetful(KindOfModel):
            pixels = "pixel_values"
            image_encoder = Without("it has none")

    with pytest.raises(ModelError, match="class Forgetful of .* does not say is_likelihood"):

        class Forgetful(KindOfModel):
            pixels = picture = "pixel_values"
            image_encoder = image_inputs = Without("it has none")

            def pairs(self, pictures, captions):
                """It scores pairs, so that its score may be a likelihood."""


@pytest.mark.parametrize("row", TABLE)
def test_decoders_alone_score_by_a_likelihood_and_have_ids_that_it_is_of(row, models):
    model = models(row)
    assert is_likelihood(model) == (row in DECODER_KINDS or row == "openclip-coca")
    if TABLE[row][1] != DUAL_ENCODER:
        assert (model.token_embedding is not None) == is_likelihood(model)
        scores = [score for batch in batches(model) for score in result(model, batch).tolist()]
        assert not is_likelihood(model) or max(scores) < 0  # in nats per token


@pytest.mark.parametrize("row", TABLE)
def test_statistics_equal_those_of_the_models_own_eager_attention(row, models):
    model = models(row)
    _, family, vision, text = TABLE[row]
    assert model.family == family
    assert (len(model.sites.get("vision", ())), len(model.sites.get("text", ()))) == (vision, text)
    compared = 0
    for batch in batches(model):
        if not batch.reads:
            continue
        seen, output = probe_batch(model, batch, partial(result, model))
        reference, eager = captured(model, batch)
        for read in batch.reads:
            for site in read.sites:
                for name, rows in read.rows.items():
                    expected = reduced(reference.patterns[site], batch.groups[site], rows, read.group)
                    for key, value in expected.items():
                        found = torch.from_numpy(seen[read.tower][site][f"{key}_{name}"])
                        tolerance = 3e-5 if "entropy" in key else 1e-5
                        assert torch.allclose(found, value, atol=tolerance, rtol=1e-6, equal_nan=True), (
                            site,
                            key,
                            name,
                        )
                        compared += 1
        assert torch.allclose(output, eager, atol=1e-4)
    assert compared or family == NO_ATTENTION


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][1] != NO_ATTENTION])
def test_groups_are_true_pixels_move_image_keys_and_words_move_text_keys(row, models):
    """Ask the model: whose values move, before anything is mixed, when pixels or words change?"""
    model, checked = models(row), {IMAGE: 0, TEXT: 0}
    for batch in batches(model):
        if not batch.reads:
            continue
        base = captured(model, batch)[0].values
        moved = {}
        for name, keys in (("pixels", ("pixel_values", "image", "pixels")), ("words", ("input_ids", "text", "ids"))):
            inputs = dict(batch.inputs)
            for key in keys:
                if key in inputs:
                    inputs[key] = inputs[key] + 0.7 if name == "pixels" else other_words(inputs[key], batch, model)
            values = captured(model, replace(batch, inputs=inputs))[0].values
            moved[name] = {site: (base[site] != values[site]).flatten(2).any(-1) for site in base}
        for site in {read.sites[0] for read in batch.reads}:  # the first layer of each kind
            labels = batch.groups[site].expand(len(moved["words"][site]), -1)
            by_pixels, by_words = moved["pixels"][site], moved["words"][site]
            read = torch.stack([read.rows["all"] > 0 for read in batch.reads if site in read.sites]).any(0)
            seen = captured(model, batch)[0].patterns[site] * read[:, None, :, None]
            visible = seen.sum((1, 2)) > 0  # padding is no key
            image, text = (labels == IMAGE) & visible, (labels == TEXT) & visible
            assert by_pixels[image].all() and not by_words[image].any(), site
            assert by_words[text].all(), site
            # Where cross-attention comes before the first self-attention, the words already hold some of the image.
            assert bool(by_pixels[text].any()) == (row in MIXED_WORDS and site in model.sites["text"]), site
            checked[IMAGE] += int(image[0].sum())
            checked[TEXT] += int(text[0].sum())
            # And nothing else moves, but the special tokens that an encoder before this site has mixed.
            if not (row in MIXED_WORDS and site in model.sites["text"]):
                extra = (by_pixels & visible & ~image).sum(-1).tolist()
                assert extra == [MIXED_SPECIAL.get(row, (0, 0))[0] if image.any() else 0] * len(extra), site
            if (
                row == "openclip-coca" and site in model.sites["text"]
            ):  # a causal tower before it moves all that follows
                continue
            extra = (by_words & visible & ~text).sum(-1).tolist()
            assert extra == [MIXED_SPECIAL.get(row, (0, 0))[1] if text.any() else 0] * len(extra), site
    assert checked[IMAGE] == IMAGE_KEYS[row] and checked[TEXT] > 0


# Keys that hold the first picture, counted from the configurations in tests/tiny: grids of patches, latents, tiles.
IMAGE_KEYS = {
    "openclip": 16, "openclip (CoCa)": 16, "openclip-coca": 7, "clip": 16, "metaclip-2": 16, "siglip": 16,
    "siglip2": 14 * 18, "align": 0, "blip": 16, "blip2": 16, "vilt": 4 * 5, "flava": 16,
    "idefics": 6, "idefics3": 5 * 4, "llava": 16, "llava-next": 16 + 6 * 8, "paligemma": 16,
    "qwen2-vl": 2 * 3, "qwen2-5-vl": 2 * 3, "smolvlm": 5 * 4,
    "gemma3": 4, "internvl": 7 * 4, "llava-onevision": 16 + 6 * 8, "mllama": 2 * 16, "qwen3-vl": 2 * 2,
    "fusion-v2": 2 * 16,
}  # fmt: skip
# Special tokens that pixels, and words, move before the first site read: those that earlier encoders have mixed.
MIXED_SPECIAL = {"blip": (1, 0), "blip2": (1, 0), "flava": (1, 2), "mllama": (2, 0), "fusion-v2": (1, 2)}


# Kinds whose cross-attention to the image comes before the first self-attention read.
MIXED_WORDS = {"idefics", "mllama", "fusion-v2"}


def noisy_at(model, site, batch, queries):
    """The model's output with the attention output of one site changed: of each item at one query, its own."""

    def hook(module, _args, output):
        changed = output[0] if isinstance(output, tuple) else output
        changed = changed.clone()
        first = changed.shape[0] != len(batch.truncated)  # (query, batch, width)
        noise = torch.randn(changed.shape[-1], generator=torch.Generator().manual_seed(0))
        for item, query in enumerate(queries):
            changed[(query, item) if first else (item, query)] += noise
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.module.get_submodule(site).register_forward_hook(hook)
    try:
        with torch.no_grad():
            return result(model, batch)
    finally:
        handle.remove()


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][1] != NO_ATTENTION])
def test_the_readout_is_the_query_that_feeds_the_score(row, models):
    """Ask the model: change what one query of the last layer read receives, and see whether the score moves.

    Many queries at once, each in a copy of the first pair; the second pair, shorter, stands beside the copies.
    """
    model, (a, b) = models(row), pictures()
    for number, batch in enumerate(batches(model, [a, b], [TEXTS[1], TEXTS[0]])):
        for read in batch.reads:
            queries = read.rows["readout"].shape[1]
            copies = 31 if queries != 32 else 30  # a batch as long as the sequence would not say which is which
            many = batches(model, [a] * copies + [b], [TEXTS[1]] * copies + [TEXTS[0]])[number]
            base, moving = result(model, many), []
            for start in range(0, queries, copies):
                changed = range(start, min(start + copies, queries))
                after = noisy_at(model, read.sites[-1], many, changed)
                moving += [q for i, q in enumerate(changed) if (base[i] - after[i]).abs().max() > 1e-6]
            readout = read.rows["readout"][0].nonzero()[:, 0].tolist()
            if row in DECODER_KINDS or row == "openclip-coca":  # every query up to the readout feeds the likelihood
                assert readout == [max(moving)], read.tower
                assert set(read.rows["all"][0].nonzero()[:, 0].tolist()) - set(moving) <= {readout[0] + 1}
            elif row == "blip2" and read.tower == "vision":  # a later self-attention mixes the learned queries
                assert set(readout) == set(moving)
            elif row == "blip2":
                assert set(readout) <= set(moving)
            else:
                assert readout == moving, read.tower


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][1] != NO_ATTENTION])
def test_all_rows_are_every_real_query(row, models):
    """Real tokens counted without the model's own tables: by its tokenizer, and by the grid of patches."""
    model = models(row)
    special = {
        "clip": 2, "metaclip-2": 2, "openclip": 1, "openclip (CoCa)": 3, "siglip": 1, "siglip2": 1, "align": 2,
        "blip": 2,
    }  # fmt: skip
    for batch in batches(model):
        for read in batch.reads:
            counted = (read.rows["all"] > 0).sum(-1).tolist()
            weights = read.rows["all"].sum(-1)
            assert torch.allclose(weights, torch.ones_like(weights))
            if read.tower == "vision" and model.family == DUAL_ENCODER:
                class_token = row in {"clip", "metaclip-2", "openclip (CoCa)"}
                assert counted[0] == IMAGE_KEYS[row] + class_token and read.lengths.tolist() == counted
            elif row == "blip2" and read.tower == "vision":
                assert counted == [6, 6]  # the learned queries
            else:
                extra = special.get(row, 2 if row == "fusion-v2" and read.tower == "text" else 0)
                if row == "fusion-v2":
                    extra = 2
                assert counted == [len(words) + extra for words in tokens_of(model, row)], read.tower
                if read.tower == "text" and row in DECODER_KINDS:
                    assert read.lengths.tolist() == counted


def tokens_of(model, row):
    """The captions' own tokens, special ones left out."""
    tokenizer = model.tokenizer
    if row.startswith("openclip"):
        if tokenizer is model._tokenizer:
            return [tokenizer.encode(text) for text in TEXTS]
        return [tokenizer(model._tokenizer.clean_fn(t), add_special_tokens=False)["input_ids"] for t in TEXTS]
    lead = " " if row in {"idefics3", "smolvlm"} else ""  # a space goes with the word that follows it
    return [tokenizer(lead + text, add_special_tokens=False)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize(
    ("row", "logits"),
    [
        ("blip", lambda m, i: m(**i).itm_score),
        ("blip2", lambda m, i: m(**i, use_image_text_matching_head=True).logits_per_image),
        ("flava", lambda m, i: m(**i, return_loss=False).itm_logits),
    ],
)
def test_a_matching_heads_score_is_the_logit_of_match(row, logits, models):
    """Label 1 is "match" in all three libraries' training losses."""
    model = models(row)
    [batch] = batches(model)
    with torch.inference_mode():
        assert torch.allclose(model.score(batch), logits(model.module, batch.inputs)[:, 1], atol=1e-5)


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][1] != NO_ATTENTION and row not in DECODER_KINDS])
def test_unknown_words_are_words_and_long_captions_are_cut_and_told(row, models):
    model, image = models(row), pictures()[:1] * 2
    for batch in batches(model, image, ["a cat 猫 on 桌 table", "a cat sits " * 300]):
        if not any(read.tower == "text" for read in batch.reads):
            continue
        assert batch.truncated == (False, True)
        with torch.inference_mode():
            assert result(model, batch).isfinite().all()
        text = next(read for read in batch.reads if read.tower == "text")
        assert (batch.groups[text.sites[0]][0] == TEXT).sum() >= 6


@pytest.mark.parametrize("row", ["openclip-coca", "clip", "blip2", "fusion-v2"])
def test_an_untrained_model_is_its_seeds(row, folders):
    own = [
        load("x", ModelSpec(kind=kind_of(row), weights="untrained", architecture=str(folders(row)), seed=seed))
        for seed in (1, 1, 2)
    ]
    states = [model.module.state_dict() for model in own]
    fusion = [key for key in states[0] if row != "fusion-v2" or key.startswith("fusion.")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in fusion)
    assert any(not torch.equal(states[0][key], states[2][key]) for key in fusion)
    assert all(value.isfinite().all() for value in states[0].values())


def test_a_feature_encoder_that_lacks_tensors_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders("fusion-v2"), tmp_path / "broken")
    file = folder / "text_encoder" / "model.safetensors"
    state = load_file(file)
    del state[next(key for key in sorted(state) if "layer.0" in key)]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing(.|\n)*nothing is left random"):
        load("x", ModelSpec(kind="fusion-v2", weights="checkpoint", path=str(folder)))


def test_what_else_lies_in_a_folder_does_not_change_what_the_model_is(folders, tmp_path):
    folder = shutil.copytree(folders("clip"), tmp_path / "clip")
    spec = ModelSpec(kind="clip", weights="checkpoint", path=str(folder))
    before = load("x", spec).provenance
    (folder / "README.md").write_text("a page")
    (folder / "tf_model.h5").write_bytes(b"x")
    shutil.copy(folder / "model.safetensors", folder / "open_clip_model.safetensors")
    after = load("x", spec).provenance
    assert before == after


def other_words(ids, batch, model):
    """Each caption's words, moved on by one position: every word is then another."""
    text = next(read for read in batch.reads if read.tower == "text")
    labels = batch.groups[text.sites[0]]
    first = {"flava": 18, "blip2": 6, "fusion-v2": 17}.get(model.name, 0)  # keys before the text: image, queries
    before = 6 if model.name == "blip2" else 0  # placeholders before the words among the ids
    inside = labels[:, first:] == TEXT
    words = torch.zeros_like(ids, dtype=torch.bool)
    n = min(inside.shape[1], ids.shape[1] - before)
    words[:, before : before + n] = inside[:, :n]
    changed = ids.clone()
    for row, mine in zip(changed, words, strict=True):
        assert (row[mine] != row[mine].roll(1)).all()
        row[mine] = row[mine].roll(1)
    return changed


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][1] != DUAL_ENCODER])
def test_a_pairs_score_does_not_depend_on_its_batch(row, models):
    model = models(row)
    with torch.inference_mode():
        together = model.score(batches(model)[0])
        alone = [model.score(batches(model, [i], [t])[0])[0] for i, t in zip(pictures(), TEXTS, strict=True)]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)


# Kinds without an image encoder of their own, or whose encoder takes a row per tile or patch: they run as they are.
NO_ROW_AN_IMAGE = {
    "vilt", "llava-next", "llava-onevision", "internvl", "idefics3", "smolvlm", "qwen2-vl", "qwen2-5-vl", "qwen3-vl",
}  # fmt: skip


@pytest.mark.parametrize("row", [row for row in TABLE if TABLE[row][1] != DUAL_ENCODER])
def test_the_image_encoder_runs_once_on_an_image_and_the_scores_are_the_same(row, models):
    model, images = models(row), [*pictures(), pictures()[0].rotate(90)]
    passes = [[(0, 0), (0, 1), (1, 0)], [(1, 1), (2, 0), (2, 1)]]  # the image in the middle is in both

    def scores(announce=lambda _: None):
        found = []
        for pairs in passes:
            announce([image for image, _ in pairs])
            with torch.inference_mode():
                found.append(model.score(model.pairs([images[i] for i, _ in pairs], [TEXTS[t] for _, t in pairs])))
        return torch.cat(found)

    bare = scores()
    name = None if isinstance(model.image_encoder, Without) else model.image_encoder
    assert (name is None) == (row in NO_ROW_AN_IMAGE)
    encoder = model.module.get_submodule(name or "")
    [patches] = [part for part in encoder.modules() if isinstance(part, nn.Conv2d)] if name else [nn.Identity()]
    rows, tiles = [], 4 if row == "mllama" else 1  # its encoder cuts each image's row into tiles
    hook = patches.register_forward_pre_hook(lambda _, args: rows.append(len(args[0]) / tiles))
    with image_once(model) as announce:
        once = scores(announce)
    assert rows == ([1, 1, 1] if name else [])  # of 3 + 3 pairs, 3 images, each by itself
    assert torch.allclose(once, bare, atol=1e-5, rtol=0)
    assert torch.equal(scores(), bare) and rows[3:] == ([3, 3] if name else [])  # off again
    hook.remove()


@pytest.mark.parametrize("row", DECODER_KINDS)
def test_the_score_of_a_decoder_is_its_own_loss_on_the_caption(row, models):
    model = models(row)
    for image, text in zip(pictures(), TEXTS, strict=True):
        [batch] = batches(model, [image], [text])
        caption, inputs = batch.inputs["caption"], {k: v for k, v in batch.inputs.items() if k != "caption"}
        words = model.tokenizer.decode(inputs["input_ids"][caption])
        assert words.strip() == text  # exactly the caption, neither prompt nor end token
        labels = inputs["input_ids"].masked_fill(~caption, -100)
        with torch.inference_mode():
            if row == "idefics":  # its own loss leaves out the vocabulary's additional tokens and fails
                logits = model.module(**inputs).logits
                loss = nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100)
            else:
                loss = model.module(**inputs, labels=labels).loss
            assert model.score(batch).item() == pytest.approx(-loss.item(), abs=1e-4)


@pytest.mark.parametrize(
    ("row", "own"),
    [
        ("clip", lambda m, i: m(**i).logits_per_image),
        ("metaclip-2", lambda m, i: m(**i).logits_per_image),
        ("siglip", lambda m, i: m(**i).logits_per_image),
        ("siglip2", lambda m, i: m(**i).logits_per_image),
        ("align", lambda m, i: m(**i).logits_per_image),
        ("openclip", lambda m, i: m.get_logits(i["image"], i["text"])[0]),
        ("openclip (CoCa)", lambda m, i: m(i["image"], i["text"])["logit_scale"] * cosine(m(i["image"], i["text"]))),
    ],
)
def test_a_dual_encoders_score_is_the_models_own(row, own, models):
    model = models(row)
    images, texts = batches(model)
    with torch.inference_mode():
        expected = own(model.module, {**images.inputs, **texts.inputs})
        a, b = (model.embed(batch).embedding for batch in (images, texts))
        grid = model.logit_scale * a @ b.T + model.logit_bias
    assert torch.allclose(grid, expected, atol=1e-4)


def cosine(outputs):
    return outputs["image_features"] @ outputs["text_features"].T


def test_the_additive_scorer_has_no_interaction(models):
    model, (a, b) = models("fusion-v1"), pictures()
    with torch.inference_mode():
        v = {
            (i, t): model.score(batches(model, [image], [TEXTS[t]])[0]).item()
            for i, image in enumerate((a, b.resize(a.size)))  # pictures of one size: the metadata are the same
            for t in (0, 1)
        }
    assert v[0, 0] - v[0, 1] == pytest.approx(v[1, 0] - v[1, 1], abs=1e-5)


@pytest.mark.parametrize("row", TABLE)
def test_a_folder_is_recognised(row, folders):
    expected = {"openclip (CoCa)": "openclip", "openclip-coca": "openclip"}.get(row, kind_of(row))
    assert named(str(folders(row))).kind == expected


@pytest.mark.parametrize("row", ["clip", "llava", "fusion-v2"])
def test_untrained_weights_are_other_weights_and_say_so(row, folders, models):
    fresh = load("x", ModelSpec(kind=kind_of(row), weights="untrained", architecture=str(folders(row)), seed=1))
    assert fresh.provenance["untrained"] and fresh.provenance["weights"].startswith("UNTRAINED")
    trained, own = models(row).module.state_dict(), fresh.module.state_dict()
    assert own.keys() == trained.keys()
    assert any(not torch.equal(own[key], trained[key]) for key in own)


@pytest.mark.parametrize("row", TRANSFORMERS)
def test_a_missing_tensor_is_an_error_not_a_random_one(row, folders, tmp_path):
    folder = shutil.copytree(folders(row), tmp_path / "broken")
    [file] = folder.glob("*.safetensors")
    state = load_file(file)
    gone = next(key for key in sorted(state) if "layer" in key and key.endswith("weight"))
    del state[gone]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing(.|\n)*nothing is left random"):
        load("x", ModelSpec(kind=row, weights="checkpoint", path=str(folder)))


PRINTED = {
    DUAL_ENCODER: ("MCS", "a dual encoder holds no attention between modalities"),
    CROSS_ATTENTION: ("MCS", "cross-modal entropy", "no query sees both groups"),
    SINGLE_STREAM: ("MCS", "cross-modal entropy", "mass share of the image", "null of the mass share"),
    THREE_GROUP: ("MCS", "cross-modal entropy", "mass share of the image"),
    NO_ATTENTION: ("an additive scorer has no attention",),
}


@pytest.mark.parametrize("row", TABLE)
def test_diagnose_runs_every_kind_on_photographs(row, folders, coco_sample, capsys):
    command = ["diagnose", "--kind", kind_of(row), "--model", str(folders(row)), "--pairs", str(coco_sample)]
    assert main([*command, "--n", "4", "--partners", "2", "--max-unknown", "1"]) == 0  # the vocabularies are small
    printed = capsys.readouterr().out
    expected = PRINTED[TABLE[row][1]] if row != "align" else ("convolutional and has no attention", "entropy, text")
    for words in (*expected, "4 images, 20 pairs, 0 skipped", "choice between two images", "reliance on the text"):
        assert words in printed
