"""Stage compute_mcs: scores per pair, per image and per layer of one model, each beside its null."""

from __future__ import annotations

import math

from attention_collapse.engine.attention_table import blocks
from attention_collapse.engine.scores import Scores, by_image, score_blocks
from attention_collapse.engine.summary import extremes, summarise
from attention_collapse.identity.settle import settle_frame, settle_json
from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.stages.run import run_stage
from attention_collapse.study.attention import attention_table
from attention_collapse.study.checkpoints import REFUSED
from attention_collapse.study.layout import Study, evidence_of

SHOWN = ("mcs", "mcs_null", "mcs_calibrated", "mass_share")


def main(study: Study, model: str) -> None:
    """Read the attention table, write the model's tables, and its metrics from these tables as they stand."""
    rows = study.params.compute_mcs.rows
    table, about = attention_table(study, model)
    fresh, heads = score_blocks(blocks(table), about["family"])
    settle_frame(study.heads_table(model), heads)
    scores = Scores(
        settle_frame(study.pairs_table(model), fresh.pairs),
        settle_frame(study.layers_table(model), fresh.layers),
        fresh.alignment,
    )
    settle_frame(study.extremes(model), extremes(by_image(scores.pairs), f"mcs_{rows}"))
    result = summarise(scores, rows, about["family"], about["missing"])
    result |= {
        "model": model,
        "study": study.params.study,
        "stage": f"compute_mcs@{model}",
        "weights": about["weights"],
        "weights_sha256": about.get("sha256"),
        "definition_sha256": about.get("definition_sha256"),
        "weights_revision": about.get("revision"),
        "parameters": about["parameters"],
        "untrained": about["untrained"],
        "image_processor": about.get("image_processor"),
        "kind": study.spec(model).kind,
        "notes": about.get("notes", []),
        "captions": about.get("captions"),
        "evidence_id": evidence_of(
            "compute_mcs", {"rows": rows}, {"attention": about["evidence_id"]}, study.spec(model).kind
        ),
    }
    if about.get(REFUSED):  # images that the model's processor could not take
        result |= {"n_refused": len(about[REFUSED]), REFUSED: about[REFUSED]}
    settle_json(study.scores(model), result)
    shown = ", ".join(
        f"{ATTENTION_MEASURES[key].label} {result[key]:.4f}" for key in SHOWN if math.isfinite(result[key] or math.nan)
    )
    print(
        f"{model}: {shown or 'no attention measure: ' + '; '.join(sorted(set(result['reasons'].values())))} "
        f"(rows: {rows}, {result['n_images']} images, {result['n_pairs']} pairs)"
    )


if __name__ == "__main__":
    run_stage(main)
