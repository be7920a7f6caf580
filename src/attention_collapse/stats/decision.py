"""The decision table of docs/measures.md, section 6: what the severity tests of a study's models add up to.

A model is severe if the lower limit of its imbalance lies above the bound, not severe if its upper limit lies below it,
and undecided otherwise; no power, however great, turns "undecided" into "not severe".

The table leaves three things open, settled here and nowhere else:

- The gate of models tested holds for every decision but NEED_MORE_DATA: one model supports no claim about models.
- PIVOT says that external models are *not* severe, so at least one of them must have been tested.
- A model whose kind does not define a measure, or whose score tells matching pairs from others no better than chance,
  is no model under test for that measure: no number of images would give it one. A model that should have the measure,
  but whose test does not exist, is undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from attention_collapse.stats import ties


class Decision(StrEnum):
    """What to do next."""

    GO = "GO"
    PIVOT = "PIVOT"
    NO_GO = "NO_GO"
    NEED_MORE_DATA = "NEED_MORE_DATA"


@dataclass(frozen=True)
class Gates:
    """The bounds of the decision.

    Attributes
    ----------
    models_tested, models_severe
        Least numbers of models tested, and of external models severe.
    alpha
        Level of the one-sided test, after Holm's correction.
    imbalance
        Mean imbalance above which a model is severe, 0.5 to 1; the value of the tests' null hypothesis.
    confirm_margin
        Accuracy that a model which ignores a modality may lose with it swapped.
    """

    models_tested: int
    models_severe: int
    alpha: float
    imbalance: float
    confirm_margin: float


@dataclass(frozen=True)
class Severity:
    """What is known of one model's imbalance by one measure; None where a value does not exist.

    Attributes
    ----------
    in_house
        Whether the model is our own; any other is external.
    n
        Images with a defined value.
    mean, ci_low, ci_high
        The imbalance max(s, 1 − s), 0.5 to 1, and its interval.
    ignored
        The modality that it speaks of: "the image", "the text" or "neither".
    p_holm, p_balanced_holm
        One-sided p-values of H0 "imbalance ≤ the gate" and of H0 "≥ the gate", each corrected over the models.
    n_to_settle
        Images with which the imbalance found would be told from the gate; None if no number is known.
    lost
        Accuracy lost with the ignored modality swapped, which confirms severity where it is small; None if unknown.
    reason
        Why a value is None, else "".
    """

    in_house: bool
    n: int
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    p_holm: float | None
    p_balanced_holm: float | None
    n_to_settle: int | None
    ignored: str = "neither"
    lost: float | None = None
    reason: str = ""


def is_severe(model: Severity, gates: Gates) -> bool:
    """Mean imbalance above the gate, and the test says so at α."""
    return _significant(model, gates) and _imbalanced(model, gates)


def _significant(model: Severity, gates: Gates) -> bool:
    return model.p_holm is not None and bool(ties.below(model.p_holm, gates.alpha))


def _imbalanced(model: Severity, gates: Gates) -> bool:
    return model.mean is not None and bool(ties.above(model.mean, gates.imbalance))


def is_balanced(model: Severity, gates: Gates) -> bool:
    """Mean imbalance below the gate, and the test says so at α."""
    shown = model.p_balanced_holm is not None and bool(ties.below(model.p_balanced_holm, gates.alpha))
    return shown and model.mean is not None and bool(ties.below(model.mean, gates.imbalance))


def is_confirmed(model: Severity, gates: Gates) -> bool:
    """Severe, and by its accuracy too: swapping the ignored modality costs next to nothing."""
    return is_severe(model, gates) and model.lost is not None and not ties.above(model.lost, gates.confirm_margin)


@dataclass(frozen=True)
class Sorted:
    """The models of one measure, by what their tests say; names in the study's order."""

    severe: tuple[str, ...]
    undecided: tuple[str, ...]
    external: tuple[str, ...]
    external_severe: tuple[str, ...]
    external_confirmed: tuple[str, ...]
    external_undecided: tuple[str, ...]
    tested: tuple[str, ...]
    under_test: tuple[str, ...]


def sort_models(models: Mapping[str, Severity], gates: Gates) -> Sorted:
    """Which models are severe, which shown not to be, and which undecided."""

    def those(condition: Callable[[Severity], bool]) -> tuple[str, ...]:
        return tuple(name for name, model in models.items() if condition(model))

    def undecided(model: Severity) -> bool:
        return not is_severe(model, gates) and not is_balanced(model, gates)

    return Sorted(
        severe=those(lambda model: is_severe(model, gates)),
        undecided=those(undecided),
        external=those(lambda model: not model.in_house),
        external_severe=those(lambda model: is_severe(model, gates) and not model.in_house),
        external_confirmed=those(lambda model: is_confirmed(model, gates) and not model.in_house),
        external_undecided=those(lambda model: undecided(model) and not model.in_house),
        tested=those(lambda model: model.p_holm is not None),
        under_test=tuple(models),
    )


def _table(found: Sorted, gates: Gates, *, enough_severe: bool) -> Decision:
    """The rows of the table, which exclude one another; `enough_severe` is GO's second condition."""
    if len(found.tested) < gates.models_tested:
        return Decision.NEED_MORE_DATA
    if enough_severe:
        return Decision.GO
    if found.severe and found.external and not found.external_severe and not found.external_undecided:
        return Decision.PIVOT
    if not found.severe and not found.undecided:
        return Decision.NO_GO
    return Decision.NEED_MORE_DATA


