"""The reported claims: what they imply of one another, beside what a study measured."""

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
from attention_collapse.stats.claims import Reported, effect, implied

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


def comparable(models: Mapping[str, ModelSpec], claimed: Mapping[str, str]) -> str | None:
    """The model under test that comes nearest to the claimed one: its kind, and its architecture if there is one."""
    same_kind = [name for name, spec in models.items() if not spec.is_control and spec.kind == claimed["kind"]]
    same = [name for name in same_kind if models[name].architecture == claimed["architecture"]]
    return next(iter([*same, *same_kind]), None)


def measured(result: Mapping[str, Any], reference: float, where: str) -> dict[str, float | None]:
    """Claim -> what the statistics of one model say of it; None where its MCS does not exist."""
    mcs, layers = need(result, "mcs", where), need(result, "layers", where)
    mean, sd, low, high = (need(mcs, key, f"{where}.mcs") for key in ("mean", "sd", "ci_low", "ci_high"))
    d = effect(mean, reference, sd) if mean is not None and sd else None
    names = sorted(layers)
    middle = [need(layers[names[index]], "mcs", f"{where}.layers") for index in thirds(len(names))["middle"]]
    return {
        "mcs": mean,
        "sd": sd,
        "cohen_d_if_sd": d,
        "cohen_d_if_half_width": d,
        "ci_low": low,
        "ci_high": high,
        "middle_third": sum(middle) / len(middle) if middle and None not in middle else None,
    }


def audit(reported: Reported, values: Mapping[str, float | None], model: str | None, study: str) -> dict[str, Any]:
    """Every claim with what it implies and what was measured; without a measurement, null and the reason."""
    claims = implied(reported)
    for name, claim in claims.items():
        found = values.get(name)
        claim |= {"measured": found, "measured_study": None, "measured_model": None}
        if found is not None:
            claim |= {"measured_study": study, "measured_model": model}
        elif name in NOT_MEASURED:
            claim["reason"] = NOT_MEASURED[name]
        elif model is None:
            claim["reason"] = f"study {study} has no trained model of the claimed kind"
        else:
            claim["reason"] = f"undefined for {model} in study {study}"
    return claims
