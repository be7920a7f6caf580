"""The pipeline, described once: every study's dvc.yaml is written from it (`attention-collapse pipeline --write`).

A stage is a module of `attention_collapse.stages`. It depends on its parameters, its inputs and its code. The code is
one entry of data/code.json, which the stage `code` writes from what the stage really uses: a comment, or the code of
another kind of model, makes nothing stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from attention_collapse.identity.source_code import PACKAGE, code_id
from attention_collapse.params import Params, load_params
from attention_collapse.registry import kinds
from attention_collapse.study.layout import (
    CAPTION_LENGTHS,
    NULL_REFERENCE,
    PLANTED_PLOTS,
    REPORTED_CLAIMS,
    VALIDITY,
    Layout,
    Study,
)

CODE = Path("data/code.json")
HEADER = """\
# Written by `attention-collapse pipeline --write` from repository/pipeline.py of the package: edit that, not this.
# A stage is a module of src/attention_collapse/stages; its code is an entry of data/code.json.
"""
RESAMPLING = ("stats.confidence", "stats.n_resamples", "stats.seed")  # without what only tests need
TRAINED = ("openclip-scenes", "align-scenes")  # and planted-<kind>


def _kept(name: str) -> dict[str, Any]:
    """An output in git that DVC leaves in place, for a stage to compare its result with."""
    return {name: {"cache": False, "persist": True}}


@dataclass(frozen=True)
class Stage:
    """One stage of a study.

    Attributes
    ----------
    name
        Of the stage and of its module.
    params
        Sections of the study's parameter file.
    deps
        Files and folders it reads, besides its code.
    settled
        Committed outputs that stay where a recomputation agrees (`settle`), so that DVC must not remove them.
    drawn
        Committed outputs that are written anew from settled ones.
    cached
        Outputs that DVC's cache holds.
    metrics
        Settled outputs that `dvc metrics` compares.
    per_model
        Whether it runs once for each model of the study; its code is then that of the model's kind.
    coded
        False: neither code nor parameters make it stale.
    """

    name: str
    params: tuple[str, ...] = ()
    deps: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    per_model: bool = False
    coded: bool = True

    def entry(self, wdir: str) -> dict[str, Any]:
        """The stage as dvc.yaml holds it."""
        found: dict[str, Any] = {"wdir": wdir} if wdir != "." else {}
        found["cmd"] = f"python -m {PACKAGE}.stages.{self.name}" + (" --params ${params_file}" if self.params else "")
        found["cmd"] += " --model ${key}" if self.per_model else ""
        code = f"{self.name}.${{item.kind}}" if self.per_model else self.name
        params = [{"${params_file}": list(self.params)}] if self.params else []
        params += [{CODE.as_posix(): [code]}] if self.coded else []
        outs = [*self.cached, *map(_kept, self.settled), *({name: {"cache": False}} for name in self.drawn)]
        parts = {"params": params, "deps": list(self.deps), "outs": outs, "metrics": [*map(_kept, self.metrics)]}
        found |= {key: value for key, value in parts.items() if value}
        return {"foreach": "${models}", "do": found} if self.per_model else found


class _Template(Layout):
    """The paths of any study, with DVC's names in the place of its name and of a model."""

    name, root = "${study}", Path()


_ANY, _MODEL = _Template(), "${key}"


def _posix(*paths: Path) -> tuple[str, ...]:
    return tuple(path.as_posix() for path in paths)


