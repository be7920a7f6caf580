"""compute_mcs, stats, figures and paper_tables on a small study, file by file."""

import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, coco_folder

from attention_collapse.engine import statistics
from attention_collapse.engine.contribution import INCOMPETENT
from attention_collapse.errors import PipelineError
from attention_collapse.files import read_json
from attention_collapse.params import Params, Stats
from attention_collapse.report.figures import save
from attention_collapse.stages import (
    compute_mcs,
    contribution,
    extract_attention,
    fetch_coco,
    figures,
    null_reference,
    paper_tables,
    stats,
)
from attention_collapse.study.layout import Study
from attention_collapse.study.tables import images_of


def tiny_study(root, checkpoint, rows="all", **models):
    data = {
        "study": "s",
        "params_file": "params.yaml",
        "models": {
            "trained": {"kind": "openclip", "weights": "checkpoint", "path": str(checkpoint)},
            "fresh-0": {
                "kind": "openclip",
                "weights": "untrained",
                "architecture": str(checkpoint),
                "seed": 0,
                "control_for": "trained",
            },
            **models,
        },
        "fetch_coco": {"source": "folder", "path": str(root / "in"), "n": None},
        "extract_attention": {"threads": 1},
        "contribution": {"t_shap_images": 2},
        "compute_mcs": {"rows": rows},
        "stats": {"n_resamples": 500},
    }
    return Study(Params.model_validate(data), root)


def run(study):
    fetch_coco.main(study)
    for model in study.params.models:
        extract_attention.main(study, model)
        compute_mcs.main(study, model)
        contribution.main(study, model)
    stats.main(study)


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_openclip):
    root = tmp_path_factory.mktemp("study")
    coco_folder(root / "in", n=6, captions=2)
    one = tiny_study(root, tiny_openclip)
    run(one)
    return one


def test_metrics_say_what_they_are_of(study):
    metrics = read_json(study.scores("trained"))
    assert (metrics["n_images"], metrics["n_pairs"], metrics["untrained"]) == (6, 12, False)
    assert read_json(study.scores("fresh-0"))["untrained"] is True
    assert metrics["mcs"] == metrics["by_rows"]["all"]["mcs"] != metrics["by_rows"]["readout"]["mcs"]
    assert metrics["layer_alignment"] == "1:1 2:2 2:3" and sorted(metrics["layer_mcs"]) == ["01", "02", "03"]


def test_the_headline_is_the_mean_over_images(study):
    images, pairs = images_of(study, "trained"), pd.read_csv(study.pairs_table("trained"))
    assert read_json(study.scores("trained"))["mcs"] == pytest.approx(images["mcs_all"].mean(), rel=1e-5)
    assert np.allclose(pairs.groupby("image_id")["mcs_all"].mean(), images["mcs_all"], rtol=1e-5)
    # 17 image tokens: ln 17 for every query of the vision tower
    assert np.allclose(pairs["uniform_vision_all"], np.log(17), rtol=1e-5)
    lengths = pairs["n_text_tokens"].to_numpy()
    assert np.allclose(pairs["uniform_text_all"], [np.log(np.arange(1, n + 1)).mean() for n in lengths], rtol=1e-5)


def test_statistics_cover_models_and_controls(study):
    models = read_json(study.statistics)["models"]
    assert models["trained"]["mcs"]["ci_low"] < models["trained"]["mcs"]["mean"] < models["trained"]["mcs"]["ci_high"]
    assert models["trained"]["mcs_untrained"]["mean"] == models["fresh-0"]["mcs"]["mean"]
    assert models["trained"]["mcs_untrained"]["n_seeds"] == 1
    for test in models["trained"]["tests"].values():
        assert test["p_holm"] == test["p"]  # a family of one
    assert all("p_holm" not in test for test in models["fresh-0"]["tests"].values())
    layer = models["trained"]["layers"]["01"]
    assert layer["mcs_ci_low"] <= layer["mcs"] <= layer["mcs_ci_high"]


def test_severity_stands_beside_its_power(study):
    """Of this model if it were no random one; as it is, it is not judged."""
    images, shares = images_of(study, "trained"), pd.read_csv(study.contributions_table("trained"))
    reasons, params = read_json(study.scores("trained"))["reasons"], study.params.stats
    columns = statistics.columns_of(images, shares, "all", reasons)
    severity = statistics.judge(columns, {}, params, reasons, tested=1)["severity"]
    for measure, values in (
        ("mcs_calibrated", images["mcs_calibrated_all"]),
        ("shapley_share", shares["shapley_share"]),
    ):
        entry = severity[measure]
        assert entry["mean"] == pytest.approx(np.maximum(values, 1 - values).mean(), rel=1e-5)
        assert (entry["value"], entry["alternative"], entry["margin"]) == (0.8, "greater", 0.05)
        assert 0 <= entry["power"] <= 1
    assert severity["mass_share"]["n"] == 0  # a dual encoder attends to no other modality
    assert severity["mass_share"]["reason"] == reasons["mass_share"]
    lost = shares["lost_image"].mean() / (shares["lost_image"] + shares["lost_text"]).mean()
    assert severity["reliance_share"]["share"] == pytest.approx(lost, rel=1e-5)  # of columns as they are written
    models = read_json(study.statistics)["models"]
    for measure, entry in models["trained"]["severity"].items():
        assert (entry["n"], entry["mean"], entry["p"]) == (0, None, None), measure
        assert INCOMPETENT in entry["reason"] or measure == "mass_share"
        assert "p_holm" not in models["fresh-0"]["severity"][measure]
    assert models["trained"]["diagnostics"]["mass_share"]["reason"] == reasons["mass_share"]


