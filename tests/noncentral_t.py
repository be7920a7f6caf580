"""The noncentral t distribution from its definition, (Z + nc) / √(χ²/df), without any library's noncentral t."""

import numpy as np
from scipy import integrate
from scipy import stats as sp


def upper_tail(t, df, nc):
    """P(T > t): for each √(χ²/df) = u the normal probability of Z > t·u − nc, averaged over u."""
    spread = sp.chi(df, scale=1 / np.sqrt(df))
    low, high = spread.ppf([1e-13, 1 - 1e-13])
    return integrate.quad(lambda u: sp.norm.sf(t * u - nc) * spread.pdf(u), low, high, epsabs=1e-12, limit=200)[0]
