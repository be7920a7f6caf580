"""One model on one folder of pairs, without DVC: the pipeline's own functions, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from attention_collapse import arguments
from attention_collapse.data.fingerprint import fingerprint
from attention_collapse.data.pairs import table
from attention_collapse.data.source import Columns, Foils, read_pairs
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.extras import require
from attention_collapse.identity.environment import environment
from attention_collapse.inputs import Asked, Source, model_folders, source_of
from attention_collapse.measures.reliance import OF_DECISION
from attention_collapse.measures.token_shapley import PERMUTATIONS
from attention_collapse.models.naming import Named
from attention_collapse.params import Stats
from attention_collapse.progress import phase, told
from attention_collapse.report.diagnosis import Diagnosis, Outputs
from attention_collapse.report.estimate import Estimate
from attention_collapse.stats.few_images import too_few, withheld

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from attention_collapse.engine.kept import Kept
    from attention_collapse.engine.scores import Scores
    from attention_collapse.models.given import Given
    from attention_collapse.models.interface import Model


def diagnose(
    model: Any,
    pairs: Any,
    *,
    processor: Any = None,
    n: int | None = None,
    seed: int = 0,
    rows: str = "all",
    device: str = "cpu",
    batch_size: int = 32,
    partners: int = 8,
    t_shap_protocol: str | None = None,
    t_shap_images: int = 16,
    threads: int | None = None,
    strict: bool = False,
    max_unknown: float | None = None,
    split: str | None = None,
    columns: Columns = None,
    images: str | PathLike[str] | None = None,
    foils: Foils = None,
    out: str | PathLike[str] | None = None,
    per_pair: str | PathLike[str] | None = None,
    plots: str | PathLike[str] | None = None,
    work: str | PathLike[str] | None = None,
    engine: str | Mapping[str, Any] = "local",
    progress: bool | None = None,
) -> Diagnosis:
    """Measure a model's attention on pairs of image and caption.

    Parameters
    ----------
    model
        A name of `attention-collapse models`, a checkpoint folder, a hub id, or a mapping as under `models` in
        params.yaml; or a model object that is in memory, which is left as it was found (docs/your_model.md).
    processor
        The processor of a model object; for open_clip a pair (evaluation transform, tokenizer).
    pairs
        A path of any format that docs/data.md lists, the id of a data set of the hub, or an object of `datasets`.
    n, seed
        Use a seeded subset of `n` images; None uses all.
    rows
        Query rows of the headline: "all" or "readout".
    partners
        Ablation partners of the causal measures, each image with its first caption; 0 leaves them out.
    t_shap_protocol
        Explain single tokens and image cells too (T-SHAP) by this protocol: "native" or "mm-shap" (docs/measures.md,
        section 5). None leaves T-SHAP out: it takes some hundred passes per image.
    t_shap_images
        How many of the images T-SHAP explains, the first ones.
    threads
        CPU threads; None leaves PyTorch's setting.
    strict
        Fail on the first unusable image or caption instead of listing it under `skipped`.
    max_unknown
        Share of the captions' tokens, 0 to 1, that may be unknown to the model's tokenizer; with more of them it is an
        error. None: what the model's description says, else one half.
    split, columns, images, foils
        How the source of the pairs is read, as of `data.source.read_pairs`.
    out, per_pair, plots
        Also write the result as JSON, every pair's values as CSV or Parquet (by the name's ending), and figures into a
        folder: docs/diagnose.md describes them. A result that could not be written is the error's `result`.
    work
        Folder for finished batches: an interrupted run of the same model, data and settings goes on where it stopped.
    engine
        "local", or as under `engine` in params.yaml, such as {"kind": "ray", "actors": 4}: actors of Ray, which share
        the folder `work` (docs/cluster.md). No number depends on it.
    progress
        True tells on standard error what is done and how long the rest will take, at a terminal as bars, elsewhere as
        lines; False says nothing; None draws bars at a terminal and says nothing elsewhere.

    Returns
    -------
    Diagnosis
        Estimates of every measure with intervals and reasons, layers, readings, tests, what was skipped, where the
        weights came from, and what may be concluded; `print(result.text())` is what the command line prints.

    Raises
    ------
    AttentionCollapseError
        For anything wrong with the model, the folder or an argument.

    Examples
    --------
    >>> import tempfile
    >>> from attention_collapse.data.scenes import write_scenes

    >>> mine = {"kind": "scorer", "weights": "factory", "factory": "examples.scorer:score"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = diagnose(mine, write_scenes(folder, 4, seed=0), partners=1)
    >>> result.n_images, result.n_pairs, result["mcs"].mean  # four scenes of five captions; no attention, so no MCS
    (4, 20, None)
    """
    asked = Asked.of(
        n=n, seed=seed, rows=rows, device=device, batch_size=batch_size, partners=partners,
        t_shap_protocol=t_shap_protocol, t_shap_images=t_shap_images, threads=threads, strict=strict,
        max_unknown=max_unknown, engine=engine,
    )  # fmt: skip
    own = model_folders(model)
    outputs = Outputs.of(out, per_pair, plots, keep_out=own)
    kept_in = arguments.output_folder("work", work, keep_out=own)
    if progress is not None:
        arguments.flag("progress", progress)
    if pairs is None or isinstance(pairs, str | PathLike):  # else an object that holds the pairs
        pairs = arguments.path("pairs", pairs)
    require("models")
    chosen = source_of(model, processor)
    if asked.engine.kind != "local":
        _require_sharing(chosen, kept_in)
    source = Source(pairs, {"split": split, "columns": columns, "images": images, "foils": foils})
    with told(progress):
        result = _measured(chosen, source, asked, kept_in)
        result.save(outputs)
    return result


def _require_sharing(model: Named | Given, work: Path | None) -> None:
    """What actors need: a model that each can load, and a folder for what they make."""
    if not isinstance(model, Named):
        raise ParamsError(
            f"{model.name} is an object, and engine is not local",
            expected="a model that every actor can load: a name, a checkpoint folder, a hub id or a mapping",
            remedy="save it (`model.save_pretrained(FOLDER)`, with its processor) and give the folder",
        )
    if work is None:
        raise ParamsError(
            "engine is not local, and there is no folder for finished batches",
            expected="a folder that every node sees",
            remedy="name one with `work` (--work DIR)",
        )


def _measured(model: Named | Given, source: Source, asked: Asked, work: Path | None) -> Diagnosis:
    """Read, load, observe, swap and judge, in this order."""
    import torch

    from attention_collapse.engine.attention import extract_into
    from attention_collapse.engine.attention_table import blocks
    from attention_collapse.engine.captions import examine_captions
    from attention_collapse.engine.contribution import summarise
    from attention_collapse.engine.kept import Kept, kept
    from attention_collapse.engine.running import running
    from attention_collapse.engine.scores import score_blocks
    from attention_collapse.engine.takeable import takeable
    from attention_collapse.models.interface import is_likelihood
    from attention_collapse.models.specification import specification

    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    name = model.name
    phase(f"{name}: reading the pairs of {source}")
    read = read_pairs(source.pairs, **source.how, n=asked.n, seed=asked.seed, strict=asked.strict)
    phase(f"{name}: loading the model")
    loaded = model.load(asked.device)
    if not isinstance(model, Named):  # an object stays where it lies
        asked = replace(asked, device=str(next(loaded.module.parameters()).device))
    pairs, refused = takeable(loaded, table(read.pairs, read.format), strict=asked.strict)
    limit = model.spec.max_unknown if asked.max_unknown is None and model.spec else asked.max_unknown
    captions = examine_captions(loaded, pairs, max_unknown=limit)
    with TemporaryDirectory() as scratch:  # so that no batch stays in memory, whether it is kept or not
        parts = kept(work, loaded, model.spec, pairs, asked.device) or Kept(Path(scratch), "")
        phase(f"{name}: attention of {len(pairs)} images with {sum(map(len, pairs['captions']))} captions")
        seen = Path(scratch) / "attention.parquet"
        threads = asked.threads or torch.get_num_threads()
        with running(asked.engine, partial(model.load, asked.device), threads) as run:
            parts = replace(parts, run=run)
            extract_into(seen, loaded, pairs, batch_size=asked.batch_size, **parts.of("attention"))
            values, about = _contributions(loaded, pairs, asked, parts)
            causal = {} if values is None else summarise(values, Stats(), likelihood=is_likelihood(loaded))
            tokens = _tokens(loaded, pairs, causal, asked, parts)
        scores, heads = score_blocks(blocks(seen), loaded.family)
    if tokens is not None:
        about |= {"t_shap_protocol": asked.t_shap_protocol, "t_shap_images": asked.t_shap_images}
    phase(f"{name}: intervals and tests")
    return _diagnosis(
        loaded,
        pairs,
        Found(scores, heads, values, causal, tokens),
        settings=asked.settings
        | {"source": read.describe(), "specification": specification(loaded, model.spec)}
        | about,
        noted={"captions": captions, "skipped": [asdict(item) for item in [*read.skipped, *refused]]},
    )


@dataclass(frozen=True)
class Found:
    """What was seen of attention; what the causal measures gave, values and summary, and T-SHAP, where asked for."""

    scores: Scores
    heads: pd.DataFrame
    values: pd.DataFrame | None
    causal: dict[str, Any]
    tokens: tuple[pd.DataFrame, dict[str, Any]] | None


def _tokens(
    model: Model, pairs: Dataset, causal: dict[str, Any], asked: Asked, parts: Kept
) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """T-SHAP's values and summary, undefined where the model cannot be played by the protocol; None unless asked."""
    from attention_collapse.engine.contribution import incompetence
    from attention_collapse.engine.token_contribution import summarise_tokens, token_contributions
    from attention_collapse.models.masking import not_playable

    if asked.t_shap_protocol is None:
        return None
    without = incompetence(causal) or not_playable(model, asked.t_shap_protocol)
    images = 0 if without else min(asked.t_shap_images, len(pairs))
    phase(f"{model.name}: T-SHAP of {images} images")
    tokens = token_contributions(
        model, pairs, images=images, seed=asked.seed, batch_size=asked.batch_size, protocol=asked.t_shap_protocol,
        **parts.of("t-shap"),
    )  # fmt: skip
    return tokens, summarise_tokens(tokens, Stats(), permutations=PERMUTATIONS, reason=without)


def _contributions(
    model: Model, pairs: Dataset, asked: Asked, parts: Kept
) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """The table of `engine.contribution.contributions` and how it was made, or None and why there is none."""
    from attention_collapse.engine.alike import n_alike, same_pairs
    from attention_collapse.engine.contribution import BASELINES, contributions
    from attention_collapse.models.interface import is_likelihood

    if not asked.partners:
        return None, {"partners": 0, "reason": "not asked for (partners: 0)"}
    phase(f"{model.name}: what the score depends on, {asked.partners} partners")
    options: dict[str, Any] = {"partners": asked.partners, "seed": asked.seed, "batch_size": asked.batch_size}
    try:
        values = contributions(model, pairs, **options, **parts.of("contribution"))
    except DataError as error:
        return None, {"partners": asked.partners, "reason": str(error).splitlines()[0]}
    alike = n_alike(same_pairs(pairs))
    about: dict[str, Any] = {"partners": asked.partners, "baselines": list(BASELINES.values())}
    if is_likelihood(model):
        about["reliance_of"] = OF_DECISION
    return values, about | ({"n_alike": alike} if alike else {})


def _diagnosis(
    model: Model, pairs: Dataset, found: Found, *, settings: dict[str, Any], noted: dict[str, Any],
) -> Diagnosis:  # fmt: skip
    """Scores, statistics and readings of one model, as a study's stages make them.

    `noted`: what was found of the captions, and what was skipped.
    """
    from attention_collapse.engine.contribution import OF_TOKENS
    from attention_collapse.engine.per_pair import per_pair
    from attention_collapse.engine.scores import by_image
    from attention_collapse.engine.statistics import CAUSAL, OF_IMAGES, columns_of, judge, layer_bands
    from attention_collapse.engine.summary import summarise

    scores, params, rows = found.scores, Stats(), settings["rows"]
    images, metrics = by_image(scores.pairs), summarise(scores, rows, model.family, model.missing)
    columns = columns_of(images, found.values, rows, metrics["reasons"])
    statistics = judge(columns, found.causal, params, metrics["reasons"], tested=1)
    known = {name: statistics.pop(name) for name in (*OF_IMAGES, *CAUSAL) if name in statistics} | found.causal
    shares = {key: metrics[key] for key in ("share_of_pairs_above_0_7", "share_of_nulls_above_0_7")}
    readings = {"original": statistics.pop("reading_original"), "null": statistics.pop("reading_null")} | shares
    details = statistics | {"metrics": metrics}
    if found.tokens is not None:
        known |= {name: found.tokens[1][name] for name in OF_TOKENS}
        details["t_shap"] = {key: value for key, value in found.tokens[1].items() if key not in OF_TOKENS}
    layers = layer_bands(scores.layers, rows, params)
    if reason := too_few(len(images)):
        readings, layers, details = _withheld(readings, layers, details, reason)
    tokens = found.tokens[0] if found.tokens else None
    return Diagnosis(
        model=model.name, family=model.family, weights=model.provenance,
        settings=settings | {"confidence": params.confidence, "severe": params.severe},
        data={"fingerprint": fingerprint(pairs), "n_hard_foils": sum(_count_foils(pairs))},
        environment=environment(settings["device"]) | {"dtype": _dtype(model)},
        n_images=metrics["n_images"], n_pairs=metrics["n_pairs"], n_truncated=metrics["n_truncated_captions"],
        **noted, estimates={name: Estimate.of(name, one, params.confidence) for name, one in known.items()},
        layers=layers, readings=readings, details=details,
        tables={"pairs": per_pair(pairs, scores.pairs, rows, found.values, tokens), "images": images,
                "heads": found.heads},
    )  # fmt: skip


def _withheld(
    readings: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]], details: Mapping[str, Any], reason: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Of too few images: no verdict, no interval of a layer, no test and no severity; `reason` in their place."""
    undecided = dict(readings) | dict.fromkeys(("original", "null"), f"no verdict: {reason}")
    bands = {
        layer: {key: None if "_ci_" in key else value for key, value in band.items()} for layer, band in layers.items()
    }
    kept = dict(details)
    for part in ("tests", "severity"):
        kept[part] = {name: withheld(entry, reason) for name, entry in details[part].items()}
    return undecided, bands, kept


def _count_foils(pairs: Dataset) -> list[int]:
    return [sum(map(len, foils or [])) for foils in pairs["foils"]]


def _dtype(model: Model) -> str | None:
    """The types of numbers of the weights, as "float32"; None of a model without weights."""
    parameters = getattr(model.module, "parameters", lambda: ())()
    return ", ".join(sorted({str(one.dtype).removeprefix("torch.") for one in parameters})) or None
