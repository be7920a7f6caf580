"""Results of models that the parameters no longer name: they must feed no aggregate, and are said at once."""

from __future__ import annotations

from attention_collapse.errors import PipelineError
from attention_collapse.study.layout import Study


def require_no_orphans(study: Study) -> None:
    """PipelineError for a metrics file of a model that the parameters do not name."""
    files = {path.stem: path for path in sorted((study.metrics / "mcs").glob("*.json"))}
    files |= {path.stem: path for path in sorted((study.metrics / "contribution").glob("*.json"))}
    orphans = {name: file for name, file in files.items() if name not in study.params.models}
    if orphans:
        names = " ".join(sorted(orphans))
        raise PipelineError(
            f"{', '.join(str(file) for file in orphans.values())}: no such model in {study.params.params_file}",
            expected="results of the study's models alone",
            remedy=f"put the model back, or delete its files: `for m in {names}; do git rm -r --ignore-unmatch "
            f"metrics/{study.name}/*/$m.json data/{study.name}/*/$m*; done`",
        )
