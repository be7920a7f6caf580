"""One model on one folder of pairs, without DVC: the pipeline's own functions, for a person."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_collapse.data.pairs import read_folder, table
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import write_json
from attention_collapse.measures.attention import ROWS
from attention_collapse.measures.reliance import OF_DECISION
from attention_collapse.measures.token_shapley import PERMUTATIONS
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.protocols import PROTOCOLS
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Stats, parse_spec
from attention_collapse.report.diagnosis import Diagnosis, Estimate

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from attention_collapse.models.interface import Model


def diagnose(
    model: str | dict[str, Any],
    pairs: str | Path,
    *,
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
    out: str | Path | None = None,
) -> Diagnosis:
    """Measure a model's attention on a COCO-layout folder.

    Parameters
    ----------
    model
        A name of `attention-collapse models`, a checkpoint folder, or a mapping as under `models` in params.yaml.
    pairs
        Folder with annotations/captions_<split>.json and the images.
    n, seed
        Use a seeded subset of `n` images; None uses all.
    rows
        Query rows of the headline: "all" or "readout".
    partners
        Ablation partners of the causal measures, each image with its first caption; 0 leaves them out.
    t_shap_protocol
        Explain single tokens and image cells too (T-SHAP) by this protocol: "native" or "mm-shap" (docs/measures.md,
        section 5). None leaves T-SHAP out: it takes some hundred passes an image.
    t_shap_images
        How many of the images T-SHAP explains, the first ones.
    threads
        CPU threads; None leaves PyTorch's setting.
    strict
        Fail on the first unusable image or caption instead of listing it under `skipped`.
    max_unknown
        Share of the captions' tokens, 0 to 1, that may be unknown to the model's tokenizer; with more of them it is an
        error. None: what the model's description says, else one half.
    out
        Also write the result as JSON.

    Returns
    -------
    Diagnosis
        Estimates of every measure with intervals and reasons, layers, readings, tests, what was skipped, and where the
        weights came from; `print(result.text())` is what the command line prints.

    Raises
    ------
    AttentionCollapseError
        For anything wrong with the model, the folder or an argument.
    """
    import torch

    from attention_collapse.engine.attention import extract
    from attention_collapse.engine.captions import examine_captions
    from attention_collapse.engine.contribution import summarise
    from attention_collapse.models.interface import is_likelihood

    _require_arguments(rows, partners, batch_size, threads, out)
    require_share("max_unknown", max_unknown)
    _require_t_shap(t_shap_protocol, t_shap_images)
    if threads is not None:
        torch.set_num_threads(threads)
    name, spec = spec_of(model)
    checked, skipped = read_folder(Path(pairs), n=n, seed=seed, strict=strict)
    loaded = load(name, spec, device)
    pairs_table = table(checked, "folder")
    captions = examine_captions(
        loaded, pairs_table, max_unknown=spec.max_unknown if max_unknown is None else max_unknown
    )
    attention = extract(loaded, pairs_table, batch_size=batch_size).to_pandas()
    settings: dict[str, Any] = {"rows": rows, "seed": seed, "n": n, "batch_size": batch_size, "device": device}
    values, about = _contributions(loaded, pairs_table, partners=partners, seed=seed, batch_size=batch_size)
    causal = {} if values is None else summarise(values, Stats(), likelihood=is_likelihood(loaded))
    tokens = None if t_shap_protocol is None else _tokens(
        loaded, pairs_table, causal, protocol=t_shap_protocol, images=t_shap_images, seed=seed, batch_size=batch_size
    )  # fmt: skip
    if tokens is not None:
        about |= {"t_shap_protocol": t_shap_protocol, "t_shap_images": t_shap_images}
    result = _diagnosis(
        loaded, attention, (values, causal, tokens), settings | about,
        {"captions": captions, "skipped": [asdict(item) for item in skipped]},
    )  # fmt: skip
    if out is not None:
        write_json(Path(out), result.to_dict())
    return result


def _require_arguments(rows: str, partners: int, batch_size: int, threads: int | None, out: str | Path | None) -> None:
    """ParamsError for an argument out of range, before anything is loaded."""
    wrong = "correct the argument"
    if rows not in ROWS:
        raise ParamsError(f"rows is {rows!r}", expected=f"one of {', '.join(ROWS)}", remedy=wrong)
    if partners < 0:
        raise ParamsError(f"partners is {partners}", expected="0 or more", remedy=wrong)
    if batch_size < 1 or (threads is not None and threads < 1):
        raise ParamsError(f"batch_size {batch_size}, threads {threads}", expected="1 or more", remedy=wrong)
    require_writable(out)


def require_share(name: str, value: float | None) -> None:
    """ParamsError for what is no share, before anything is loaded; None is none."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
        raise ParamsError(f"{name} is {value!r}", expected="a share, 0 to 1", remedy="correct the argument")


