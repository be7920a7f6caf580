"""The decision's own rule, tried on every model whose answer was planted: what it finds, and what it calls by mistake.

A model that ignores a modality is *found* if its severity test says "severe" and names that modality, and the find is
confirmed if accuracy says so too; a balanced model that is "severe" is a false alarm. The models of one kind are one
study, so Holm's correction goes over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from attention_collapse.engine.contribution import spread
from attention_collapse.engine.decision import lost_accuracy
from attention_collapse.engine.statistics import add_holm, severity
from attention_collapse.engine.validity import BALANCED, TEXT, learned
from attention_collapse.engine.validity import IMAGE as IMAGE_SHORTCUT
from attention_collapse.measures.catalogue import SEVERITY_MEASURES
from attention_collapse.params import Stats
from attention_collapse.stats.decision import Gates, Severity, is_balanced, is_confirmed, is_severe
from attention_collapse.stats.severity import IMAGE, NEITHER
from attention_collapse.stats.severity import TEXT as THE_TEXT

TRUTH = {  # regime -> what its models ignore; graded regimes have no plain answer
    TEXT: ("image_ignored", IMAGE), IMAGE_SHORTCUT: ("text_ignored", THE_TEXT), BALANCED: ("balanced", NEITHER),
}  # fmt: skip
OUTCOMES = ("n_models", "right", "confirmed", "wrong", "undecided")


def _values(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns that severity needs; measures of attention over all rows, those that the kind lacks undefined."""
    nothing = pd.Series(float("nan"), rows.index)
    names = [key for name, measure in SEVERITY_MEASURES.items() for key in (name, *measure.inputs)]
    keys = {name: f"{name}_all" if f"{name}_all" in rows else name for name in names}
    return {name: spread(rows, key) if key in rows else nothing for name, key in keys.items()}


def rule_of_kind(
    models: Mapping[str, Mapping[str, float]], table: pd.DataFrame, stats: Stats, gates: Gates
) -> dict[str, dict[str, dict[str, int]]]:
    """The rule applied to each model of a kind that counts, see `validity.learned`.

    Parameters
    ----------
    models
        "regime-seed" -> means of its measures.
    table
        A row a pair of each model: regime, seed and the measures.

    Returns
    -------
    dict
        measure -> "image_ignored", "text_ignored" or "balanced" -> n_models; right (severe with that modality named, or
        shown not to be severe, for a balanced one); confirmed (of those found severe, by accuracy); wrong (severe with
        the other modality or although balanced; not severe although it ignores one); undecided. Measures that the kind
        does not define are left out.
    """
    counted = {
        (str(regime), int(str(seed))): rows
        for (regime, seed), rows in table.groupby(["regime", "seed"], sort=True)
        if regime in TRUTH and not learned(models[f"{regime}-{seed}"], str(regime))
    }
    settings = {"confidence": stats.confidence, "n_resamples": stats.n_resamples, "rng": stats.seed}
    found = {key: severity(_values(rows), stats, len(counted), settings) for key, rows in counted.items()}
    result: dict[str, dict[str, dict[str, int]]] = {}
    for measure in SEVERITY_MEASURES:
        if not any(entries[measure]["n"] for entries in found.values()):
            continue
        add_holm(entries[measure] for entries in found.values())
        parts = {part: dict.fromkeys(OUTCOMES, 0) for part, _ in TRUTH.values()}
        for (regime, seed), entries in found.items():
            entry = entries[measure]
            lost = lost_accuracy({key: {"mean": value} for key, value in models[f"{regime}-{seed}"].items()},
                                 entry["ignored"])  # fmt: skip
            keys = ("n", "mean", "ci_low", "ci_high", "p_holm", "p_balanced_holm", "ignored")
            model = Severity(in_house=False, n_to_settle=None, lost=lost, **{key: entry[key] for key in keys})
            part, ignored = TRUTH[regime]
            for outcome in _outcomes(model, ignored, gates):
                parts[part][outcome] += 1
        result[measure] = parts
    return result


def _outcomes(model: Severity, ignored: str, gates: Gates) -> list[str]:
    severe = is_severe(model, gates)
    right = is_balanced(model, gates) if ignored == NEITHER else severe and model.ignored == ignored
    if right:
        return ["n_models", "right", *(["confirmed"] if is_confirmed(model, gates) else [])]
    return ["n_models", "wrong" if severe or is_balanced(model, gates) else "undecided"]


def rule_over_kinds(kinds: Iterable[Mapping[str, Mapping[str, Mapping[str, int]]]]) -> dict[str, dict[str, int]]:
    """Measure -> over all kinds: models that ignore a modality, how many are found, confirmed, missed and undecided;
    balanced ones, how many are shown to be so, how many are false alarms and how many undecided."""
    total: dict[str, dict[str, int]] = {}
    for kind in kinds:
        for measure, parts in kind.items():
            for part, counts in parts.items():
                side = "balanced" if part == "balanced" else "ignoring"
                for outcome, count in counts.items():
                    sums = total.setdefault(measure, {})
                    sums[f"{side}_{outcome}"] = sums.get(f"{side}_{outcome}", 0) + count
    return total
