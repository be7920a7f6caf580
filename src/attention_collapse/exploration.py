"""The page to look with, of a study or of one model on a user's own pairs: what a person at a prompt asks for."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.diagnosis import require_writable
from attention_collapse.errors import PipelineError
from attention_collapse.files import write_text
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.explorer.overview import overview
from attention_collapse.report.explorer.page import Page, render
from attention_collapse.report.explorer.training import arm_views, dose_views
from attention_collapse.repository.check import find_study
from attention_collapse.study.sources import read_sources
from attention_collapse.study.watched import read_watched

LARGEST = 5 * 2**20  # bytes of a page


def explore_study(name: str, root: Path, out: Path | None = None) -> Page:
    """The page of a study: its overview and its training views, from the committed metrics.

    Parameters
    ----------
    name
        A study of `params.yaml` or `studies/*/params.yaml`.
    root
        The repository's root.
    out
        Also write the page.

    Raises
    ------
    AttentionCollapseError
        There is no such study, or it has not run.
    """
    require_writable(out)
    study = find_study(name, root)
    sources = read_sources(study)
    if sources.statistics is None:
        command = "dvc repro" if study.params.params_file == "params.yaml" else "dvc repro studies/<name>/dvc.yaml"
        raise PipelineError(
            f"the study {name!r} has not run: {study.statistics.relative_to(root)} does not exist",
            expected="a study with statistics",
            remedy=f"run `{command}`, or name a study that has run",
        )
    doses, prevention = (
        Evidence.read(root, file) if file.is_file() else None for file in (study.doses, study.prevention)
    )
    watched, rang = read_watched(study)
    cited = [sources.pairs, sources.statistics, sources.decision, sources.validity, doses, prevention]
    html = render(
        "study.html", title=f"Which modality do these models use? Study “{name}”", scripts=["page.js"], data=None,
        **overview(sources, doses), doses=dose_views(doses), arms=arm_views(prevention, watched, rang),
        sources=[(source.file, source.run) for source in cited if source],
    )  # fmt: skip
    if out is not None:
        write_text(out, html)
    return Page(html)
