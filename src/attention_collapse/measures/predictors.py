"""Cross-fitted predictors of a label from features of the image, of the text and of both: their loss on other examples.

A conditional V-entropy H_V(Y | X) is the expected log-loss of the best predictor of a family V that sees X (Xu, Zhao,
Song, Stewart and Ermon, "A theory of usable information under computational constraints", ICLR 2020). What X adds to C
is H_V(Y | C) − H_V(Y | X, C) (Hewitt, Ethayarajh, Liang and Manning, "Conditional probing: measuring usable information
beyond a baseline", EMNLP 2021).

Here V is multinomial logistic regression with a ridge penalty on polynomials of degree 0, 1 or 2 of the features; the
degree and the penalty are chosen by cross-validation within the training examples. What sees both modalities may ignore
either, or both, as Xu et al. ask of a predictive family ("optional ignorance"): so the families are nested, and what a
modality adds is not a matter of the degree. A linear predictor of both would miss what only their product tells.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_collapse.errors import DataError
from attention_collapse.extras import require
from attention_collapse.measures.record import Floats

Labels = NDArray[np.int64]
MODALITIES = ("image", "text")
SEES: Mapping[str, tuple[str, ...]] = {"none": (), "image": ("image",), "text": ("text",), "both": MODALITIES}
INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of scikit-learn: (sum of log-losses) · C + ½ |w|²
INNER_FOLDS = 3
RESOLVED = 1e-6  # relative; features in float32 carry errors of 1e-7
TOLERANCE, MOST_STEPS = 1e-6, 5_000  # of the gradient of the mean loss; of the optimiser


@dataclass(frozen=True)
class Form:
    """What a predictor is made of: the modalities that it reads, and the degree of the polynomial (0: none)."""

    reads: tuple[str, ...]
    degree: int

    def __str__(self) -> str:
        return f"{' and '.join(self.reads)}, degree {self.degree}" if self.reads else "nothing"


FORMS = (Form((), 0), *(Form(SEES[name], degree) for name in ("image", "text", "both") for degree in (1, 2)))


@dataclass(frozen=True)
class HeldOut:
    """What predictors give on examples that they were not trained on.

    Attributes
    ----------
    losses
        "none", "image", "text" and "both" (what the predictor may see) -> (example,) log-loss in nats.
    chosen
        The same names -> the form that was chosen in each fold.
    unfinished
        How many of the final predictors stopped before their optimum; each is a predictor all the same.
    """

    losses: Mapping[str, Floats]
    chosen: Mapping[str, tuple[Form, ...]]
    unfinished: int


def held_out(
    image: ArrayLike, text: ArrayLike, labels: Sequence[Any] | NDArray[Any], *, folds: int = 5, components: int = 16,
    seed: int = 0,
) -> HeldOut:  # fmt: skip
    """The log-loss of each example under predictors trained on the other folds.

    Parameters
    ----------
    image, text
        (example, width) features of each modality alone; the widths may differ.
    labels
        (example,) classes.
    folds
        The number of folds of the outer cross-fitting, 2 or more, stratified by class.
    components
        Principal components that are kept of each modality, scaled to variance 1. A modality of no more features keeps
        them all, and any invertible affine map of them then changes nothing but rounding.
    seed
        The seed of the folds.

    Raises
    ------
    DataError
        Features of unlike lengths, not finite, or all constant; one class; a class with too few examples.
    """
    features = {"image": _checked("image", image), "text": _checked("text", text)}
    names, y = np.unique(np.asarray(labels), return_inverse=True)
    _require_lengths(features, len(y))
    _require_classes(Counter(str(names[code]) for code in y), folds)
    losses = {sees: np.full(len(y), np.nan) for sees in SEES}
    chosen: dict[str, list[Form]] = {sees: [] for sees in SEES}
    unfinished = 0
    for train, test in _splits(y, folds, seed):
        reduced = {name: _reduce(x, train, components) for name, x in features.items()}
        inner = _inner_losses(reduced, y, train, seed)
        for sees, modalities in SEES.items():
            form, c = min((key for key in inner if set(key[0].reads) <= set(modalities)), key=inner.__getitem__)
            [(_, loss, finished)] = _path(_columns(reduced, form), y, train, test, (c,))
            losses[sees][test] = loss
            chosen[sees].append(form)
            unfinished += not finished
    return HeldOut(losses, {sees: tuple(forms) for sees, forms in chosen.items()}, unfinished)


def examples_needed(folds: int) -> int:
    """The fewest examples of a class: one in every fold, and in every training part one in every inner fold."""
    return next(n for n in range(folds, 2 * (folds + INNER_FOLDS)) if n - -(-n // folds) >= INNER_FOLDS)


def _checked(name: str, features: ArrayLike) -> Floats:
    x = np.asarray(features, np.float64)
    if x.ndim != 2:
        raise DataError(
            f"features of the {name} of shape {x.shape}", expected="(example, width)", remedy="give one row per example"
        )
    broken = np.flatnonzero(~np.isfinite(x).all(1))
    if broken.size:
        raise DataError(
            f"features of the {name}: {broken.size} of {len(x)} examples hold NaN or infinite values, first in row "
            f"{broken[0]}",
            expected="finite features",
            remedy="leave these examples out, or check what made the features",
        )
    if x.size == 0 or bool((np.ptp(x, 0) <= RESOLVED * np.abs(x).max(0)).all()):
        raise DataError(
            f"features of the {name}: all {x.shape[1]} are constant over {len(x)} examples",
            expected="features that differ between examples",
            remedy="check what made the features",
        )
    return x


def _require_lengths(features: Mapping[str, Floats], n: int) -> None:
    lengths = {name: len(x) for name, x in features.items()} | {"labels": n}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "different numbers of examples: " + ", ".join(f"{name} {length}" for name, length in lengths.items()),
            expected="one row of each modality and one label per example",
            remedy="give the same examples in the same order",
        )


def _require_classes(counts: Mapping[str, int], folds: int) -> None:
    if folds < 2:
        raise DataError(f"folds is {folds}", expected="2 or more", remedy="correct the argument")
    if len(counts) < 2:
        raise DataError(
            f"labels of one class ({', '.join(counts) or 'none'})",
            expected="two classes or more",
            remedy="give labels that differ between examples",
        )
    needed = examples_needed(folds)
    rare = sorted((count, name) for name, count in counts.items() if count < needed)
    if rare:
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        raise DataError(
            f"{len(rare)} of {len(counts)} classes have too few examples: "
            + ", ".join(f"{name!r} {count}" for count, name in rare[:5]) + more,
            expected=f"{needed} or more examples of each class for {folds} folds",
            remedy="label more examples, merge or leave out rare classes, or ask for 4 folds, which need the fewest",
        )  # fmt: skip


def _splits(y: Labels, folds: int, seed: int) -> list[tuple[Labels, Labels]]:
    require("models")
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(y)), y))


def _reduce(x: Floats, train: Labels, components: int) -> Floats:
    """(example, width) -> (example, kept): principal components of the training examples, of variance 1 there."""
    centred = x - x[train].mean(0)
    _, size, axes = np.linalg.svd(centred[train], full_matrices=False)
    kept = size[:components] > RESOLVED * size[0]
    axes, size = axes[:components][kept], size[:components][kept]
    reduced: Floats = centred @ axes.T * (np.sqrt(max(1, len(train) - 1)) / size)
    return reduced


def _columns(reduced: Mapping[str, Floats], form: Form) -> Floats:
    """The polynomial of a form: (example, column).

    Off-diagonal products carry √2, so that the columns' inner product is (x · x')², and a rotation of the features,
    which is what whitening leaves of an affine map, is a rotation of the columns: the penalty does not see it.
    """
    n = len(next(iter(reduced.values())))
    x = np.concatenate([np.empty((n, 0)), *(reduced[name] for name in form.reads)], axis=1)
    if form.degree < 2:
        return x
    i, j = np.triu_indices(x.shape[1])
    return np.concatenate([x, x[:, i] * x[:, j] * np.where(i == j, 1.0, np.sqrt(2.0))], axis=1)


def _inner_losses(
    reduced: Mapping[str, Floats], y: Labels, train: Labels, seed: int
) -> dict[tuple[Form, float], float]:
    """(form, inverse penalty) -> mean log-loss in cross-validation within the training examples, simple forms first."""
    parts = [(train[fit], train[rest]) for fit, rest in _splits(y[train], INNER_FOLDS, seed)]
    found: dict[tuple[Form, float], float] = {}
    for form in FORMS:
        columns = _columns(reduced, form)
        penalties = INVERSE_PENALTIES if form.reads else INVERSE_PENALTIES[:1]
        paths = [_path(columns, y, fit, rest, penalties) for fit, rest in parts]
        for at, c in enumerate(penalties):
            found[form, c] = float(np.concatenate([path[at][1] for path in paths]).mean())
    return found


def _path(
    columns: Floats, y: Labels, train: Labels, test: Labels, penalties: Sequence[float]
) -> list[tuple[float, Floats, bool]]:
    """(inverse penalty, (test,) log-losses in nats, whether the optimum was reached), from strong to weak penalty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if not columns.shape[1]:
        log_share = np.log(np.bincount(y[train]) / len(train))
        return [(c, -log_share[y[test]], True) for c in penalties]
    model = LogisticRegression(tol=TOLERANCE, max_iter=MOST_STEPS, warm_start=True)
    found = []
    for c in penalties:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(C=c).fit(columns[train], y[train])
        finished = not any(issubclass(warning.category, ConvergenceWarning) for warning in said)
        found.append((c, _log_loss(model.decision_function(columns[test]), y[test]), finished))
    return found


def _log_loss(scores: Floats, y: Labels) -> Floats:
    """−ln p(y) from a decision function: (example, class), or (example,) of two classes; finite where p underflows."""
    from scipy.special import log_softmax

    logits = np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
    loss: Floats = -log_softmax(logits, axis=1)[np.arange(len(y)), y]
    return loss
