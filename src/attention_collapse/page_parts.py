"""What the page of a model is made of, whether its pairs lie in a folder or one was just uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from PIL import Image

from attention_collapse.data.pairs import Pair, table
from attention_collapse.data.scenes import LICENSE
from attention_collapse.data.source import Pairs, read_pairs, recognise

if TYPE_CHECKING:
    from datasets import Dataset

    from attention_collapse.models.interface import Model
    from attention_collapse.models.spec import ModelSpec

SAMPLE = 100  # images that are read, unless the user says how many
MEAN_SIDE = 96  # pixels of the mean picture
HEADS = 32  # of these, images whose heads are averaged


def sampled_pairs(source: Any, how: Mapping[str, Any], *, n: int | None, seed: int, strict: bool) -> Pairs:
    """Checked pairs of a source: `n` of them, or at most `SAMPLE`; `how` it is read is as of `read_pairs`."""
    if n is None:
        n = min(SAMPLE, len(recognise(source, **how).entries)) or None  # of none, the error is that of `read_pairs`
    return read_pairs(source, **how, n=n, seed=seed, strict=strict)


def usable_pairs(
    model: Model, read: Pairs, *, strict: bool, max_unknown: float | None
) -> tuple[list[Pair], Dataset, list[dict[str, str]]]:
    """The pairs that the model can take, their table, and what was skipped and why; or what `diagnose` raises."""
    from attention_collapse.engine.captions import examine_captions
    from attention_collapse.engine.takeable import takeable

    sample, refused = takeable(model, table(read.pairs, read.format), strict=strict)
    examine_captions(model, sample, max_unknown=max_unknown)
    taken = set(sample["image_id"])
    skipped = [asdict(item) for item in (*read.skipped, *refused)]
    return [pair for pair in read.pairs if pair.entry.image_id in taken], sample, skipped


def twin_of(name: str, spec: ModelSpec, device: str) -> tuple[Model | None, str]:
    """The untrained twin of a model, or none and why there is none."""
    from attention_collapse.models import load
    from attention_collapse.models.twin import twin_spec

    found = twin_spec(name, spec)
    return (None, found) if isinstance(found, str) else (load(f"{name}, untrained", found, device), "")


def first_captions(pairs: Dataset, n: int) -> Dataset:
    """The first pairs, each with its first caption alone."""
    from datasets import Dataset

    rows = [
        row | {key: row[key][:1] for key in ("captions", "caption_ids", "foils")}
        for row in pairs.select(range(min(n, len(pairs))))
    ]
    return Dataset.from_list(rows, features=pairs.features)


def heads_of(model: Model | None, pairs: Dataset, batch_size: int) -> Any:
    """`engine.head_means` of a model; none of one without attention, None without a model."""
    from attention_collapse.engine.attention import extract
    from attention_collapse.engine.head_means import head_means
    from attention_collapse.families import NO_ATTENTION

    if model is None:
        return None
    if model.family == NO_ATTENTION:
        return []
    return head_means(extract(model, pairs, batch_size=batch_size).to_pandas())


def mean_picture(pairs: list[Pair]) -> Image.Image:
    """The mean of pictures, as `engine.scoring` scores it, of fewer pixels."""
    import numpy as np

    from attention_collapse.data.images import load_rgb

    total = np.zeros((MEAN_SIDE, MEAN_SIDE, 3))
    for pair in pairs:
        total += np.asarray(load_rgb(pair.path)[0].resize((MEAN_SIDE, MEAN_SIDE)), np.float64)
    return Image.fromarray((total / len(pairs)).round().astype(np.uint8))


def about_model(
    model: Model, spec: ModelSpec, pairs: list[Pair], *, where: str, there: int, skipped: list[dict[str, str]],
    twin: Model | None, twin_why: str, t_shap: bool,
) -> Any:  # fmt: skip
    """What the page says of the model and of the data."""
    from attention_collapse.families import NO_ATTENTION
    from attention_collapse.models.interface import DualEncoder, is_likelihood
    from attention_collapse.registry import kind_label
    from attention_collapse.report.explorer.model_page import About

    t_shap_why = "What single words and cells add to the score (T-SHAP) was not asked for: --t-shap."
    score = (
        "the scaled cosine of image and text (a logit)" if isinstance(model, DualEncoder) else "its own matching score"
    )
    if is_likelihood(model):
        score = "the caption's mean log-likelihood, in nats per token; it carries the caption's own probability"
    drawn = all(pair.entry.license == LICENSE for pair in pairs)
    return About(
        model=model.name, kind=kind_label(spec.kind), family=model.family, weights=str(model.provenance["weights"]),
        score=score, folder=where, n_there=there, n_scored=len(pairs), n_heads=min(HEADS, len(pairs)),
        skipped=skipped, has_attention=model.family != NO_ATTENTION, missing=dict(model.missing), twin_why=twin_why,
        twin_is="" if twin is None else str(twin.provenance["weights"]),
        pictures="drawings rendered by this package, not photographs" if drawn
        else "as they lie in the folder: nothing there says whether they are photographs",
        tokens_why="" if t_shap else t_shap_why, mean=mean_picture(pairs),
    )  # fmt: skip


def shown_pair(
    model: Model, twin: Model | None, pairs: list[Pair], chosen: Any, *, t_shap: bool, seed: int, batch_size: int
) -> Any:
    """One pair with all that the page shows of it."""
    from attention_collapse.data.images import load_rgb
    from attention_collapse.engine.pair_attention import pair_attention, picture_seen, same_shape
    from attention_collapse.models.interface import DualEncoder
    from attention_collapse.report.explorer.model_page import Shown

    pair, found = pairs[chosen.position], chosen.scores
    caption_id, caption, foils = pair.entry.captioned[0]
    picture, _ = load_rgb(pair.path)
    seen = picture_seen(
        model, model.images([picture]) if isinstance(model, DualEncoder) else model.pairs([picture], [caption])
    )
    looks = pair_attention(model, picture, caption)
    twins = None if twin is None else pair_attention(twin, picture, caption)
    return Shown(
        image_id=pair.entry.image_id, caption_id=caption_id, file=pair.path.name, caption=caption, why=chosen.why,
        scores=found, picture=picture if seen is None else seen, as_seen=seen is not None,
        other_picture=load_rgb(pairs[found.image_from].path)[0] if found.image_from >= 0 else None,
        other_caption=pairs[found.text_from].entry.captions[0] if found.text_from >= 0 else None,
        foils=[(foil.caption, foil.changed) for foil in foils], looks=looks,
        twin=twins if twins is not None and same_shape(looks, twins) else None,
        tokens=_tokens(model, picture, caption, looks, seed=seed, batch_size=batch_size) if t_shap else None,
    )  # fmt: skip


def _tokens(model: Model, picture: Any, caption: str, looks: Any, *, seed: int, batch_size: int) -> Any:
    """T-SHAP of a pair; None of a caption without players."""
    from attention_collapse.measures.token_shapley import PERMUTATIONS, token_shapley
    from attention_collapse.models.masking import games
    from attention_collapse.report.explorer.model_page import Tokens

    game = games(model, picture, [caption], batch_size)[0]
    if not game.tokens:
        return None
    found = token_shapley(game, text=game.tokens, image=game.side**2, seed=seed, permutations=PERMUTATIONS)
    known = [text for look in looks for text, group in look.others if group == "text"] or caption.split()
    names = [known[place] if place < len(known) else f"token {place + 1}" for place in range(game.tokens)]
    words, cells = found.phi[: game.tokens], found.phi[game.tokens :]
    return Tokens(
        tuple(names), tuple(map(float, words)), tuple(map(float, cells)), game.side, found.share, found.floor,
        game.masking,
    )  # fmt: skip
