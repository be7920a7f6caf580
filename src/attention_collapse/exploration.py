"""The page to look with, of a study or of one model on a user's own pairs: what a person at a prompt asks for."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_collapse import arguments
from attention_collapse.data.pairs import Pair
from attention_collapse.data.source import Columns
from attention_collapse.errors import PipelineError
from attention_collapse.files import write_text
from attention_collapse.inputs import model_folders, named_of
from attention_collapse.page_parts import (
    HEADS,
    about_model,
    first_captions,
    heads_of,
    sampled_pairs,
    shown_pair,
    twin_of,
    usable_pairs,
)
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

MOST_SHOWN = 40  # pairs of a page, so that it stays one that can be sent


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
    arguments.output_file("out", out, form="page")
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
        Also show what each word and image cell adds to the score: some hundred passes per pair.
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
    target = arguments.output_file("out", out, form="page", keep_out=model_folders(model))
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
    read = sampled_pairs(pairs, how, n=n, seed=seed, strict=strict)
    loaded = named.load(device)
    limit = spec.max_unknown if max_unknown is None else max_unknown
    checked, sample, skipped = usable_pairs(loaded, read, strict=strict, max_unknown=limit)
    other, twin_why = twin_of(name, spec, device) if twin else (None, "it was not asked for")
    about = about_model(
        loaded, spec, checked, where=read.where, there=read.n_listed, skipped=skipped, twin=other, twin_why=twin_why,
        t_shap=t_shap,
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
    shown = [shown_pair(model, twin, pairs, one, t_shap=t_shap, seed=seed, batch_size=batch_size) for one in chosen]
    few = first_captions(sample, HEADS)
    return model_page(about, shown, scores, heads_of(model, few, batch_size) or [], heads_of(twin, few, batch_size))