def test_causal_measures_are_those_of_the_contribution_metrics(study):
    models = read_json(study.statistics)["models"]
    for model in models:
        causal = read_json(study.contributions(model))
        assert all(models[model][name] == causal[name] for name in statistics.CAUSAL)


def test_models_are_compared_image_by_image(study):
    statistics = read_json(study.statistics)
    tables = [images_of(study, name)["mcs_calibrated_all"] for name in ("trained", "fresh-0")]
    [(name, entry)] = statistics["pairs_of_models"]["mcs_calibrated"].items()
    assert name == "trained_vs_fresh-0" and (entry["a"], entry["b"]) == ("trained", "fresh-0")
    assert entry["mean"] == pytest.approx((tables[0] - tables[1]).mean(), rel=1e-4)
    assert entry["family"] == "model and its untrained control" and entry["p_holm"] == entry["p"]
    assert statistics["meta"]["mcs_calibrated"]["mean"] is None
    assert "1 model, 2 or more" in statistics["meta"]["mcs_calibrated"]["reason"]
    assert statistics["a_priori"]["n"] == 34


def test_pairs_and_summary_of_several_models():
    """Two families of Holm's correction; the difference a − c is the sum of a − b and b − c."""
    rng = np.random.default_rng(0)
    columns = {
        name: {
            measure: pd.Series(rng.normal(mean, 0.1, 40)) for measure in (*statistics.COMPARED, *statistics.SUMMARISED)
        }
        for name, mean in (("a", 0.6), ("b", 0.62), ("c", 0.7), ("a-untrained", 0.5))
    }
    params = Stats(n_resamples=200)
    found = statistics.pairs_of_models(columns, ["a", "b", "c"], {"a": "a-untrained"}, params)["mcs_calibrated"]
    assert list(found) == ["a_vs_b", "a_vs_c", "b_vs_c", "a_vs_a-untrained"]
    assert found["a_vs_c"]["mean"] == pytest.approx(found["a_vs_b"]["mean"] + found["b_vs_c"]["mean"])
    between = [found[name] for name in ("a_vs_b", "a_vs_c", "b_vs_c")]
    smallest = min(between, key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(3 * smallest["p"])
    assert found["a_vs_a-untrained"]["p_holm"] == found["a_vs_a-untrained"]["p"]
    results = {
        name: {measure: {"mean": v.mean(), "sd": v.std(), "n": len(v)} for measure, v in measures.items()}
        for name, measures in columns.items()
    }
    summary = statistics.summary_over_models(results, ["a", "b", "c"], 0.95)
    assert summary["reliance_share"]["k"] == 3 and 0.55 < summary["mcs_calibrated"]["mean"] < 0.75


def test_evidence_changes_with_the_inputs_only(study, tmp_path, tiny_openclip):
    shutil.copytree(study.root / "in", tmp_path / "in")
    same, other = tiny_study(tmp_path, tiny_openclip), tiny_study(tmp_path, tiny_openclip, rows="readout")
    run(same)
    for file in (study.scores("trained"), study.statistics):
        assert read_json(same.root / file.relative_to(study.root)) == read_json(file)
    compute_mcs.main(other, "trained")
    compute_mcs.main(other, "fresh-0")
    stats.main(other)
    assert read_json(other.statistics)["evidence_id"] != read_json(study.statistics)["evidence_id"]
    assert read_json(other.scores("trained"))["evidence_id"] != read_json(study.scores("trained"))["evidence_id"]
    assert read_json(other.scores("trained"))["rows"] == "readout"


def files_of(study):
    return {p.relative_to(study.plots): p.read_bytes() for p in study.plots.rglob("*.*")}


def of_trained(figure, stem):
    """Saves the figures of one model alone, for drawing takes its time."""
    return save(figure, stem) if stem.parent.name == "trained" else []


def test_figures_and_plot_data_are_byte_stable(study, monkeypatch):
    figures.main(study)
    first = files_of(study)
    monkeypatch.setattr(figures, "save", of_trained)  # those of all models: tests/report/test_figures.py
    figures.main(study)
    again = files_of(study)
    assert again.items() <= first.items() and {path.suffix for path in again} == {".png", ".pdf", ".csv"}
    names = {str(path) for path in first}
    for model in ("trained", "fresh-0"):
        for figure in ("layer_wise_attention", "modality_contribution", "attention_entropy"):
            assert {f"{model}/{figure}.png", f"{model}/{figure}.pdf", f"{figure}.csv"} <= names
    # The fields that dvc.yaml and the templates of .dvc/plots name
    for figure, columns in (
        ("layer_wise_attention", {"model", "layer", "score", "value"}),
        ("attention_entropy", {"model", "layer", "score", "value"}),
        ("modality_contribution", {"model", "score", "value"}),
    ):
        assert set(pd.read_csv(study.plots / f"{figure}.csv").columns) == columns
    assert set(pd.read_csv(study.plots / "attention_entropy.csv")["score"]) == {
        "vision",
        "vision null",
        "text",
        "text null",
    }


def test_every_number_is_a_macro(study, monkeypatch):
    lengths = "data/coco_val2017_caption_lengths.json"
    shutil.copy(ROOT / lengths, study.root / lengths)
    monkeypatch.chdir(study.root)
    null_reference.main()
    monkeypatch.undo()
    paper_tables.main(study)
    text = (study.paper / "numbers.tex").read_text()
    mean = read_json(study.statistics)["models"]["trained"]["mcs"]["mean"]
    assert f"\\acdef{{s.models.trained.mcs.mean}}{{3}}{{{mean:.3f}}}" in text
    assert "\\acfile{s}{metrics/s/stats.json}" in text and "\\acfile{s.pairs}{data/s/manifest.json}" in text
    assert "\\acdef{s.pairs.n_images}{3}{6}" in text
    scores = (study.paper / "scores.tex").read_text()
    assert f"{mean:.3f}" in scores and "fresh-0$^\\ast$" in scores


def test_a_model_that_was_removed_leaves_no_orphan_unnoticed(study):
    orphan = study.scores("gone")
    shutil.copy(study.scores("trained"), orphan)
    with pytest.raises(PipelineError, match=r"gone\.json: no such model"):
        stats.main(study)
    orphan.unlink()


def test_one_image_gives_reasons_instead_of_intervals(tmp_path, tiny_openclip, monkeypatch):
    coco_folder(tmp_path / "in", n=1, captions=1)
    one = tiny_study(tmp_path, tiny_openclip)
    run(one)
    result = read_json(one.statistics)["models"]["trained"]
    assert result["mcs"]["ci_low"] is None and "1 defined value" in result["mcs"]["reason"]
    assert result["tests"]["mcs_vs_0_7"]["p"] is None and result["reading_null"] == "undefined"
    severity = result["severity"]["shapley_share"]
    assert severity["p"] is None and severity["power"] is None and severity["n_needed"] is None
    assert "nothing to draw ablation partners from" in severity["reason"] and severity["n_needed_reason"]
    assert result["diagnostics"]["mcs"]["shapiro_p"] is None and "3 or more" in result["diagnostics"]["mcs"]["reason"]
    monkeypatch.setattr(figures, "save", of_trained)
    figures.main(one)
    assert (one.plots / "trained" / "layer_wise_attention.png").is_file()


def test_a_model_is_loaded_twice_and_each_picture_read_once_by_extraction(tmp_path, tiny_openclip, monkeypatch):
    from attention_collapse.engine import attention_pieces
    from attention_collapse.stages import overlay
    from attention_collapse.study import checkpoints

    coco_folder(tmp_path / "in", n=4, captions=2)
    study = tiny_study(tmp_path, tiny_openclip)
    loads, reads, load, load_rgb = [], [], checkpoints.load, attention_pieces.load_rgb
    monkeypatch.setattr(checkpoints, "load", lambda name, *rest: (loads.append(name), load(name, *rest))[1])
    monkeypatch.setattr(attention_pieces, "load_rgb", lambda path: (reads.append(path), load_rgb(path))[1])
    monkeypatch.setattr(figures, "save", of_trained)
    run(study)
    figures.main(study)
    overlay.main(study)
    assert sorted(loads) == ["fresh-0"] * 2 + ["trained"] * 2
    assert len(reads) == 2 * 4 and len(set(reads)) == 4  # each of two models reads each of four pictures once
    assert (study.overlays / "trained" / "attention_overlay.png").is_file()


def test_one_model_under_two_names_is_refused(tmp_path, tiny_openclip):
    coco_folder(tmp_path / "in", n=4, captions=1)
    twin = {"kind": "openclip", "weights": "checkpoint", "path": str(tiny_openclip)}
    one = tiny_study(tmp_path, tiny_openclip, twin=twin)
    with pytest.raises(PipelineError, match="trained and twin are one model: openclip(.|\n)*take one of them out"):
        run(one)
