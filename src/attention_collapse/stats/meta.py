"""What a measure says over models: random-effects meta-analysis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from attention_collapse.stats import ties

NUMBERS = ("mean", "se", "ci_low", "ci_high", "tau2", "q", "q_p", "i2", "prediction_low", "prediction_high")


def random_effects(means: ArrayLike, standard_errors: ArrayLike, *, confidence: float = 0.95) -> dict[str, Any]:
    """Mean over a population of models from the means of some, by DerSimonian & Laird (1986), through statsmodels.

    Parameters
    ----------
    means, standard_errors
        (model,); a model that leaves either undefined is left out and counted.

    Returns
    -------
    dict
        k (models), n_undefined; mean; se (1 / √Σw); ci_low, ci_high (Hartung & Knapp 2001: the variance estimated
        from the models' spread, t with k − 1 df); tau2 (variance between models, 0 at least); q and q_p (Cochran's
        test of one common mean); i2 (share of the spread beyond sampling error, max(0, (Q − (k − 1)) / Q), 0 to 1,
        Higgins & Thompson 2002); prediction_low, prediction_high (where the mean of a further model lies: mean ±
        t(k − 2 df) √(tau2 + se²), Higgins et al. 2009; NaN below 3 models); ci, the name of the interval; `reason`
        where numbers do not exist.

    Notes
    -----
    The formulas take sampling errors of different models for independent. Models measured on the same images share
    theirs in part, which tau2 absorbs when it is large beside the squared standard errors, as between architectures.
    """
    effects, errors = np.asarray(means, np.float64), np.asarray(standard_errors, np.float64)
    known = np.isfinite(effects) & np.isfinite(errors)
    effects, errors = effects[known], errors[known]
    variances = errors**2
    k = int(known.sum())
    result = {"k": k, "n_undefined": int(known.size - k), "ci": "Hartung-Knapp"} | dict.fromkeys(NUMBERS, math.nan)
    if k < 2:
        return result | {"reason": f"{k} model{'s' if k != 1 else ''}, 2 or more needed"}
    if not ties.above(errors, 0.0).all():
        return result | {"reason": "a model's mean has no sampling variance, so its weight is not defined"}
    centre = float(effects.mean())  # statsmodels takes Q as a difference of sums, which for means far from 0 cancel
    fit = combine_effects(effects - centre, variances, method_re="dl", alpha=1 - confidence)
    if fit.tau2 < 0:  # statsmodels keeps the negative estimate; the method sets it to 0, and the weights with it
        mean, se, spread, tau2 = fit.mean_effect_fe, fit.sd_eff_w_fe, fit.var_hksj_fe, 0.0
    else:
        mean, se, spread, tau2 = fit.mean_effect_re, fit.sd_eff_w_re, fit.var_hksj_re, fit.tau2
    mean += centre
    half = stats.t.isf((1 - confidence) / 2, k - 1) * math.sqrt(spread)
    result |= {
        "mean": float(mean),
        "se": float(se),
        "ci_low": float(mean - half),
        "ci_high": float(mean + half),
        "tau2": float(tau2),
        "q": float(fit.q),
        "q_p": float(stats.chi2.sf(fit.q, k - 1)),
        "i2": max(0.0, float((fit.q - (k - 1)) / fit.q)) if fit.q > 0 else 0.0,
    }
    if k < 3:
        return result | {"reason": "no prediction interval: 2 models, 3 or more needed"}
    reach = stats.t.isf((1 - confidence) / 2, k - 2) * math.sqrt(tau2 + se**2)
    return result | {"prediction_low": float(mean - reach), "prediction_high": float(mean + reach)}
