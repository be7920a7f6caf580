"""Seeing every attention call of an unmodified PyTorch model. Knows no model and no measure's meaning."""

from attention_collapse.probe.probe import AttentionProbe
from attention_collapse.probe.statistics import GROUPS, IMAGE, OTHER, TEXT, SiteStats

__all__ = ["GROUPS", "IMAGE", "OTHER", "TEXT", "AttentionProbe", "SiteStats"]
