"""Stage doses: accuracy and every measure against the dose of a cue, and which measure tells collapsed models.

Every number follows from the committed scores of the models that `train_doses` trained; models that are missing are
named, and the figure shows those that are there.
"""

from __future__ import annotations

import shutil

from attention_collapse.engine.dose_cells import cells, parameters_of, recipe_of, sections
from attention_collapse.engine.dose_scores import numbers, read_all
from attention_collapse.engine.dose_summary import HELD_OUT, dose_key, summary
from attention_collapse.errors import DataError
from attention_collapse.identity.settle import settle_frame, settle_json
from attention_collapse.report.doses import dose_response
from attention_collapse.report.figures import save, use_style
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study, evidence_of


def main(study: Study) -> None:
    """Write the table of models, what they say together, and the figure."""
    doses, plant = sections(study.params)
    folders = {kind: study.doses_of(kind) for kind in doses.kinds}
    table, missing, digests = read_all(
        cells(doses), folders, lambda cell: parameters_of(cell, doses, plant), lambda tensors, _: numbers(tensors)
    )
    if not len(table):
        raise DataError(
            f"{study.doses_of('KIND')} holds no scores of a model", expected="those that train_doses writes",
            remedy="restore them (`git checkout -- data`), or run `dvc repro -f train_doses`",
        )  # fmt: skip
    table = settle_frame(study.dose_table, table)
    confidence = study.params.stats.confidence
    result = summary(table, missing, doses, confidence)
    about = {"stage": "doses", "confidence": confidence, "n_pairs": doses.pairs, "partners": doses.partners}
    used = {"doses": doses.model_dump(), "confidence": confidence}
    used["recipes"] = {kind: recipe_of(plant, kind) for kind in doses.kinds}
    settle_json(study.doses, {**result, **about, "evidence_id": evidence_of("doses", used, digests)})
    use_style()
    shutil.rmtree(study.dose_plots, ignore_errors=True)
    save(dose_response(table, result["kinds"], doses.reliabilities, confidence), study.dose_plots / "dose_response")
    for kind, cues in result["kinds"].items():
        for modality, found in cues.items():
            parts = [(dose, found["doses"][dose_key(dose)]) for dose in doses.reliabilities]
            told = ", ".join(f"{dose:g}: {part[HELD_OUT]['mean']:.3f} (n {part['n_seeds']})" for dose, part in parts)
            print(f"{kind}, cue in the {modality}: accuracy where the cue says nothing, by dose {told}")
    if missing:
        print(f"{len(missing)} of {len(missing) + len(table)} models are not trained yet")


if __name__ == "__main__":
    run_stage(main)
