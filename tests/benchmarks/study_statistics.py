"""Time of the stage stats on synthetic tables: 20 models × 500 images × 10 measures with 10,000 resamples.

    python tests/benchmarks/study_statistics.py [--models 20] [--images 500] [--resamples 10000] [--runs 3]

Prints the median of the whole stage, from tables to stats.json: intervals of every measure and of 12 layers, tests,
severity with simulated power, the differences between every two models, meta-analysis. Give it two cores
(`OMP_NUM_THREADS=2`) to compare with the figure to reach, 60 s.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from attention_collapse.engine import statistics as engine
from attention_collapse.files import write_json
from attention_collapse.params import Params
from attention_collapse.stages import stats
from attention_collapse.study.layout import Study

# The ten measures that models of one family have; the others are undefined, as in a real study.
DEFINED = (
    "mcs",
    "mcs_null",
    "mcs_calibrated",
    "imbalance",
    "entropy_vision",
    "entropy_text",
    "cross_modal_entropy_surrogate",
    "cross_modal_entropy_surrogate_normalized",
    "mass_share",
)  # fmt: skip; the tenth is mcs_minus_null


def write_study(root: Path, models: int, images: int, resamples: int) -> Study:
    """The files that the stages before would have left."""
    specs = {f"m{i:02d}": {"kind": "openclip", "weights": "checkpoint", "path": "."} for i in range(models)}
    study = Study(
        Params.model_validate(
            {"study": "s", "params_file": "params.yaml", "models": specs, "stats": {"n_resamples": resamples}}
        ),
        root,
    )
    for index, model in enumerate(specs):
        rng = np.random.default_rng(index)
        ids = np.arange(images)
        table = {f"{name}_all": rng.beta(8, 3, images) for name in DEFINED}
        layers = [
            pd.DataFrame(
                {"image_id": ids, "layer": k} | {f"{n}_all": rng.beta(8, 3, images) for n in engine.LAYER_BANDS}
            )
            for k in range(1, 13)
        ]
        causal = {name: rng.beta(5, 5, images) for name in engine.CAUSAL}
        for path in (study.pairs_table(model), study.contributions_table(model)):
            path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"image_id": ids, "caption_id": ids, "truncated": False} | table).to_csv(
            study.pairs_table(model), index=False
        )
        pd.concat(layers).to_csv(study.layers_table(model), index=False)
        pd.DataFrame({"image_id": ids} | causal).to_csv(study.contributions_table(model), index=False)
        described = {name: {"mean": v.mean(), "sd": v.std(), "n": images} for name, v in causal.items()}
        write_json(study.contributions(model), described | {"evidence_id": "0"})
        about = {"rows": "all", "reasons": {}, "family": "dual encoder", "evidence_id": "0"}
        shares = {"share_of_pairs_above_0_7": 0.5, "share_of_nulls_above_0_7": 0.5}
        write_json(study.scores(model), about | shares)
    return study


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), arguments.models, arguments.images, arguments.resamples)
        wall, cpu = [], []
        for _ in range(arguments.runs):
            start = time.perf_counter(), time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                stats.main(study)
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
    print(
        f"{arguments.models} models × {arguments.images} images × {len(DEFINED) + 1} measures, {arguments.resamples} "
        f"resamples: median {statistics.median(wall):.1f} s ({min(wall):.1f}–{max(wall):.1f}), "
        f"{statistics.median(cpu):.1f} s of processor time"
    )


if __name__ == "__main__":
    main()
