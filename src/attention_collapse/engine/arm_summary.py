"""Which way to train prevents collapse, by the study's rule, from the scores of its models. Seeds are the unit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attention_collapse.engine.arm_alarms import CAUSES, alarms
from attention_collapse.engine.arm_cells import BASELINE, HOLDER, OTHER, ArmCell, cells
from attention_collapse.engine.arm_curves import collapsed_at, curves
from attention_collapse.engine.at_inference import COLUMNS, LOG_ODDS, REMEDIES, at_inference
from attention_collapse.engine.dose_scores import numbers
from attention_collapse.engine.dose_summary import COLLAPSED, HELD_OUT, LEARNED, dose_key
from attention_collapse.engine.paired_seeds import UNDETERMINED, compared, could_be_shown, judge, over_seeds
from attention_collapse.params import Dose, Prevention
from attention_collapse.stats import ties

Floats = NDArray[np.float64]
TRAINED = "accuracy_trained"
IDENTITY = ("kind", "modality", "reliability", "seed", "arm")
KEPT = (
    TRAINED, HELD_OUT, "accuracy_reversed", "accuracy_image_swapped_trained", "accuracy_text_swapped_trained",
    "reliance_image_trained", "reliance_text_trained", "reliance_share_trained", "reliance_image_uninformative",
    "reliance_text_uninformative", "reliance_share_uninformative",
)  # fmt: skip
TOOK = ("passes", "seconds", "stopped_at")
ALARMS = tuple(f"{cause}_rang_at" for cause in CAUSES)  # columns, of the arms in `WATCHED`
WATCHED = (BASELINE, "balanced-data")  # where models collapse, and where they must not


def told(tensors: Mapping[str, Floats], about: Mapping[str, Any]) -> dict[str, float]:
    """What is kept of one model: those of `dose_scores.numbers` in `KEPT`, what its training took, when it had
    collapsed, and, of a plainly trained one, what contrastive decoding makes of it."""
    found = numbers({name: values for name, values in tensors.items() if not name.startswith("watched.")})
    took = {name: float(about[name]) for name in TOOK}
    took["collapsed_at"] = collapsed_at(curves(tensors))
    arm, modality = about["parameters"]["arm"], about["parameters"]["modality"]
    rang = alarms(tensors) if arm in WATCHED else dict.fromkeys(ALARMS, math.nan)
    remedied = at_inference(tensors, modality) if arm == BASELINE else dict.fromkeys(COLUMNS, math.nan)
    return {name: found[name] for name in KEPT} | took | rang | remedied


def cue_key(dose: Dose | ArmCell) -> str:
    """The key of a cue in the metrics."""
    return f"{dose.modality}_{dose_key(dose.reliability)}"


def _arm(models: pd.DataFrame, baseline: pd.DataFrame, ignored: str, study: Prevention, level: float) -> dict[str, Any]:
    """One arm beside one cue: outcomes over seeds, and paired differences from plain training of the same seeds."""
    columns = {
        "neutral": HELD_OUT, "trained": TRAINED, "reversed": "accuracy_reversed",
        "reliance": f"reliance_{ignored}_uninformative", "reliance_trained": f"reliance_{ignored}_trained",
        "swapped": f"accuracy_{ignored}_swapped_trained", "passes": "passes",
    }  # fmt: skip
    found: dict[str, Any] = {"n_seeds": len(models)}
    for name, column in columns.items():
        found[name] = over_seeds(models[column].tolist(), level)
    pairs = models.merge(baseline, on="seed", suffixes=("", "_erm"))
    gain = (pairs[HELD_OUT] - pairs[f"{HELD_OUT}_erm"]).to_numpy(np.float64)
    change = (pairs[TRAINED] - pairs[f"{TRAINED}_erm"]).to_numpy(np.float64)
    cost = (pairs["seconds"] / pairs["seconds_erm"]).to_numpy(np.float64)
    found["cost"] = float(np.median(cost)) if len(cost) else math.nan
    found["n_pairs"] = len(pairs)
    found |= compared(gain, change, study.rule, level)
    return found


def summary(table: pd.DataFrame, missing: Sequence[ArmCell], study: Prevention, confidence: float) -> dict[str, Any]:
    """kind -> cue -> arm -> outcomes and verdict; and in how many kinds each arm prevents.

    An arm prevents beside a cue by `paired_seeds.judge`: the gain is that in neutral accuracy, what must not be lost is
    accuracy as trained, and Holm goes over all arms and cues that the study names for the kind.

    Parameters
    ----------
    table
        A row per model: the fields of `ArmCell`, and `told`.
    """
    alpha = 1 - confidence
    kinds: dict[str, Any] = {}
    for kind in study.kinds:
        cues: dict[str, Any] = {}
        for dose in study.doses:
            here = _of(table, kind, dose)
            if not len(here):
                continue
            baseline = here[here["arm"] == BASELINE]
            arms = {arm: here[here["arm"] == arm] for arm in study.arms}
            cues[cue_key(dose)] = {
                arm: _arm(models, baseline, OTHER[dose.modality], study, confidence)
                for arm, models in arms.items()
                if len(models)
            }
        named = {(cell.arm, cell.modality, cell.reliability) for cell in cells(study) if cell.kind == kind}
        judged = [found for arms in cues.values() for arm, found in arms.items() if arm != BASELINE]
        judge(judged, alpha, sum(arm != BASELINE for arm, *_ in named))
        if cues:
            kinds[kind] = cues
    return {"kinds": kinds, "n_models": len(table), "n_missing": len(missing), "missing": _named(missing)}


def remedied(table: pd.DataFrame, study: Prevention, confidence: float) -> dict[str, Any]:
    """kind -> cue -> remedy at inference -> outcomes and verdict, of the plainly trained models, as `summary` has them.

    The gain is over the same models as they are. The rule's limits are applied, with Holm's correction over the
    remedies and the cues that the study names for the kind; they were no part of the study when the rule was fixed.
    `LOG_ODDS` is no remedy.
    """
    kinds: dict[str, Any] = {}
    for kind in study.kinds:
        cues: dict[str, Any] = {}
        for dose in study.doses:
            here = _of(table, kind, dose)
            plain = here[here["arm"] == BASELINE] if len(here) else here
            if len(plain):
                cues[cue_key(dose)] = {
                    name: _remedy(plain, name, remedy.contrast.passes(study.partners), study, confidence)
                    for name, remedy in REMEDIES.items()
                }
        remedies = [name for name in REMEDIES if name != LOG_ODDS]
        judged = [found[name] for found in cues.values() for name in remedies]
        named = sum(dose.kinds is None or kind in dose.kinds for dose in study.doses)
        judge(judged, 1 - confidence, named * len(remedies))
        if cues:
            kinds[kind] = cues
    return kinds


def _remedy(plain: pd.DataFrame, name: str, passes: float, study: Prevention, level: float) -> dict[str, Any]:
    neutral, trained = (plain[f"{name}_{condition}"].to_numpy(np.float64) for condition in ("uninformative", "trained"))
    gain, change = neutral - plain[HELD_OUT].to_numpy(np.float64), trained - plain[TRAINED].to_numpy(np.float64)
    return {
        "neutral": over_seeds(neutral.tolist(), level), "trained": over_seeds(trained.tolist(), level),
        **compared(gain, change, study.rule, level), "n_seeds": len(plain), "passes": passes,
    }  # fmt: skip


def monitored(table: pd.DataFrame, study: Prevention) -> dict[str, Any]:
    """kind -> cue -> alarm: how often it rang for models that collapsed, and for ones that cannot have.

    Collapsed are plainly trained models with at most `COLLAPSED` of the pairs right where the cue says nothing; sound
    are those on balanced data with at least `LEARNED`. `rang_at`, and `delay` since the model had collapsed on the
    watched pairs, are medians over the collapsed for which it rang, in shares of the run. An alarm of the modality with
    the cue counts as false of any model.
    """
    return {
        kind: {
            cue_key(dose): _rang(models, dose.modality) for dose in study.doses if len(models := _of(table, kind, dose))
        }
        for kind in study.kinds
    }


def _of(table: pd.DataFrame, kind: str, dose: Dose) -> pd.DataFrame:
    """The models of one kind beside one cue."""
    if not len(table):
        return table
    beside = (table["modality"] == dose.modality) & (table["reliability"] == dose.reliability)
    return table[(table["kind"] == kind) & beside]


def _rang(models: pd.DataFrame, modality: str) -> dict[str, Any]:
    plain, balanced = (models[models["arm"] == arm] for arm in WATCHED)
    collapsed = plain[~ties.above(plain[HELD_OUT].to_numpy(), COLLAPSED)]
    sound = balanced[~ties.below(balanced[HELD_OUT].to_numpy(), LEARNED)]
    sides: dict[str, Any] = {}
    for name, column in (("swap", f"{OTHER[modality]}_rang_at"), ("neutral_pairs", "hard_rang_at")):
        at = collapsed[column] / collapsed["stopped_at"]
        delay = at - collapsed["collapsed_at"] / collapsed["stopped_at"]
        sides[name] = {
            "collapsed": len(collapsed), "rang": int(at.notna().sum()), "rang_at": float(at.median()),
            "delay": float(delay.median()),
            "sound": len(sound), "false": int(sound[column].notna().sum()),
        }  # fmt: skip
    both = pd.concat([collapsed, sound])
    sides["wrong_modality"] = {"models": len(both), "rang": int(both[f"{HOLDER[modality]}_rang_at"].notna().sum())}
    return sides


def _named_beside_the_first(study: Prevention) -> Counter[tuple[str, str]]:
    """(kind, arm) -> how many seeds the study names beside its first dose."""
    return Counter((cell.kind, cell.arm) for cell in cells(study) if cue_key(study.doses[0]) == cue_key(cell))


def without_room(table: pd.DataFrame, study: Prevention, confidence: float) -> list[str]:
    """The kinds in which nothing can prevent beside the first dose, whatever is still trained.

    Plain training of every seed that is named is there, and is right so often where the cue says nothing that no gain
    over it could be shown to be above the rule's (`paired_seeds.could_be_shown`), Holm's correction left aside.

    Parameters
    ----------
    table
        As of `summary`.
    """
    named, found = _named_beside_the_first(study), []
    for kind in study.kinds:
        models = _of(table, kind, study.doses[0])
        plain = models[models["arm"] == BASELINE] if len(models) else models
        if len(plain) and len(plain) == named[kind, BASELINE]:
            most = 1 - plain[HELD_OUT].to_numpy(np.float64)
            if not could_be_shown(most, study.rule.gain, 1 - confidence):
                found.append(kind)
    return found


def in_kinds(kinds: Mapping[str, Any], study: Prevention, closed: Collection[str] = ()) -> dict[str, Any]:
    """Arm -> in which kinds it prevents beside the first dose, of how many with a verdict, and whether the rule
    recommends it.

    `recommended` is None while kinds that lack a seed, and are not among those that are `closed` (`without_room`),
    could still decide, and where the study names the arm in fewer kinds than the rule asks for.
    """
    first, rule, named = study.doses[0], study.rule, _named_beside_the_first(study)
    found: dict[str, Any] = {}
    for arm in study.arms:
        if arm == BASELINE:
            continue
        arms = {kind: kinds.get(kind, {}).get(cue_key(first), {}).get(arm, {}) for kind in study.kinds}
        verdicts = {kind: one.get("verdict", UNDETERMINED) for kind, one in arms.items()}
        where = [kind for kind, verdict in verdicts.items() if verdict == "prevents"]
        told = sum(verdict != UNDETERMINED for verdict in verdicts.values())
        possible = [kind for kind in study.kinds if (kind, arm) in named]
        settled = [k for k in possible if arms[k].get("n_pairs") == named[k, arm] or k in where or k in closed]
        excluded = len(possible) >= rule.kinds > len(where) + len(possible) - len(settled)
        found[arm] = {
            "kinds": ", ".join(where) or "none", "n_prevents": len(where), "n_kinds": told,
            "recommended": True if len(where) >= rule.kinds else False if excluded else None,
        }  # fmt: skip
    return found


def _named(missing: Sequence[ArmCell]) -> dict[str, str]:
    """kind/arm-cue -> the seeds that are not there."""
    found: dict[str, list[str]] = {}
    for cell in missing:
        found.setdefault(f"{cell.kind}/{cell.arm}-{cell.modality}-{cell.reliability:g}", []).append(str(cell.seed))
    return {name: ", ".join(seeds) for name, seeds in found.items()}
