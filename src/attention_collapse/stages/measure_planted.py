"""Stage measure_planted: every measure of every model with a planted answer, on held-out pairs, kind by kind.

The models are small and many, so several processes measure them side by side; each imports the libraries once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from attention_collapse.data.planted import Regime
from attention_collapse.data.planted_files import write_planted
from attention_collapse.engine.workers import side_by_side
from attention_collapse.errors import ParamsError
from attention_collapse.identity.settle import settle_frame, settle_json
from attention_collapse.params import Plant
from attention_collapse.stages.run import run_stage
from attention_collapse.stats.partners import IN_ROLES
from attention_collapse.study.layout import Study, evidence_of

IDENTITY = ("regime", "seed", "image_id")
PARTIAL = ("emap_gap", "image_t_shap")  # of the first pairs only


@dataclass(frozen=True)
class Task:
    """One model of a kind, and the pairs it is measured on."""

    kind: str
    regime: str
    seed: int
    checkpoint: Path
    common: Path
    own: Path
    plant: Plant
    options: dict[str, int]


def _measured(task: Task) -> tuple[pd.DataFrame, str]:
    from attention_collapse.engine.planted_measures import measured  # heavy, and needed in the workers alone

    values, digest = measured(task.kind, task.checkpoint, (task.common, task.own), task.plant, **task.options)
    values.insert(0, "seed", task.seed)
    values.insert(0, "regime", task.regime)
    return values, digest


def _tasks(study: Study, plant: Plant, pairs: Path) -> list[Task]:
    """Every model, kind by kind; writes the pairs of each regime below `pairs`."""
    batch_size = study.params.extract_attention.batch_size * 4  # small models
    drawn = study.params.contribution
    options = {"partners": drawn.partners, "seed": drawn.seed, "batch_size": batch_size}
    regimes = {name: Regime(cues.content, cues.text, cues.image) for name, cues in plant.regimes.items()}
    for name, regime in {"common": Regime(), **regimes}.items():
        write_planted(pairs / name, plant.measured, plant.data_seed + 2, regime)
    return [
        Task(
            kind, name, seed, study.trained(f"planted-{kind}") / f"{name}-{seed}",
            pairs / "common", pairs / name, plant, options,
        )
        for kind in plant.kinds
        for name, cues in plant.regimes.items()
        for seed in (plant.seeds if cues.seeds is None else cues.seeds)
    ]  # fmt: skip


def _means(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The means of each model of a kind, and how many of its values are undefined."""
    means = {}
    for (regime, seed), values in table.groupby(["regime", "seed"], sort=False):
        numbers = values.drop(columns=[*IDENTITY, *(name for name in values if str(name).endswith(IN_ROLES))])
        undefined = int(numbers.drop(columns=list(PARTIAL)).isna().sum().sum())
        means[f"{regime}-{seed}"] = {
            **{str(name): float(values.mean()) for name, values in numbers.items()},
            "undefined": undefined,
        }
    return means


def main(study: Study) -> None:
    """Write for each kind a table with one row per model and pair, and each model's means."""
    plant, contribution = study.params.plant, study.params.contribution
    if plant is None:
        raise ParamsError(f"{study.params.params_file} has no section plant", expected="one", remedy="add it")
    pairs = study.planted_pairs
    tasks = _tasks(study, plant, pairs)
    bar = tqdm(tasks, desc="planted models", unit="model", disable=None)
    results = zip(bar, side_by_side(_measured, tasks, plant.workers), strict=True)
    for kind, group in groupby(results, key=lambda item: item[0].kind):
        tables, weights = [], {}
        for task, (values, digest) in group:
            tables.append(values)
            weights[task.checkpoint.name] = digest
        table = settle_frame(study.planted_table(kind), pd.concat(tables, ignore_index=True))
        means = _means(table)
        for name, found in means.items():
            bar.write(
                f"{kind} {name}: accuracy {found['accuracy']:.3f}, MCS {found['mcs_all']:.3f}, "
                f"share of the image {found['shapley_share']:.3f}"
            )
        used = {
            "plant": plant.model_dump(exclude={"workers"}), "contribution": contribution.model_dump(), "kind": kind,
        }  # fmt: skip
        about = {"stage": "measure_planted", "kind": kind, "n_images": plant.measured, "models": means}
        about["evidence_id"] = evidence_of("measure_planted", used, weights)
        settle_json(study.planted(kind), about, "cpu")
    shutil.rmtree(pairs)


if __name__ == "__main__":
    run_stage(main)
