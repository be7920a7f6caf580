"""Intervals, tests and effect sizes. Written with scipy, pingouin and statsmodels; nothing is rounded here."""
