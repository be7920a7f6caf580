"""How often a study runs a model, counted before it runs: by the run's own functions, on a model that only counts.

A pass is one image, one text or one image–text pair that goes through the model, alone or in a batch.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attention_collapse.data.entries import normal
from attention_collapse.engine.alike import same_pairs
from attention_collapse.engine.contribution import FEWEST, draws, wanted_cells
from attention_collapse.engine.hard import Hard
from attention_collapse.engine.scoring import score_cells
from attention_collapse.engine.token_contribution import token_contributions
from attention_collapse.errors import ModelError
from attention_collapse.families import NO_ATTENTION
from attention_collapse.models.interface import (
    Batch,
    DualEncoder,
    Embedded,
    KindOfModel,
    Model,
    Without,
    is_likelihood,
)
from attention_collapse.models.protocols import MM_SHAP
from attention_collapse.params import Contribution
from attention_collapse.progress import told
from attention_collapse.registry import kinds

if TYPE_CHECKING:
    from datasets import Dataset

STEPS = ("attention", "contribution", "t_shap")
IMAGE, TEXT, PAIR = "image", "text", "pair"  # what goes through a model in one pass
BATCH = 1024  # of the counting alone: passes are counted, not batches
EXPLAINED = 8  # images whose games are played out; further ones are taken to be like these
Passes = Mapping[str, int]  # image, text or pair -> passes
NOTHING = Without("it counts, and computes nothing")


@dataclass(frozen=True)
class Form:
    """What of a model decides how often it runs.

    Attributes
    ----------
    dual_encoder
        Whether it encodes images and captions apart; any other model runs each pair.
    likelihood
        Whether its score is one (`models.interface.is_likelihood`).
    towers
        Those whose attention is read; none of a model without attention.
    published
        Whether MM-SHAP's code can be followed for it.
    """

    dual_encoder: bool
    likelihood: bool
    towers: frozenset[str]
    published: bool

    @classmethod
    def of(cls, model: Model) -> Form:
        """Of a loaded model."""
        towers = frozenset(model.sites) if model.family != NO_ATTENTION else frozenset[str]()
        published = not isinstance(model.mm_shap, Without)
        return cls(isinstance(model, DualEncoder), is_likelihood(model), towers, published)

    @classmethod
    def of_kind(cls, kind: str) -> Form:
        """Of a kind, by its class and without weights: what a checkpoint or a user's table says is not known.

        Raises
        ------
        ModelError
            The module of the kind has no class that says so.
        """
        module = import_module(kinds()[kind].module)
        own = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, KindOfModel)]
        known: Any = getattr(module.load, "__self__", None) or next(
            (one for one in own if one.__module__ == module.__name__), None
        )
        if known is None:
            raise ModelError(
                f"kind {kind}: no class of a model in {module.__name__}",
                expected="a subclass of models.interface.KindOfModel, which says what a pass takes",
                remedy="define the kind's class in its module (docs/adding.md)",
            )
        towers = {"text"} if getattr(known, "vision", "") is None else {"vision", "text"}  # None: convolutional
        seen = frozenset[str]() if getattr(known, "family", "") == NO_ATTENTION else frozenset(towers)
        published = not isinstance(known.mm_shap, Without)
        return cls(hasattr(known, "embed"), bool(getattr(known, "is_likelihood", False)), seen, published)


class _Counting:
    """What both stand-ins say of themselves: no token is known, so the players of T-SHAP are words."""

    name, family, module, tokenizer = "counting", "", None, None
    ids = caption = pixels = picture = mm_shap = NOTHING
    provenance: dict[str, Any] = {}  # noqa: RUF012
    sites: Mapping[str, tuple[str, ...]] = {}
    missing: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.passes: Counter[str] = Counter()

    def _zeros(self, batch: Batch) -> Tensor:
        self.passes[batch.inputs[0]] += batch.inputs[1]
        return torch.zeros(batch.inputs[1])


def _prepared(what: str, items: Sequence[Any]) -> Batch:
    return Batch((what, len(items)), (), {}, ())


class _CountingDual(_Counting):
    """A `DualEncoder`."""

    logit_scale, logit_bias = 1.0, 0.0

    def images(self, pictures: Sequence[Image.Image]) -> Batch:
        """As many images."""
        return _prepared(IMAGE, pictures)

    def texts(self, captions: Sequence[str]) -> Batch:
        """As many texts."""
        return _prepared(TEXT, captions)

    def embed(self, batch: Batch) -> Embedded:
        """Zeros, counted."""
        return Embedded(self._zeros(batch)[:, None])


class _CountingPairs(_Counting):
    """A `PairScorer`."""

    image_encoder = image_inputs = NOTHING
    token_embedding, is_likelihood = None, False

    def pairs(self, _pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """As many pairs."""
        return _prepared(PAIR, captions)

    def score(self, batch: Batch) -> Tensor:
        """Zeros, counted."""
        return self._zeros(batch)


def _counted(form: Form, run: Callable[[Any], object]) -> Passes:
    model = _CountingDual() if form.dual_encoder else _CountingPairs()
    with told(False):
        run(model)
    return dict(model.passes)


@contextmanager
def _one_picture(pairs: Dataset, captions: Callable[[list[str]], list[str]]) -> Iterator[Dataset]:
    """The table with one small picture in place of all, which nothing that is counted depends on."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "picture.png")
        Image.new("RGB", (1, 1)).save(picture)
        file = {"path": str(picture), "bytes": None}
        rows = [dict(row) | {"image": file, "captions": captions(row["captions"])} for row in pairs]
        yield type(pairs).from_list(rows, features=pairs.features)


