"""The page to look with, of a study or of one model on a user's own pairs: what a person at a prompt asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from attention_collapse import arguments
from attention_collapse.data.pairs import Pair, table
from attention_collapse.data.scenes import LICENSE
from attention_collapse.data.source import Columns, read_pairs, recognise
from attention_collapse.errors import PipelineError
from attention_collapse.files import write_text
from attention_collapse.inputs import named_of
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.explorer.overview import overview
from attention_collapse.report.explorer.page import Page, render
from attention_collapse.report.explorer.training import arm_views, dose_views
from attention_collapse.repository.check import find_study
from attention_collapse.study.sources import read_sources
from attention_collapse.study.watched import read_watched

if TYPE_CHECKING:
    from datasets import Dataset

    from attention_collapse.models.interface import Model
    from attention_collapse.models.spec import ModelSpec

SAMPLE = 100  # images that are scored, unless the user says how many
MOST_SHOWN = 40  # pairs of a page, so that it stays one that can be sent
MEAN_SIDE = 96  # pixels of the mean picture
HEADS = 32  # of these, images whose heads are averaged


def explore_study(name: str, root: Path, out: Path | None = None) -> Page:
    """The page of a study: its overview and its training views, from the committed metrics.

    Parameters
    ----------
    name
        A study of `params.yaml` or `studies/*/params.yaml`.
    root
        The repository's root.
    out
        Also write the page.

    Raises
    ------
    AttentionCollapseError
        There is no such study, or it has not run.
    """
    arguments.output_file("out", out)
    study = find_study(name, root)
    sources = read_sources(study)
    if sources.statistics is None:
        file = Path(study.params.params_file).with_name("dvc.yaml")
        command = "dvc repro" if file == Path("dvc.yaml") else f"dvc repro {file}"
        raise PipelineError(
            f"the study {name!r} has not run: {study.statistics.relative_to(root)} does not exist",
            expected="a study with statistics",
            remedy=f"run `{command}`, or name a study that has run",
        )
    doses, prevention = (
        Evidence.read(root, file) if file.is_file() else None for file in (study.doses, study.prevention)
    )
    watched, rang = read_watched(study)
    cited = [sources.pairs, sources.statistics, sources.decision, sources.validity, doses, prevention]
    html = render(
        "study.html", title=f"Which modality do these models use? Study “{name}”", scripts=["page.js"], data=None,
        **overview(sources, doses), doses=dose_views(doses), arms=arm_views(prevention, watched, rang),
        sources=[(source.file, source.run) for source in cited if source],
    )  # fmt: skip
    if out is not None:
        write_text(out, html)
    return Page(html)


def explore(
    model: str | PathLike[str] | Mapping[str, Any],
    pairs: Any,
    *,
    split: str | None = None,
    columns: Columns = None,
    images: str | PathLike[str] | None = None,
    n: int | None = None,
    show: int = 4,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int = 32,
    twin: bool = True,
    t_shap: bool = False,
    strict: bool = False,
    max_unknown: float | None = None,
    out: str | PathLike[str] | None = None,
) -> Page:
    """One model on a user's pairs, as a page to look with; a notebook displays what is returned.

    Parameters
    ----------
    model
        A name of `attention-collapse models`, a checkpoint folder, or a mapping as under `models` in params.yaml.
    pairs, split, columns, images
        A source of pairs and how it is read, as of `data.source.read_pairs`.
    n, seed
        Score a seeded subset of `n` images, each with its first caption; None: all, but at most 100. The seed also
        draws the pairs that are swapped in.
    show
        How many pairs the page shows, chosen by `engine.chosen_pairs.RULE`.
    twin
        Show the same architecture with random weights beside the model; it takes as much memory again.
    t_shap
        Also show what each word and image cell adds to the score: some hundred passes a pair.
    strict
        Fail on the first unusable image or caption instead of listing it.
    max_unknown
        Share of the captions' tokens that may be unknown to the model, as of `diagnose`.
    out
        Also write the page.

    Returns
    -------
    Page
        `.html` is one self-contained HTML text.

    Raises
    ------
    AttentionCollapseError
        For anything wrong with the model, the folder or an argument.
    """
    from attention_collapse.engine.captions import examine_captions
    from attention_collapse.engine.takeable import takeable

    target = arguments.output_file("out", out)
    how: dict[str, Any] = {"split": split, "columns": columns, "images": images}
    n, seed = arguments.optional_whole("n", n, least=1), arguments.seed(seed)
    show = arguments.whole("show", show, least=1, below=MOST_SHOWN + 1)
    batch_size, device = arguments.whole("batch_size", batch_size, least=1), arguments.device(device)
    strict, twin = arguments.flag("strict", strict), arguments.flag("twin", twin)
    t_shap = arguments.flag("t_shap", t_shap)
    max_unknown = arguments.optional_number("max_unknown", max_unknown, least=0, most=1)
    named = named_of(model)
    spec = named.spec
    name = named.name if isinstance(model, str | PathLike) else spec.path or spec.factory or named.name
    if n is None:
        n = min(SAMPLE, len(recognise(pairs, **how).entries)) or None  # of none, the error is that of `read_pairs`
    read = read_pairs(pairs, **how, n=n, seed=seed, strict=strict)
    loaded = named.load(device)
    sample, refused = takeable(loaded, table(read.pairs, read.format), strict=strict)
    examine_captions(loaded, sample, max_unknown=spec.max_unknown if max_unknown is None else max_unknown)
    taken, skipped = set(sample["image_id"]), [*read.skipped, *refused]
    checked = [pair for pair in read.pairs if pair.entry.image_id in taken]
    other, twin_why = _twin(name, spec, device) if twin else (None, "it was not asked for")
    about = _about(
        loaded, spec, checked, where=read.where, there=read.n_listed, skipped=[asdict(item) for item in skipped],
        twin=other, twin_why=twin_why, t_shap=t_shap,
    )  # fmt: skip
    html = _page(about, loaded, other, checked, sample, show=show, seed=seed, batch_size=batch_size, t_shap=t_shap)
    if target is not None:
        write_text(target, html)
    return Page(html)


def _page(
    about: Any, model: Model, twin: Model | None, pairs: list[Pair], sample: Dataset, *, show: int, seed: int,
    batch_size: int, t_shap: bool,
) -> str:  # fmt: skip
    """The page of a model and its twin; `sample`: the table of the pairs."""
    from attention_collapse.engine.chosen_pairs import chosen_pairs
    from attention_collapse.report.explorer.model_page import model_page

    chosen, scores = chosen_pairs(model, sample, show=show, seed=seed, batch_size=batch_size)
    shown = [_shown(model, twin, pairs, one, t_shap=t_shap, seed=seed, batch_size=batch_size) for one in chosen]
    few = _first_captions(sample, HEADS)
    return model_page(about, shown, scores, _heads(model, few, batch_size) or [], _heads(twin, few, batch_size))


def _twin(name: str, spec: ModelSpec, device: str) -> tuple[Model | None, str]:
    from attention_collapse.models import load
    from attention_collapse.models.twin import twin_spec

    found = twin_spec(name, spec)
    return (None, found) if isinstance(found, str) else (load(f"{name}, untrained", found, device), "")


def _first_captions(pairs: Dataset, n: int) -> Dataset:
    """The first pairs, each with its first caption alone."""
    from datasets import Dataset

    rows = [
        row | {key: row[key][:1] for key in ("captions", "caption_ids", "foils")}
        for row in pairs.select(range(min(n, len(pairs))))
    ]
    return Dataset.from_list(rows, features=pairs.features)


def _heads(model: Model | None, pairs: Dataset, batch_size: int) -> Any:
    """`engine.head_means` of a model; none of one without attention, None without a model."""
    from attention_collapse.engine.attention import extract
    from attention_collapse.engine.head_means import head_means
    from attention_collapse.families import NO_ATTENTION

    if model is None:
        return None
    if model.family == NO_ATTENTION:
        return []
    return head_means(extract(model, pairs, batch_size=batch_size).to_pandas())


def _mean(pairs: list[Pair]) -> Image.Image:
    """The mean of pictures, as `engine.scoring` scores it, of fewer pixels."""
    import numpy as np

    from attention_collapse.data.images import load_rgb

    total = np.zeros((MEAN_SIDE, MEAN_SIDE, 3))
    for pair in pairs:
        total += np.asarray(load_rgb(pair.path)[0].resize((MEAN_SIDE, MEAN_SIDE)), np.float64)
    return Image.fromarray((total / len(pairs)).round().astype(np.uint8))


def _about(
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
        tokens_why="" if t_shap else t_shap_why, mean=_mean(pairs),
    )  # fmt: skip


def _shown(
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
