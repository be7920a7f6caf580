"""Intervals, tests and effect sizes. Written with scipy and statsmodels; nothing is rounded here."""