def attention_passes(form: Form, pairs: Dataset) -> Passes:
    """Passes of `engine.attention.extract`: each image and each caption once, or each caption with its image."""
    captions = sum(map(len, pairs["captions"]))
    if not form.dual_encoder:
        return {PAIR: captions} if form.towers else {}
    found = {IMAGE: len(pairs) if "vision" in form.towers else 0, TEXT: captions if "text" in form.towers else 0}
    return {unit: count for unit, count in found.items() if count}


def contribution_passes(form: Form, pairs: Dataset, settings: Contribution) -> Passes:
    """Passes of `engine.contribution.contributions`; none with fewer than 3 different images."""
    same = same_pairs(pairs)
    if len(np.unique(same)) < FEWEST:
        return {}
    drawn = draws(len(pairs), settings.partners, settings.seed, same)
    cells = wanted_cells(drawn, Hard.of(pairs, same), likelihood=form.likelihood)
    with _one_picture(pairs, list) as table:
        return _counted(form, lambda model: score_cells(model, table, cells, batch_size=BATCH))


def t_shap_passes(
    form: Form, pairs: Dataset, settings: Contribution, tokens: Callable[[str], int] | None = None
) -> Passes:
    """Passes of `engine.token_contribution.token_contributions`, as many as the protocol `native` takes.

    Parameters
    ----------
    tokens
        A caption's players. None: its words, of which a tokenizer makes about as many tokens.
    """
    images = min(settings.t_shap_images, len(pairs))
    if settings.t_shap_protocol == MM_SHAP and not form.published:
        return {}
    numbers: dict[str, int] = {}

    def in_tokens(captions: list[str]) -> list[str]:
        """Captions of as many words as they have players; the same caption stays the same."""
        if tokens is None:
            return captions
        return [" ".join([str(numbers.setdefault(normal(text), len(numbers)))] * tokens(text)) for text in captions]

    with _one_picture(pairs, in_tokens) as table:
        played = min(images, EXPLAINED)
        found = _counted(form, lambda model: token_contributions(
            model, table, images=played, seed=settings.seed, batch_size=BATCH,
            permutations=settings.t_shap_permutations,
        ))  # fmt: skip
    return {unit: round(count * images / played) for unit, count in found.items()}


def passes(
    forms: Sequence[Form], pairs: Dataset, settings: Contribution, tokens: Callable[[str], int] | None = None
) -> list[dict[str, Passes]]:
    """Of each form the passes of each of `STEPS`; of T-SHAP if the score is not at chance, else there are none.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`; no picture is read.
    tokens
        As of `t_shap_passes`.
    """

    @cache
    def causal(form: Form) -> Passes:
        return contribution_passes(form, pairs, settings)

    @cache
    def t_shap(form: Form) -> Passes:
        return t_shap_passes(form, pairs, settings, tokens)

    by_script = settings.t_shap_protocol == MM_SHAP
    any_tower = frozenset[str]()  # what does not matter to a step is left out, so that it is counted once
    found = [
        (
            attention_passes(form, pairs),
            causal(replace(form, towers=any_tower, published=False)),
            t_shap(replace(form, towers=any_tower, likelihood=False, published=form.published or not by_script)),
        )
        for form in forms
    ]
    return [dict(zip(STEPS, counts, strict=True)) for counts in found]


def question_passes(questions: int, candidates: int, partners: int) -> int:
    """The most passes that `engine.answering.answer_scores` takes of a model, each a question with one candidate.

    Own and another's image and question make four cells, those with another's once per partner, and the mean image two
    more; partners that are drawn twice, and questions of one wording with the same candidates, make it fewer.

    Examples
    --------
    >>> question_passes(questions=1, candidates=2, partners=8)  # 2 · (1 + 3 · 8 + 1 + 8)
    68
    """
    return questions * candidates * (2 + 4 * partners)
