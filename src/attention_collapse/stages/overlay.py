"""Stage overlay: where each model looks in the pictures of its lowest, median and highest MCS.

Attention is not contribution: a bright patch was read from, which does not say that the score depends on it.
"""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd

from attention_collapse.data.pairs import read_study
from attention_collapse.report.figures import save, use_style
from attention_collapse.report.overlay import Overlay, attention_overlay
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import Study
from attention_collapse.study.maps import pictures_of, read_maps


def main(study: Study) -> None:
    """Write `plots/<study>-overlay/<model>/attention_overlay.*` from the maps; no model is loaded."""
    use_style()
    shutil.rmtree(study.overlays, ignore_errors=True)
    pairs = read_study(study.pairs, study.manifest)
    for model in study.params.models:
        readout, maps = read_maps(study, model)
        shown: list[Overlay] | str = "" if isinstance(maps, list) else maps
        if isinstance(maps, list):
            extremes = pd.read_csv(study.extremes(model)).itertuples()
            chosen = pictures_of(pairs, [item.image_id for item in maps])
            shown = [
                Overlay(
                    f"{extreme.place} MCS, {extreme.score:.3f}: image {item.image_id}", caption, np.asarray(picture),
                    item.seen, item.grid, item.mass,
                )
                for extreme, item, (_, _, picture, caption) in zip(extremes, maps, chosen, strict=True)
            ]  # fmt: skip
        save(attention_overlay(model, shown, readout), study.overlays / model / "attention_overlay")
        print(f"{model}: {shown if isinstance(shown, str) else f'{len(shown)} pairs'}")


if __name__ == "__main__":
    run_stage(main)
