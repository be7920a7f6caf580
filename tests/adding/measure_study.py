"""Runs on a copy of the package that has one measure more: a small study, its statistics, reports and verdicts.

    python measure_study.py FOLDER

Prints as JSON where the measure was found. FOLDER holds `checkpoint/`, a small ViLT, and `in/`, pairs in COCO's layout.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from attention_collapse import diagnose
from attention_collapse.engine.validity import contrasts, judge_kind
from attention_collapse.files import read_json
from attention_collapse.params import Params
from attention_collapse.report.comparison import comparison
from attention_collapse.report.measures import measures_table
from attention_collapse.report.validity import separation
from attention_collapse.stages import compute_mcs, contribution, extract_attention, fetch_coco, reports, stats
from attention_collapse.study.layout import Study

NAME = "mass_difference"
root = Path(sys.argv[1])
model = {"kind": "vilt", "weights": "checkpoint", "path": str(root / "checkpoint"), "max_unknown": 1.0}
study = Study(
    Params.model_validate(
        {
            "study": "s",
            "params_file": "params.yaml",
            "models": {"m": model},
            "fetch_coco": {"source": "folder", "path": str(root / "in"), "n": None},
            "extract_attention": {"threads": 1},
            "contribution": {"t_shap_images": 1, "partners": 2},
            "stats": {"n_resamples": 200},
        }
    ),
    root,
)
fetch_coco.main(study)
for stage in (extract_attention, compute_mcs, contribution):
    stage.main(study, "m")
stats.main(study)
reports.main(study)
statistics = read_json(study.statistics)["models"]

rng = np.random.default_rng(0)
rows = [
    {"regime": regime, "seed": seed, "image_id": image, f"{NAME}_all": centre + rng.normal(0, 0.01)}
    for regime, centre in (("balanced", 0.5), ("text-shortcut", 0.1), ("image-shortcut", 0.9))
    for seed in range(3)
    for image in range(20)
]
means = {"accuracy": 0.98, "perceptual_score_image": 0.48, "perceptual_score_text": 0.48}
told = {"balanced": means, "text-shortcut": means | {"perceptual_score_image": 0.0}}
told["image-shortcut"] = means | {"perceptual_score_text": 0.0}
models = {f"{regime}-{seed}": told[regime] for regime in told for seed in range(3)}
planted = {"balanced": 0.0, "text-shortcut": 1.0, "image-shortcut": -1.0}
kind = judge_kind(models, pd.DataFrame(rows), planted, study.params.stats)
figures = {
    "comparison": comparison(statistics, {}, 0.95),
    "separation": separation({"kinds": {"vilt": kind}}),
}
texts = {name: json.dumps([t.get_text() for t in found.findobj(lambda a: hasattr(a, "get_text"))])
         for name, found in figures.items()}  # fmt: skip
print(
    json.dumps(
        {
            "value": statistics["m"][NAME]["mean"],
            "reason": statistics["m"][NAME].get("reason"),
            "column": f"{NAME}_all" in pd.read_csv(study.pairs_table("m")),
            "diagnose": diagnose(model, root / "in", partners=0).text(),
            "report": (study.reports / "m_diagnostic_results.md").read_text("utf-8"),
            "contrasts": contrasts(kind["measures"][f"{NAME}_all"]),
            "docs": measures_table(),
            **texts,
        }
    )
)
