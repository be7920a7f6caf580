"""How often the intervals of reliance and of the Sobol shares hold the truth, on scores of known make.

`python tests/stats/coverage_of_intervals.py [RUNS]` prints a table: coverage in percent, for as many data sets.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from attention_collapse.engine.contribution import STANDS_IN, coalitions, draws
from attention_collapse.measures import reliance, sobol
from attention_collapse.measures.contribution import CONTRIBUTION_MEASURES
from attention_collapse.stats.of_means import describe_of_means
from attention_collapse.stats.partners import in_both_roles

PARTNERS, RESAMPLES = 8, 600
MEASURES = (
    "reliance_image", "reliance_text", "reliance_share", "sobol_image", "sobol_text", "sobol_interaction",
)  # fmt: skip
SPECS = {  # standard deviations of the image's effect, the text's and of noise; how much a match adds, and its spread
    "additive": (1.0, 1.0, 0.2, 0.0, 0.0),
    "mostly the image": (1.0, 0.3, 0.5, 1.0, 0.0),
    "a match, and noise": (0.0, 0.0, 1.0, 2.0, 1.0),
    "a bit of everything": (0.5, 0.5, 0.5, 1.0, 0.5),
}
FORMULAS = {"lost_image": reliance.lost_image, "lost_text": reliance.lost_text, "lost_both": reliance.lost_both}


@dataclass
class Covered:
    """Of one measure: its true value, and in which share of the data sets the interval held it."""

    truth: float
    coverage: float


def grid(rng, n, image, text, noise, match, spread):
    """(image, text) scores of n pairs."""
    found = image * rng.normal(size=(n, 1)) + text * rng.normal(size=(1, n)) + noise * rng.normal(size=(n, n))
    return found + np.diag(match + spread * rng.normal(size=n))


def truth(image, text, noise, match, spread):
    """The measures of an infinite population, from the variances alone."""
    a, b, c = image**2, text**2, noise**2
    own = match**2 + spread**2 + 2 * c  # of the square of what a match adds, and of two draws of noise
    lost_image, lost_text, lost_both = own + 2 * a, own + 2 * b, own + 2 * a + 2 * b
    known = {
        "reliance_image": lost_image / lost_both, "reliance_text": lost_text / lost_both,
        "reliance_share": lost_image / (lost_image + lost_text),
    }  # fmt: skip
    parts = {"image": a, "text": b, "interaction": c}
    return known | {f"sobol_{name}": part / (a + b + c) for name, part in parts.items()}


def columns(v, seed, *, in_roles):
    """What the measures of means are made of, as the engine makes it."""
    image, text, _ = draws(len(v), PARTNERS, seed)
    cells = {name: v[np.broadcast_arrays(*cell)[0], np.broadcast_arrays(*cell)[1]] for name, cell in
             coalitions(image, text).items() if "mean" not in name}  # fmt: skip
    found, partners = dict(sobol.sobol_parts(v)), {"image": image, "text": text}
    for name, formula in FORMULAS.items():
        own, swapped = (cells[key] for key in CONTRIBUTION_MEASURES[name].inputs)
        roles = [partners[what] for what in STANDS_IN[name]]
        found[name] = in_both_roles((own - swapped) ** 2, roles)[0] if in_roles else formula(own, swapped)
    return found


def covered(spec, *, pairs, runs, in_roles=True, seed=0):
    """Measure -> `Covered`, over data sets of some pairs."""
    rng, known = np.random.default_rng(seed), truth(*spec)
    held = dict.fromkeys(MEASURES, 0)
    for run in range(runs):
        made = columns(grid(rng, pairs, *spec), run, in_roles=in_roles)
        for name in MEASURES:
            measure = CONTRIBUTION_MEASURES[name]
            of = [made[key] for key in measure.inputs]
            found = describe_of_means(of, measure.of_means, n_resamples=RESAMPLES, rng=rng)
            held[name] += found["ci_low"] <= known[name] <= found["ci_high"]
    return {name: Covered(known[name], held[name] / runs) for name in MEASURES}


def main(runs: int) -> None:
    """Print the table."""
    print(f"coverage of 95 % intervals, in percent of {runs} data sets; in brackets without the part of partners")
    print(f"{'score':<22}{'pairs':>6}  " + "".join(f"{name:>20}" for name in MEASURES))
    for name, spec in SPECS.items():
        for pairs in (30, 100):
            now, before = (covered(spec, pairs=pairs, runs=runs, in_roles=flag) for flag in (True, False))
            cells = [f"{100 * now[m].coverage:.1f} ({100 * before[m].coverage:.1f})" for m in MEASURES]
            print(f"{name:<22}{pairs:>6}  " + "".join(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