def _readings(found: Sorted, gates: Gates) -> dict[str, Decision]:
    """The decision, and the two readings of "how many must be severe": two, or every model tested."""
    count = len(found.external_confirmed)
    enough = {
        "decision": count >= gates.models_severe,
        "severe_two_of_three": count >= 2,
        "severe_all": count >= 2 and set(found.severe) == set(found.under_test),
    }
    return {name: _table(found, gates, enough_severe=value) for name, value in enough.items()}


def _models_needed(found: Sorted, gates: Gates) -> int:
    """The fewest further models without which no number of images leads to a decision."""
    needed = gates.models_tested - len(found.under_test)
    if found.external_severe:  # neither PIVOT nor NO_GO can follow, so GO must become possible
        needed = max(needed, gates.models_severe - len(found.external_confirmed) - len(found.external_undecided))
    if found.severe and not found.external:
        needed = max(needed, 1)
    return max(needed, 0)


def _gate_rows(models: Mapping[str, Severity], found: Sorted, gates: Gates) -> dict[str, dict[str, Any]]:
    """Each gate of GO: required, found, met.

    p and imbalance are gates of every model that counts as severe, so what is found is the value of the external model
    on which the number of severe ones turns: the `models_severe`-th smallest p and largest mean (None with fewer).
    """
    external = [models[name] for name in found.external]
    place = gates.models_severe - 1
    p = sorted(model.p_holm for model in external if model.p_holm is not None)
    means = sorted((model.mean for model in external if model.mean is not None), reverse=True)
    return {
        "models_tested": {
            "required": gates.models_tested,
            "found": len(found.tested),
            "met": len(found.tested) >= gates.models_tested,
        },
        "models_severe": {
            "required": gates.models_severe,
            "found": len(found.external_severe),
            "met": len(found.external_severe) >= gates.models_severe,
        },
        "p": {
            "required": gates.alpha,
            "found": p[place] if place < len(p) else None,
            "met": sum(_significant(model, gates) for model in external) >= gates.models_severe,
        },
        "confirmed": {
            "required": gates.models_severe,
            "found": len(found.external_confirmed),
            "met": len(found.external_confirmed) >= gates.models_severe,
        },
        "imbalance": {
            "required": gates.imbalance,
            "found": means[place] if place < len(means) else None,
            "met": sum(_imbalanced(model, gates) for model in external) >= gates.models_severe,
        },
    }


def named(names: tuple[str, ...] | list[str]) -> str:
    """A list of names as one scalar."""
    return ", ".join(names) or "none"


def _reason(found: Sorted, decision: Decision, models_needed: int) -> str:
    tested, external = len(found.tested), len(found.external)
    severe = (
        f"{len(found.external_severe)} of {external} external models severe, {len(found.external_confirmed)} confirmed"
    )
    if decision is not Decision.NEED_MORE_DATA:
        in_house = len(found.severe) - len(found.external_severe)
        return f"{tested} models tested, {severe}, {in_house} in-house ones; {len(found.undecided)} undecided"
    parts = [f"{tested} of {len(found.under_test)} models under test tested, {severe}"]
    if models_needed:
        parts.append(f"{models_needed} more model{'s' if models_needed > 1 else ''} needed")
    if found.undecided:
        parts.append(f"undecided: {named(found.undecided)}")
    return "; ".join(parts)


def decide(models: Mapping[str, Severity], gates: Gates) -> dict[str, Any]:
    """The decision by one measure.

    Parameters
    ----------
    models
        name -> severity of each model under test that defines the measure; controls are no models under test.

    Returns
    -------
    dict
        decision, severe_two_of_three and severe_all (the decision if at least two external models, or all models,
        must be severe), reason, gates, names of the severe, confirmed and undecided models, n_tested;
        images_needed: where more data is needed, the images that would settle every undecided model, 0 if none
        is undecided and None if no number is known for one of them (images_unknown_for names those); models_needed:
        the fewest further models without which no number of images leads to a decision; models: each model's numbers
        and what they meet.
    """
    found = sort_models(models, gates)
    readings = _readings(found, gates)
    decision = readings["decision"]
    waiting = found.undecided if decision is Decision.NEED_MORE_DATA else ()
    unknown = tuple(name for name in waiting if models[name].n_to_settle is None)
    images_needed = max((models[name].n_to_settle or 0 for name in waiting), default=0)
    models_needed = _models_needed(found, gates) if decision is Decision.NEED_MORE_DATA else 0
    return {
        **readings,
        "reason": _reason(found, decision, models_needed),
        "gates": _gate_rows(models, found, gates),
        "n_tested": len(found.tested),
        "severe": named(found.severe),
        "severe_external": named(found.external_severe),
        "undecided": named(found.undecided),
        "external_undecided": named(found.external_undecided),
        "external_confirmed": named(found.external_confirmed),
        "images_needed": None if unknown else images_needed,
        "images_unknown_for": named(unknown),
        "models_needed": models_needed,
        "models": {
            name: {
                "in_house": model.in_house,
                "n": model.n,
                "mean": model.mean,
                "ci_low": model.ci_low,
                "ci_high": model.ci_high,
                "p_holm": model.p_holm,
                "p_balanced_holm": model.p_balanced_holm,
                "n_to_settle": model.n_to_settle,
                "ignored": model.ignored,
                "lost": model.lost,
                "p_met": _significant(model, gates),
                "imbalance_met": _imbalanced(model, gates),
                "severe": name in found.severe,
                "not_severe": is_balanced(model, gates),
                "confirmed": is_confirmed(model, gates),
                "undecided": name in found.undecided,
                **({"reason": model.reason} if model.reason else {}),
            }
            for name, model in models.items()
        },
    }