def shared_stages(folders: Sequence[str] = ()) -> tuple[Stage, ...]:
    """The stages that every study has, in the order of the data; `folders` hold checkpoints that git holds."""
    of, key, model = _ANY, _MODEL, f"models.{_MODEL}"
    pairs = (of.manifest, of.pairs)
    measures, causal = of.pairs_table(key).parents[1], of.contributions_table(key).parent
    scores, contributions = of.scores(key).parent, of.contributions(key).parent
    tables = (of.pairs_table(key), of.layers_table(key), of.heads_table(key), of.extremes(key))
    return (
        Stage("fetch_coco", ("study", "fetch_coco"), settled=_posix(of.manifest), cached=_posix(of.pairs)),
        Stage(
            "extract_attention", (model, "extract_attention"), (*_posix(*pairs), *folders),
            settled=_posix(of.checkpoint(key)), per_model=True,
        ),
        Stage(
            "contribution", (model, "extract_attention", "contribution", *RESAMPLING),
            _posix(of.checkpoint(key), of.extremes(key), *pairs),
            settled=_posix(of.contributions_table(key), of.maps(key)), metrics=_posix(of.contributions(key)),
            per_model=True,
        ),
        Stage(
            "compute_mcs", (model, "extract_attention", "compute_mcs"), _posix(of.checkpoint(key), *pairs),
            settled=_posix(*tables), metrics=_posix(of.scores(key)), per_model=True,
        ),
        Stage(
            "stats", ("stats", "models"), _posix(causal, measures, contributions, scores),
            metrics=_posix(of.statistics),
        ),
        Stage("decision", ("decision", "models", "stats"), _posix(scores, of.statistics), metrics=_posix(of.decision)),
        Stage(
            "audit", ("models", "fetch_coco"), _posix(REPORTED_CLAIMS, of.statistics), drawn=_posix(of.audit_paper),
            metrics=_posix(of.audit),
        ),
        Stage("figures", ("study",), _posix(measures, contributions, of.statistics), drawn=_posix(of.plots)),
        Stage(
            "overlay", ("models",), _posix(measures, of.maps(key).parent, *pairs), drawn=_posix(of.overlays),
        ),
        Stage(
            "reports", ("fetch_coco.source", "models", "stats", "contribution"),
            _posix(of.checkpoint(key).parent, of.manifest, of.audit, contributions, of.decision, scores,
                   of.statistics, VALIDITY, of.plots, of.overlays, PLANTED_PLOTS),
            drawn=_posix(of.reports),
        ),
        Stage(
            "paper_tables", ("study",), _posix(of.manifest, contributions, of.statistics, NULL_REFERENCE),
            drawn=_posix(of.paper),
        ),
    )  # fmt: skip


def planted_stages(
    kinds: Sequence[str] = (), dosed: Sequence[str] = (), prevented: Sequence[str] = (), asked: Sequence[str] = ()
) -> tuple[Stage, ...]:
    """The embedded study's own question: does the instrument tell the truth about models whose answer was planted?

    `kinds` were trained with planted answers, `dosed` of them dose by dose, `prevented` in the ways that are compared,
    and `asked` on questions.
    """
    of, tables = _ANY, tuple(_ANY.planted_table(kind) for kind in kinds)
    return (
        Stage(
            "measure_planted", ("plant", "contribution", "extract_attention"),
            _posix(*(of.trained(f"planted-{kind}") for kind in kinds)), settled=_posix(*tables),
            metrics=_posix(*(of.planted(kind) for kind in kinds)),
        ),
        Stage(
            "validity", ("plant", "stats", "decision"), _posix(*tables, of.planted("kind").parent),
            drawn=_posix(of.validity_plots, of.validity_paper), metrics=_posix(of.validity),
        ),
        Stage(
            "doses", ("doses", "plant", "stats.confidence"), _posix(*(of.doses_of(kind) for kind in dosed)),
            settled=_posix(of.dose_table), drawn=_posix(of.dose_plots, of.dose_paper), metrics=_posix(of.doses),
        ),
        Stage(
            "prevention", ("prevention", "plant", "stats.confidence"),
            _posix(*(of.prevention_of(kind) for kind in prevented)), settled=_posix(of.prevention_table),
            drawn=_posix(of.prevention_plots, of.prevention_paper), metrics=_posix(of.prevention),
        ),
        Stage(
            "answers", ("answers", *RESAMPLING), _posix(*(of.answers_of(kind) for kind in asked)),
            settled=_posix(of.answers_table), drawn=_posix(of.answers_plots, of.answers_paper),
            metrics=_posix(of.answers),
        ),
    )  # fmt: skip


NULL_STAGE = Stage("null_reference", deps=_posix(CAPTION_LENGTHS), metrics=_posix(NULL_REFERENCE))
CODE_STAGE = Stage("code", deps=(f"src/{PACKAGE}",), settled=(CODE.as_posix(),), coded=False)


