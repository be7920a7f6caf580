"""What was watched while the models of a study were trained, from their committed scores."""

from __future__ import annotations

import pandas as pd

from attention_collapse.engine.arm_cells import cells
from attention_collapse.engine.arm_curves import curves
from attention_collapse.engine.dose_cells import read_cell
from attention_collapse.engine.dose_summary import dose_key
from attention_collapse.study.layout import Study

Watched = dict[str, dict[str, dict[str, list[pd.DataFrame]]]]


def read_watched(study: Study) -> tuple[Watched, pd.DataFrame | None]:
    """Curves of every model that is there (kind -> cue -> arm -> seeds), and the table of when alarms rang."""
    found: Watched = {}
    if study.params.prevention is None or not study.prevention_table.is_file():
        return found, None
    for cell in cells(study.params.prevention):
        file = study.prevention_of(cell.kind) / f"{cell.name}.safetensors"
        if file.is_file():
            cue = f"{cell.modality}_{dose_key(cell.reliability)}"  # as in the metrics
            arms = found.setdefault(cell.kind, {}).setdefault(cue, {})
            arms.setdefault(cell.arm, []).append(curves(read_cell(file)[0]))
    return found, pd.read_csv(study.prevention_table)
