"""`statistical_validation_framework.md`: how the study tests what it says, for a reviewer."""

from __future__ import annotations

from attention_collapse.report.markdown import (
    DASH,
    Sources,
    code,
    exists,
    figure,
    interval,
    level,
    number,
    run,
    table,
    text,
)
from attention_collapse.report.measures import measures_table
from attention_collapse.report.model_report import effect, trust

TESTS = """\
- The **unit** is the image: the scores of its captions are averaged first, so n counts images, never pairs.
- **Intervals** are BCa bootstrap intervals of the mean over images; those of effect sizes are noncentral t.
- **Tests** are one-sample t-tests, and paired ones between models on the same images, each with the Wilcoxon
  signed-rank test and a sign-flip permutation test (p = (b + `1`) / (m + `1`), never `0`) beside it.
- **Effect sizes** are Cohen's d and Hedges' g.
- **"No difference"** is claimed by TOST within the margin alone, never from a large p.
- **Severity** is one-sided: the null hypothesis is a mean imbalance of at most the bound above.
- **Correction** is Holm's, over the models under test, measure by measure; controls are in no family.
- **Over models**: random-effects meta-analysis with Hartung-Knapp intervals, I² and a prediction interval.
- Normality and outliers are **reported, not acted on**: no image is dropped for its value.
- Degenerate samples (one image, no variance, nothing defined) give no value and a reason.
"""
SIMULATED = (
    ("BCa intervals of means hold their level", "test_one_sample.py::test_coverage_of_the_interval"),
    ("p is uniform under H₀", "test_one_sample.py::test_under_the_null_hypothesis_every_p_is_uniform"),
    ("Holm holds the family-wise error", "test_one_sample.py::test_holms_family_wise_error"),
    ("permutation p is uniform under H₀", "test_permutation.py::test_under_the_null_hypothesis_p_is_uniform"),
    ("intervals of effect sizes hold their level", "test_effect_size.py::test_coverage"),
    ("TOST holds its level", "test_paired.py::test_the_level_of_tost"),
    ("the severity test holds its level", "test_severity.py::test_the_level"),
    (
        "simulated power is that of the noncentral t",
        "test_power.py::test_simulation_agrees_with_the_noncentral_t_for_normal_values",
    ),
    ("without an effect, power is the level", "test_power.py::test_without_an_effect_the_simulated_power_is_the_level"),
    ("intervals of the meta-analysis hold their level", "test_meta.py::test_coverage"),
    ("the normality test's p is uniform under normality", "test_diagnostics.py::test_under_normality_p_is_uniform"),
)


def _settings(sources: Sources) -> str:
    statistics = sources.statistics
    lines = [
        f"- confidence {number(statistics, 'confidence', 'percent0')}, α {number(statistics, 'alpha', 2)}, power asked "
        f"for {number(statistics, 'power', 2)}; results from {run(statistics)}",
        f"- bound of severity: a mean imbalance of {number(statistics, 'severe', 2)}",
    ]
    lines += [f"- {name}: {code(value)}" for name, value in sources.definitions.items()]
    return "\n".join([*lines, ""])


def _power(sources: Sources) -> str:
    statistics, rows = sources.statistics, []
    planned = (
        f"Before any measurement: an effect of d = {number(statistics, 'a_priori.d', 1)} at "
        f"α = {number(statistics, 'a_priori.alpha', 2)} ({text(statistics, 'a_priori.alternative')}) with power "
        f"{number(statistics, 'a_priori.power', 1)} needs {number(statistics, 'a_priori.n')} images.\n"
    )
    for model in sources.measured:
        for measure in sources.results(model)["severity"]:
            at = f"models.{model}.severity.{measure}"
            rows.append([
                code(model), code(measure), number(statistics, f"{at}.n"), number(statistics, f"{at}.margin", 2),
                number(statistics, f"{at}.power_alpha"), number(statistics, f"{at}.power"),
                number(statistics, f"{at}.n_needed"), number(statistics, f"{at}.n_still_needed"),
                text(statistics, f"{at}.n_needed_reason"),
            ])  # fmt: skip
    columns = [
        ("l", "Model"), ("l", "measure"), ("r", "images"), ("r", "margin"), ("r", "α"), ("r", "achieved power"),
        ("r", "images needed"), ("r", "still needed"), ("l", "why no number"),
    ]  # fmt: skip
    return "\n".join([
        planned,
        "Achieved power is simulated from each model's own residuals, at a true mean imbalance that lies the margin "
        "above the gate, at Holm's smallest level: it never uses the observed effect.", "",
        table(columns, rows),
    ])  # fmt: skip


