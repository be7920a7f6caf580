"""Usable information of labelled images, for a person: from a model's own embeddings, or from features in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from attention_collapse import arguments
from attention_collapse.data.entries import Skipped
from attention_collapse.data.labelled import Features, matched, read_features, read_labels
from attention_collapse.data.pairs import table
from attention_collapse.data.source import read_pairs
from attention_collapse.errors import ParamsError
from attention_collapse.extras import require
from attention_collapse.inputs import Source, model_folders, source_of
from attention_collapse.measures.predictors import SEES, held_out
from attention_collapse.params import Stats
from attention_collapse.report.estimate import Estimate
from attention_collapse.report.information import Information


def usable_information(
    labels: str | Path | Mapping[Any, Any],
    *,
    model: str | dict[str, Any] | None = None,
    pairs: str | Path | None = None,
    features: str | Path | Mapping[str, Any] | None = None,
    split: str | None = None,
    columns: str | Mapping[str, str] | None = None,
    images: str | Path | None = None,
    folds: int = 5,
    components: int = 16,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int = 32,
    strict: bool = False,
    out: str | Path | None = None,
) -> Information:
    """What image and text tell of a label, alone, beyond each other and together (docs/measures.md, section 5).

    Parameters
    ----------
    labels
        A CSV file with the columns image_id and label, a JSON object of image id -> label, or a mapping.
    model, pairs
        A dual encoder as of `diagnose`, and pairs in any format that docs/data.md lists: the features are its
        embeddings of each image and of its first caption.
    features
        Instead of both: an .npz file or a mapping with image_id (n,), image (n, width) and text (n, width).
    split, columns, images
        How `pairs` are read, as of `diagnose`.
    folds, components, seed
        As of `measures.predictors.held_out`.
    strict
        Fail on a label without image, an image without label, or an unusable image, instead of listing it.
    out
        Also write the result as JSON.

    Raises
    ------
    AttentionCollapseError
        For anything wrong with the model, the folder, the labels, the features or an argument; a model that gives no
        embedding of each modality alone.
    """
    require("models")
    _require_source(model, pairs, features)
    components = arguments.whole("components", components, least=1)
    batch_size = arguments.whole("batch_size", batch_size, least=1)
    folds, seed = arguments.whole("folds", folds, least=2), arguments.seed(seed)
    device, strict = arguments.device(device), arguments.flag("strict", strict)
    file = arguments.output_file("out", out, keep_out=model_folders(model))
    if not isinstance(labels, Mapping):
        labels = arguments.path("labels", labels)
    if features is not None and not isinstance(features, Mapping):
        features = arguments.path("features", features)
    named, weights, skipped = read_labels(labels), None, list[Skipped]()
    if features is not None:
        source = "features" if isinstance(features, Mapping) else str(features)
        found = read_features(features)
    else:
        assert model is not None and pairs is not None  # noqa: S101 — required above
        if isinstance(pairs, str | PathLike):  # else an object that holds the pairs
            pairs = arguments.path("pairs", pairs)
        how = {"split": split, "columns": columns, "images": images}
        found, weights, skipped = _embedded(model, Source(pairs, how), device, batch_size, strict=strict)
        source = f"{weights['name']}  ({weights['weights']}; {weights['parameters']:,} parameters)"
    where = str(pairs) if pairs is not None else source
    chosen, unmatched = matched(named, found.image_ids, where=where, strict=strict)
    classes = [named[found.image_ids[position]] for position in chosen]
    result = _measured(
        found.image[chosen], found.text[chosen], classes, folds=folds, components=components, seed=seed,
        about={"source": source, "weights": weights, "skipped": [asdict(item) for item in [*skipped, *unmatched]]},
    )  # fmt: skip
    result.save(file)
    return result


def _require_source(model: object, pairs: object, features: object) -> None:
    """ParamsError for sources that do not go together, before anything is loaded."""
    given = [name for name, value in (("model", model), ("pairs", pairs), ("features", features)) if value is not None]
    if given not in (["model", "pairs"], ["features"]):
        raise ParamsError(
            f"{', '.join(given) or 'no source of features'} given",
            expected="model and pairs, or features alone",
            remedy="name a dual encoder and a folder, or a file of features",
        )


def _embedded(
    model: str | dict[str, Any], pairs: Source, device: str, batch_size: int, *, strict: bool
) -> tuple[Features, dict[str, Any], list[Skipped]]:
    """Embeddings of a source's usable images and first captions, the model's provenance, and what was not usable."""
    from attention_collapse.engine.captions import examine_captions
    from attention_collapse.engine.information import embeddings, require_towers
    from attention_collapse.engine.takeable import takeable
    from attention_collapse.models.specification import specification

    source = source_of(model)
    read = read_pairs(pairs.pairs, strict=strict, **pairs.how)
    towers = require_towers(source.load(device))
    measured, refused = takeable(towers, table(read.pairs, read.format), strict=strict)
    examine_captions(towers, measured, max_unknown=source.spec.max_unknown if source.spec else None)
    images, texts = embeddings(towers, measured, batch_size=batch_size)
    about = {"name": source.name} | towers.provenance | {"specification": specification(towers, source.spec)}
    return Features(tuple(measured["image_id"]), images, texts), about, [*read.skipped, *refused]


def _measured(
    image: Any, text: Any, classes: list[str], *, folds: int, components: int, seed: int, about: dict[str, Any]
) -> Information:
    """Losses, means and intervals."""
    from attention_collapse.engine.information import summarise

    params = Stats()
    losses = held_out(image, text, classes, folds=folds, components=components, seed=seed)
    return Information(
        **about,
        settings={"folds": folds, "components": components, "seed": seed, "confidence": params.confidence},
        classes=dict(sorted(Counter(classes).items())),
        estimates={n: Estimate.of(n, found, params.confidence) for n, found in summarise(losses, params).items()},
        chosen={sees: dict(Counter(str(form) for form in losses.chosen[sees]).most_common()) for sees in SEES},
        unfinished=losses.unfinished,
    )