def require_writable(out: str | Path | None) -> None:
    """ParamsError for a path that no file can be written to, before anything is computed; None is none."""
    if out is not None and (Path(out).is_dir() or not os.access(_nearest_folder(Path(out)), os.W_OK)):
        raise ParamsError(
            f"out is {out}, which cannot be written", expected="a path for a JSON file", remedy="give another path"
        )


def _require_t_shap(protocol: str | None, images: int) -> None:
    """ParamsError for arguments of T-SHAP out of range, before anything is loaded."""
    if protocol is not None and protocol not in PROTOCOLS:
        raise ParamsError(
            f"t_shap_protocol is {protocol!r}",
            expected=f"{' or '.join(PROTOCOLS)}, or None: no T-SHAP",
            remedy="correct the argument",
        )
    if images < 1:
        raise ParamsError(f"t_shap_images is {images}", expected="1 or more", remedy="correct the argument")


def _tokens(
    model: Model, pairs: Dataset, causal: dict[str, Any], *, protocol: str, images: int, seed: int, batch_size: int
) -> dict[str, Any]:
    """`engine.token_contribution.summarise_tokens` by a protocol, undefined where the model cannot be played by it."""
    from attention_collapse.engine.contribution import incompetence
    from attention_collapse.engine.token_contribution import summarise_tokens, token_contributions
    from attention_collapse.models.masking import not_playable

    without = incompetence(causal) or not_playable(model, protocol)
    tokens = token_contributions(
        model, pairs, images=0 if without else images, seed=seed, batch_size=batch_size, protocol=protocol
    )
    return summarise_tokens(tokens, Stats(), permutations=PERMUTATIONS, reason=without)


def _contributions(
    model: Model, pairs: Dataset, *, partners: int, seed: int, batch_size: int
) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """The table of `engine.contribution.contributions` and how it was made, or None and why there is none."""
    from attention_collapse.engine.alike import n_alike, same_pairs
    from attention_collapse.engine.contribution import BASELINES, contributions
    from attention_collapse.models.interface import is_likelihood

    if not partners:
        return None, {"partners": 0, "reason": "not asked for (partners: 0)"}
    try:
        values = contributions(model, pairs, partners=partners, seed=seed, batch_size=batch_size)
    except DataError as error:
        return None, {"partners": partners, "reason": str(error).splitlines()[0]}
    alike = n_alike(same_pairs(pairs))
    about: dict[str, Any] = {"partners": partners, "baselines": list(BASELINES.values())}
    if is_likelihood(model):
        about["reliance_of"] = OF_DECISION
    return values, about | ({"n_alike": alike} if alike else {})


def _diagnosis(
    model: Model, attention: pd.DataFrame, found: tuple[pd.DataFrame | None, dict[str, Any], dict[str, Any] | None],
    settings: dict[str, Any], data: dict[str, Any],
) -> Diagnosis:  # fmt: skip
    """Scores, statistics and readings of one model, as a study's stages make them.

    `found`: the contributions' values, their summary, and that of the tokens, where they were asked for. `data`: what
    was found of the captions, and what was skipped.
    """
    from attention_collapse.engine.contribution import OF_TOKENS
    from attention_collapse.engine.scores import by_image, score_pairs
    from attention_collapse.engine.statistics import CAUSAL, OF_IMAGES, columns_of, judge, layer_bands
    from attention_collapse.engine.summary import summarise

    values, causal, tokens = found
    scores, params, rows = score_pairs(attention, model.family), Stats(), settings["rows"]
    metrics = summarise(scores, rows, model.family, model.missing)
    columns = columns_of(by_image(scores.pairs), values, rows, metrics["reasons"])
    statistics = judge(columns, causal, params, metrics["reasons"], tested=1)
    known = {name: statistics.pop(name) for name in (*OF_IMAGES, *CAUSAL) if name in statistics} | causal
    details = statistics | {"metrics": metrics}
    if tokens is not None:
        known |= {name: tokens[name] for name in OF_TOKENS}
        details["t_shap"] = {key: value for key, value in tokens.items() if key not in OF_TOKENS}
    shares = {key: metrics[key] for key in ("share_of_pairs_above_0_7", "share_of_nulls_above_0_7")}
    readings = {"original": statistics.pop("reading_original"), "null": statistics.pop("reading_null")} | shares
    return Diagnosis(
        model=model.name, family=model.family, weights=model.provenance,
        settings=settings | {"confidence": params.confidence},
        n_images=metrics["n_images"], n_pairs=metrics["n_pairs"], n_truncated=metrics["n_truncated_captions"],
        estimates={name: Estimate.of(name, one, params.confidence) for name, one in known.items()},
        layers=layer_bands(scores.layers, rows, params), readings=readings, details=details, **data,
    )  # fmt: skip


def _nearest_folder(path: Path) -> Path:
    """The nearest folder above a file that exists."""
    return next(folder for folder in path.absolute().parents if folder.exists())


def spec_of(model: str | dict[str, Any]) -> tuple[str, ModelSpec]:
    """The name and the description of a model: a name, a checkpoint folder, or a mapping as in params.yaml."""
    if isinstance(model, str):
        return model, named(model)
    return "model", parse_spec(model, "model")
