"""The claims of the team's internal progress report: what they imply of one another, beside what a study measured.

A measured value stands beside a claim only if it is of the claimed model and of the claimed pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from attention_collapse.errors import DataError
from attention_collapse.files import need
from attention_collapse.measures.mcs import thirds
from attention_collapse.models.spec import ModelSpec
from attention_collapse.stats.claims import READINGS, Reported, effect, implied, n_consistent

PARTS = {"value", "unit", "source", "about"}
NOT_MEASURED = {
    "power": "power at an observed effect says no more than its p-value",
    "seconds": "times differ between machines, so no metrics file holds one",
    "planned_n": "a calculation before any measurement",
}


def read_claims(path: Path) -> tuple[Reported, dict[str, Any]]:
    """The reported values and the file's content; DataError names what is missing, unknown or no number."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: {error}", expected="a YAML file of claims", remedy="restore the file") from None
    values: Any = content.get("values") if isinstance(content, dict) else None
    names = {field.name for field in fields(Reported)}
    whole = isinstance(content, dict) and {"about", "model", "values"} <= content.keys() and isinstance(values, dict)
    odd = sorted(names ^ values.keys()) if whole else ["about, model or values"]
    odd += ["source of model"] if whole and "source" not in content["model"] else []
    odd += [
        name
        for name, entry in (values.items() if whole and not odd else ())
        if not isinstance(entry, dict) or entry.keys() != PARTS or type(entry["value"]) not in (int, float)
    ]
    if odd:
        raise DataError(
            f"{path}: missing, unknown or without a number: {', '.join(odd)}",
            expected=f"`values` with {', '.join(sorted(names))}, each with {', '.join(sorted(PARTS))}",
            remedy="mend the file",
        )
    return Reported(**{name: entry["value"] for name, entry in values.items()}), content


def comparable(models: Mapping[str, ModelSpec], source: str, claimed: Mapping[str, str]) -> tuple[str | None, str]:
    """The model under test that is the claimed one, measured on the claimed pictures; or None, and why.

    Parameters
    ----------
    source
        Where the study's pairs come from (`fetch_coco.source`).
    claimed
        The claimed model, as under `models` of a study, and `source`, the claimed pictures.
    """
    model = {name: value for name, value in claimed.items() if name != "source"}
    words = " ".join(model.values())
    if source != claimed["source"]:
        return None, f"the claim is about {words} on {claimed['source']}; this study's pairs are {source}"
    for name, spec in models.items():
        if not spec.is_control and all(getattr(spec, key) == value for key, value in model.items()):
            return name, ""
    return None, f"this study does not measure the claimed model, {words}"


def measured(result: Mapping[str, Any], reference: float, where: str) -> dict[str, float | None]:
    """Claim -> what the statistics of one model say of it; None where its MCS does not exist.

    Of the interval its ends, as `interval_low` and `interval_high`.
    """
    mcs, layers = need(result, "mcs", where), need(result, "layers", where)
    mean, sd, low, high = (need(mcs, key, f"{where}.mcs") for key in ("mean", "sd", "ci_low", "ci_high"))
    d = effect(mean, reference, sd) if mean is not None and sd else None
    names = sorted(layers)
    middle = [need(layers[names[index]], "mcs", f"{where}.layers") for index in thirds(len(names))["middle"]]
    return {
        "mcs": mean,
        "cohen_d": d,
        "interval_low": low,
        "interval_high": high,
        "middle_third": sum(middle) / len(middle) if middle and None not in middle else None,
    }


def audit(
    reported: Reported, values: Mapping[str, float | None], model: str | None, reason: str, study: str
) -> dict[str, Any]:
    """Every claim with what it implies and what was measured; without a measurement, null and the reason.

    Parameters
    ----------
    model, reason
        As of `comparable`.
    """
    claims = {}
    for name, claim in implied(reported).items():
        keys = ("measured_low", "measured_high") if name == "interval" else ("measured",)
        found = {key: values.get(key.replace("measured", name)) for key in keys}
        there = None not in found.values()
        about = {"measured_study": study if there else None, "measured_model": model if there else None}
        why = NOT_MEASURED.get(name) or reason or f"undefined for {model} in study {study}"
        claims[name] = claim | found | about | ({} if there else {"reason": why})
    return claims


def counts(claims: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How many claims there are, and how many agree with what the others imply, at best and for each reading of ±."""
    by_reading = {f"n_consistent_if_{reading}": n_consistent(claims, reading) for reading in READINGS}
    return {"n_claims": len(claims), "n_consistent": max(by_reading.values()), **by_reading}