def _diagnostics(sources: Sources) -> str:
    statistics, rows = sources.statistics, []
    for model in sources.measured:
        for measure in sources.results(model)["diagnostics"]:
            at = f"models.{model}.diagnostics.{measure}"
            rows.append([
                code(model), code(measure), number(statistics, f"{at}.shapiro_w"),
                number(statistics, f"{at}.shapiro_p", "p"), number(statistics, f"{at}.skew", 2),
                number(statistics, f"{at}.kurtosis", 2), number(statistics, f"{at}.outliers_iqr"),
                number(statistics, f"{at}.outliers_mad"), text(statistics, f"{at}.reason"),
            ])  # fmt: skip
    columns = [
        ("l", "Model"), ("l", "measure"), ("r", "Shapiro-Wilk W"), ("r", "p"), ("r", "skew"), ("r", "excess kurtosis"),
        ("r", "outliers (IQR)"), ("r", "outliers (MAD)"), ("l", "why not"),
    ]  # fmt: skip
    return table(columns, rows)


def _over_models(sources: Sources) -> str:
    statistics, rows = sources.statistics, []
    for measure in statistics.data["meta"] if statistics else {}:
        at = f"meta.{measure}"
        rows.append([
            code(measure), number(statistics, f"{at}.k"), number(statistics, f"{at}.mean"),
            interval(statistics, f"{at}."), number(statistics, f"{at}.i2", "percent0"),
            " to ".join(number(statistics, f"{at}.prediction_{end}") for end in ("low", "high"))
            if exists(statistics, f"{at}.prediction_low") else DASH,
            text(statistics, f"{at}.reason"),
        ])  # fmt: skip
    columns = [
        ("l", "Measure"), ("r", "models"), ("r", "mean"), ("l", level(statistics)), ("r", "I²"),
        ("l", "prediction interval"), ("l", "why not"),
    ]  # fmt: skip
    return table(columns, rows)


def _between_models(sources: Sources) -> str:
    statistics, rows = sources.statistics, []
    for measure, pairs in (statistics.data["pairs_of_models"] if statistics else {}).items():
        for pair, found in pairs.items():
            at = f"pairs_of_models.{measure}.{pair}"
            rows.append([
                code(measure), f"{code(found['a'])} − {code(found['b'])}", text(statistics, f"{at}.family"),
                number(statistics, f"{at}.n"), number(statistics, f"{at}.mean"), interval(statistics, f"{at}."),
                number(statistics, f"{at}.p_holm", "p"), effect(statistics, f"{at}.d_z"),
                number(statistics, f"{at}.tost_p", "p"), text(statistics, f"{at}.reason"),
            ])  # fmt: skip
    columns = [
        ("l", "Measure"), ("l", "difference"), ("l", "family"), ("r", "images"), ("r", "mean"),
        ("l", level(statistics)), ("r", "p (Holm)"), ("l", f"Cohen's d_z ({level(statistics)})"),
        ("r", "p (TOST)"), ("l", "why not"),
    ]  # fmt: skip
    return table(columns, rows) if rows else "Fewer models than a comparison needs.\n"


def _controls(sources: Sources) -> str:
    lines = [f"- {code(name)} ({sources.models[name]})" for name, standing in sources.standing.items()
             if standing == "control"]  # fmt: skip
    return "\n".join([
        "Untrained models of the same architectures stand beside the trained ones. They show what the architecture and "
        "the token counts give without learning; they are shown, tested and never counted.", "", *lines, "",
        trust(sources),
    ])  # fmt: skip


def validation_framework(sources: Sources) -> str:
    """The whole report."""
    return "\n".join([
        f"# Statistical validation framework, study {code(sources.study)}", "",
        "## Measures", "", measures_table(),
        "## Settings", "", _settings(sources), "## Unit, tests, corrections", "", TESTS,
        "## Power", "", _power(sources), "## Differences between models", "", _between_models(sources),
        "## Over models", "", _over_models(sources),
        "## Normality and outliers", "", _diagnostics(sources), "## Controls and planted answers", "",
        _controls(sources), *map(figure, sources.planted), "## What was checked by simulation", "",
        table([("l", "claim"), ("l", "test")], [[claim, code(f"tests/stats/{test}")] for claim, test in SIMULATED]),
        "Results are held against independent values (R, textbooks), named in the tests of the same folder.", "",
    ])  # fmt: skip
