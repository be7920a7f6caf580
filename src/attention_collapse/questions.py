"""A model's answers to questions about images, for a person: what they depend on (docs/questions.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from attention_collapse import arguments
from attention_collapse.data.entries import Skipped
from attention_collapse.data.question_formats import read_questions
from attention_collapse.data.questions import (
    Asked,
    QuestionSet,
    located,
    most_frequent,
    question_manifest,
    with_candidates,
)
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.extras import require
from attention_collapse.inputs import model_folders, named_of
from attention_collapse.params import Stats
from attention_collapse.report.estimate import Estimate
from attention_collapse.report.questions import SHOWN, Answered
from attention_collapse.stats.few_images import too_few, withheld


def answer_questions(
    model: str | dict[str, Any],
    questions: str | Path,
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    candidates: int | None = None,
    n: int | None = None,
    seed: int = 0,
    partners: int = 8,
    device: str = "cpu",
    batch_size: int = 32,
    strict: bool = False,
    out: str | Path | None = None,
) -> Answered:
    """What a model answers, and whether that depends on the image, on the question, or on neither.

    Parameters
    ----------
    model
        A name, a checkpoint folder, or a mapping as in params.yaml, of a model that answers questions.
    questions, annotations
        As of `data.question_formats.read_questions`.
    images
        Folder of the images; None: `images/` (or the split's folder) beside the questions.
    candidates
        How many of the most frequent answers are the candidates of questions that come without any; they need it.
    n, seed
        So many images, a seeded subset; all their questions.
    strict
        Fail on a question that cannot be used, instead of listing it.

    Raises
    ------
    AttentionCollapseError
        For anything wrong with the model, the questions, the images or an argument.
    """
    candidates, n = (
        arguments.optional_whole(name, value, least=1) for name, value in (("candidates", candidates), ("n", n))
    )
    partners = arguments.whole("partners", partners, least=1)
    batch_size = arguments.whole("batch_size", batch_size, least=1)
    seed, device, strict = arguments.seed(seed), arguments.device(device), arguments.flag("strict", strict)
    file = arguments.output_file("out", out, keep_out=model_folders(model))
    require("models")
    named = named_of(model)
    second = None if annotations is None else arguments.path("annotations", annotations)
    found = read_questions(arguments.path("questions", questions), second)
    folder = _image_folder(found, None if images is None else arguments.path("images", images))
    chosen, missing, given = _with_candidates(found, candidates)
    usable, unreadable = located(_subset(chosen, n, seed), folder)
    skipped = [*found.skipped, *missing, *unreadable]
    _require_usable(found, len(usable), skipped, strict=strict)

    from attention_collapse.engine.answering import answer_measures
    from attention_collapse.engine.answers import summarise_answers
    from attention_collapse.models.answering import load_answering

    loaded, stats = load_answering(named.name, named.spec, device), Stats()
    table = answer_measures(loaded, usable, partners=partners, seed=seed, batch_size=batch_size)
    summary = summarise_answers(table, stats)
    data = question_manifest(found.layout, {file.name: file for file in found.files}, usable, skipped)
    settings = {"candidates": candidates, "n": n, "seed": seed, "partners": partners, "batch_size": batch_size}
    result = Answered(
        weights={"name": named.name, **loaded.provenance},
        settings=settings | {"confidence": stats.confidence, "device": device},
        data=data,
        candidates=given,
        estimates={key: _estimate(key, summary[key], stats.confidence, data["n_images"]) for key in SHOWN},
    )
    result.save(file)
    return result


def _estimate(name: str, summary: dict[str, Any], confidence: float, n: int) -> Estimate:
    """Without an interval where images are too few for one."""
    reason = too_few(n)
    return Estimate.of(name, withheld({"sd": None, **summary}, reason) if reason else summary, confidence)


def _image_folder(found: QuestionSet, images: Path | None) -> Path:
    file = found.files[0]
    split = file.stem.removeprefix("questions_")
    beside = (file.parent / "images", file.parent.parent / split, file.parent.parent / "images")
    tried = [images] if images is not None else list(beside)
    folder = next((folder for folder in tried if folder.is_dir()), None)
    if folder is None:
        raise DataError(
            f"no folder {' or '.join(map(str, tried))}", expected="the folder of the images",
            remedy="give it as `images`",
        )  # fmt: skip
    return folder


def _with_candidates(found: QuestionSet, k: int | None) -> tuple[list[Asked], list[Skipped], tuple[str, ...]]:
    """The questions with their candidates, those that cannot have any, and the candidates that were not given."""
    lacking = [one for one in found.asked if not one.candidates]
    if not lacking:
        return list(found.asked), [], ()
    if k is None:
        raise ParamsError(
            f"{len(lacking):,} of {len(found.asked):,} questions come without candidates, and `candidates` is None",
            expected="how many of the most frequent answers are their candidates, such as 100",
            remedy="give `candidates`: accuracy and reliance are measured among them, and depend on their number",
        )
    given = most_frequent(found.asked, k)
    kept, skipped = with_candidates(found.asked, given)
    return kept, skipped, given


def _subset(asked: list[Asked], n: int | None, seed: int) -> list[Asked]:
    names = sorted({one.image for one in asked})
    if n is None:
        return asked
    if n > len(names):
        raise DataError(
            f"n = {n} images asked for, {len(names)} have questions that can be used",
            expected=f"n between 1 and {len(names)}, or none for all", remedy="correct n",
        )  # fmt: skip
    kept = {names[index] for index in np.random.default_rng(seed).permutation(len(names))[:n]}
    return [one for one in asked if one.image in kept]


def _require_usable(found: QuestionSet, usable: int, skipped: list[Skipped], *, strict: bool) -> None:
    if usable and not (strict and skipped):
        return
    first = f" ({skipped[0].kind} {skipped[0].id}: {skipped[0].reason})" if skipped else ""
    raise DataError(
        f"{found.files[0]}: {usable:,} usable questions, {len(skipped):,} items skipped{first}",
        expected="no skipped item under --strict" if usable else "at least one question whose image can be read",
        remedy="mend or remove them" + (", or run without --strict" if usable else ", or check the folder of images"),
    )
