"""Measure how much a vision-language model uses each modality, beside the null it must beat."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attention_collapse.data.scenes import write_scenes
    from attention_collapse.diagnosis import diagnose
    from attention_collapse.errors import AttentionCollapseError
    from attention_collapse.exploration import explore
    from attention_collapse.information import usable_information
    from attention_collapse.probe import AttentionProbe
    from attention_collapse.report.diagnosis import Diagnosis
    from attention_collapse.report.estimate import Estimate
    from attention_collapse.report.information import Information

__version__ = "0.1.0"
__all__ = [
    "AttentionCollapseError", "AttentionProbe", "Diagnosis", "Estimate", "Information", "__version__", "diagnose",
    "explore", "usable_information", "write_scenes",
]  # fmt: skip

_HOMES = {
    "AttentionCollapseError": "attention_collapse.errors",
    "AttentionProbe": "attention_collapse.probe",
    "Diagnosis": "attention_collapse.report.diagnosis",
    "Estimate": "attention_collapse.report.diagnosis",
    "Information": "attention_collapse.report.information",
    "diagnose": "attention_collapse.diagnosis",
    "explore": "attention_collapse.exploration",
    "usable_information": "attention_collapse.information",
    "write_scenes": "attention_collapse.data.scenes",
}


def __getattr__(name: str) -> Any:  # torch takes seconds to import: load a name's module when it is first used
    if name not in _HOMES:
        raise AttributeError(f"module 'attention_collapse' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ImportError as error:
        from attention_collapse.extras import missing

        if told := missing(error):
            raise told from error
        raise
    globals()[name] = value
    return value