def _training(kinds: Sequence[str]) -> dict[str, Any]:
    """Checkpoints are committed data, trained anew by `dvc repro -f train_controls` alone: nothing makes it stale."""
    stage = Stage("train_controls", ("train_controls",), settled=_posix(_ANY.trained("${item}")),
                  metrics=_posix(_ANY.training("${item}")), coded=False)  # fmt: skip
    entry = stage.entry(".")
    del entry["params"]
    entry["cmd"] += " --model ${item}"
    return {"foreach": [*TRAINED, *(f"planted-{kind}" for kind in kinds)], "do": entry}


def _scoring(name: str, section: str, folder: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """Scores of models whose weights are not kept are committed data too: `dvc repro -f` of it alone adds any."""
    stage = Stage(name, (section,), settled=_posix(folder), coded=False)
    entry = stage.entry(".")
    del entry["params"]
    entry["cmd"] += " --model ${item}"
    return {"foreach": list(kinds), "do": entry}


def _plots(study: Study, prefix: str) -> list[dict[str, Any]]:
    """What `dvc plots` draws, models in one panel and revisions by colour, by the templates of .dvc/plots.

    A study that has not run has no plots yet: DVC would say of each that it "failed to load".
    """
    by_layer, by_model = {"template": "by_layer", "x": "layer"}, {"template": "by_model", "y": "model"}
    drawn = {
        "layer_wise_attention": by_layer | {"y": "value", "title": "MCS, its null and the calibrated score, by layer"},
        "modality_contribution": by_model | {"x": "value", "title": "MCS, its null and the calibrated score, by model"},
        "attention_entropy": by_layer | {"y": "value", "title": "Attention entropy and its null (nats), by layer"},
    }
    return [
        {f"{prefix}plots/${{study}}/{name}.csv": how}
        for name, how in drawn.items()
        if (study.plots / f"{name}.csv").is_file()
    ]


def pipeline(params: Params) -> str:
    """The dvc.yaml of a study, from its parameters."""
    home = len(Path(params.params_file).parts) - 1  # folders between the study's file and the repository's root
    wdir, kinds = "/".join([".."] * home) or ".", params.plant.kinds if params.plant else []
    stages: dict[str, Any] = {}
    dosed = params.doses.kinds if params.doses else []
    prevented = list(params.prevention.kinds) if params.prevention else []
    asked = params.answers.kinds if params.answers else []
    if not home:  # what is of no study, and what the embedded study alone has
        stages = {"code": CODE_STAGE.entry("."), "train_controls": _training(kinds)}
        for name, section, folder, trained in (
            ("train_doses", "doses", _ANY.doses_of("${item}"), dosed),
            ("train_prevention", "prevention", _ANY.prevention_of("${item}"), prevented),
            ("train_answers", "answers", _ANY.answers_of("${item}"), asked),
        ):
            stages |= {name: _scoring(name, section, folder, trained)} if trained else {}
        stages["null_reference"] = NULL_STAGE.entry(".")
    named = {name for spec in params.models.values() for name in (spec.path, spec.architecture)}
    folders = sorted(name for name in named if name and name.startswith("data/"))
    left_out = {
        name for name, trained in (("doses", dosed), ("prevention", prevented), ("answers", asked)) if not trained
    }
    planted = planted_stages(kinds, dosed, prevented, asked) if kinds else ()
    planted = tuple(stage for stage in planted if stage.name not in left_out)
    own = (*shared_stages(folders), *planted)
    stages |= {stage.name: stage.entry(wdir) for stage in own}
    plots = _plots(Study(params), "../" * home)
    content = {"stages": stages} | ({"plots": plots} if plots else {})
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)


def studies(root: Path) -> dict[Path, Params]:
    """dvc.yaml of each study -> its parameters: the root's first, then those of studies/*/params.yaml."""
    files = [root / "params.yaml", *sorted(root.glob("studies/*/params.yaml"))]
    return {file.with_name("dvc.yaml"): load_params(file) for file in files}


@cache
def code_ids() -> Mapping[str, Any]:
    """What data/code.json holds: stage -> the id of its code, or kind of model -> that."""
    modules = {stage: f"{PACKAGE}.stages.{stage.name}" for stage in (*shared_stages(), *planted_stages(), NULL_STAGE)}
    return {
        stage.name: {kind: code_id(module, kind) for kind in kinds()} if stage.per_model else code_id(module)
        for stage, module in modules.items()
    }
