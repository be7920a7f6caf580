"""Everything that the reports of a study are made of."""

from __future__ import annotations

from pathlib import Path

from attention_collapse.report.evidence import Evidence
from attention_collapse.report.markdown import Sources
from attention_collapse.study.layout import PLANTED_PLOTS, VALIDITY, Study


def read_sources(study: Study) -> Sources:
    """Everything the reports are made of; what does not exist is None or absent."""
    params, models = study.params, study.params.models

    def cited(file: Path) -> Evidence | None:
        return Evidence.read(study.root, file) if file.is_file() else None

    ours = params.fetch_coco.source == "embedded"  # pictures of others are in no repository

    def drawn(folder: Path, name: str = "*") -> list[str]:
        return [path.relative_to(study.root).as_posix() for path in sorted(folder.glob(f"{name}.png"))]

    scores = {name: found for name in models if (found := cited(study.scores(name)))}
    causal = {name: found for name in models if (found := cited(study.contributions(name)))}
    return Sources(
        study=params.study,
        params_file=params.params_file,
        models={name: spec.kind for name, spec in models.items()},
        standing={name: spec.standing for name, spec in models.items()},
        definitions={
            "bootstrap resamples": params.stats.n_resamples,
            "margin, the smallest difference that matters": params.stats.margin,
            "seed of the resampling": params.stats.seed,
            "partners in place of an absent modality": params.contribution.partners,
            "images that T-SHAP explains": params.contribution.t_shap_images,
            "protocol of T-SHAP": params.contribution.t_shap_protocol,
        },
        pairs=cited(study.manifest),
        statistics=cited(study.statistics),
        decision=cited(study.decision),
        audit=cited(study.audit),
        validity=cited(study.root / VALIDITY),
        scores=scores,
        causal=causal,
        checkpoints=frozenset(name for name in models if study.checkpoint(name).is_file()),
        figures={name: drawn(study.plots / name) + (drawn(study.overlays / name) if ours else []) for name in models},
        overview=[*drawn(study.plots, "cross_model_comparison"), *drawn(study.root / PLANTED_PLOTS, "separation")],
        planted=drawn(study.root / PLANTED_PLOTS),
    )
