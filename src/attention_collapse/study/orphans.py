"""Results of models that the parameters no longer name: they must feed no aggregate, and are said at once."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.errors import PipelineError
from attention_collapse.study.layout import Study


def require_no_orphans(study: Study) -> None:
    """PipelineError for a metrics file of a model that the parameters do not name."""
    files = [*study.scores("any").parent.glob("*.json"), *study.contributions("any").parent.glob("*.json")]
    orphans = sorted(path for path in files if path.stem not in study.params.models)
    if orphans:
        left = [str(path) for name in sorted({path.stem for path in orphans}) for path in _files_of(study, name)]
        raise PipelineError(
            f"{', '.join(map(str, orphans))}: no such model in {study.params.params_file}",
            expected="results of the study's models alone",
            remedy=f"put the model back, or take its files away: `git rm -r --ignore-unmatch {' '.join(left)}`",
        )


def _files_of(study: Study, model: str) -> list[Path]:
    """All that a study keeps of one model and that is there."""
    kept = (
        study.scores(model), study.contributions(model), study.checkpoint(model), study.contributions_table(model),
        study.pairs_table(model).parent, study.maps(model), study.plots / model,
    )  # fmt: skip
    return [path for path in kept if path.exists()]
