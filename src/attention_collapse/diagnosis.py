"""One model on one folder of pairs, without DVC: the pipeline's own functions, for a person."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attention_collapse.data.pairs import read_folder, table
from attention_collapse.files import write_json
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Stats, parse_spec


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
    threads: int | None = None,
    strict: bool = False,
    out: str | Path | None = None,
) -> dict[str, Any]:
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
    threads
        CPU threads; None leaves PyTorch's setting.
    strict
        Fail on the first unusable image or caption instead of listing it under `skipped`.
    out
        Also write the result as JSON.

    Returns
    -------
    dict
        The metrics of `compute_mcs`, with `statistics` (means, BCa intervals, tests, readings), `causal` (the same of
        the two-player Shapley values, or the reason why there are none), `reasons` (measure -> why the model does not
        define it), `skipped`, and where the weights came from.

    Raises
    ------
    AttentionCollapseError
        For anything wrong with the model, the folder or an argument.
    """
    import torch

    from attention_collapse.engine import contribution
    from attention_collapse.engine.attention import extract
    from attention_collapse.engine.scores import by_image, score_pairs
    from attention_collapse.engine.statistics import columns_of, judge, layer_bands
    from attention_collapse.engine.summary import summarise
    from attention_collapse.errors import DataError, ParamsError
    from attention_collapse.measures.attention import ROWS

    if rows not in ROWS:
        raise ParamsError(f"rows is {rows!r}", expected=f"one of {', '.join(ROWS)}", remedy="correct the argument")
    if partners < 0:
        raise ParamsError(f"partners is {partners}", expected="0 or more", remedy="correct the argument")
    if batch_size < 1 or (threads is not None and threads < 1):
        raise ParamsError(
            f"batch_size {batch_size}, threads {threads}", expected="1 or more", remedy="correct the argument"
        )
    if out is not None and (Path(out).is_dir() or not os.access(_nearest_folder(Path(out)), os.W_OK)):
        raise ParamsError(
            f"out is {out}, which cannot be written", expected="a path for a JSON file", remedy="give another path"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    name, spec = _model(model)
    checked, skipped = read_folder(Path(pairs), n=n, seed=seed, strict=strict)
    loaded = load(name, spec, device)
    pairs_table = table(checked, "folder")
    attention = extract(loaded, pairs_table, batch_size=batch_size)
    values = None
    causal: dict[str, Any] = {"reason": "not asked for (partners: 0)"}
    if partners:
        try:
            values = contribution.contributions(
                loaded, pairs_table, partners=partners, seed=seed, batch_size=batch_size
            )
            causal = contribution.summarise(values, Stats())
            causal |= {"baselines": list(contribution.BASELINES.values()), "partners": partners}
        except DataError as error:
            causal = {"reason": str(error).splitlines()[0]}
    scores, parameters = score_pairs(attention.to_pandas(), loaded.family), Stats()
    result = summarise(scores, rows, loaded.family, loaded.missing) | loaded.provenance
    columns = columns_of(by_image(scores.pairs), values, rows, result["reasons"])
    result |= {
        "model": name,
        "skipped": [asdict(item) for item in skipped],
        "statistics": judge(columns, {}, parameters, result["reasons"], tested=1),
        "layers": layer_bands(scores.layers, rows, parameters),
        "causal": causal,
        "confidence": parameters.confidence,
        "seed": seed,
    }
    if out is not None:
        write_json(Path(out), result)
    return result


def _nearest_folder(path: Path) -> Path:
    """The nearest folder above a file that exists."""
    return next(folder for folder in path.absolute().parents if folder.exists())


def _model(model: str | dict[str, Any]) -> tuple[str, ModelSpec]:
    if isinstance(model, str):
        return model, named(model)
    return "model", parse_spec(model, "model")
