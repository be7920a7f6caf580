"""The committed tables of a study, as the stages after them read them."""

from __future__ import annotations

import pandas as pd

from attention_collapse.engine.scores import by_image
from attention_collapse.study.layout import Study


def images_of(study: Study, model: str) -> pd.DataFrame:
    """Scores per image, the unit of analysis: `engine.scores.by_image` of the model's table of pairs."""
    return by_image(pd.read_csv(study.pairs_table(model)))
