"""The extras of the distribution: which libraries each brings, and the error where one of them is missing.

`pip install .` brings what the probe, the measures, the monitor and the ways to train need. What measures a model, what
runs a study and what mirrors it brings more, and says so here before it begins.
"""

from __future__ import annotations

from importlib.util import find_spec

from attention_collapse.errors import AttentionCollapseError, PipelineError

EXTRAS = {  # extra of pyproject.toml -> the modules that it brings
    "models": (
        "accelerate", "datasets", "huggingface_hub", "jinja2", "markupsafe", "matplotlib", "num2words", "numba",
        "open_clip", "peft", "pyarrow", "sentencepiece", "shap", "sklearn", "statsmodels", "tokenizers", "torchvision",
        "transformers",
    ),
    "study": ("dvc",),
    "explore": ("gradio",),
    "track": ("mlflow",),
    "lightning": ("lightning",),
    "ray": ("ray",),
}  # fmt: skip


def _error(modules: list[str], extra: str) -> AttentionCollapseError:
    return PipelineError(
        f"{', '.join(modules)} {'is' if len(modules) == 1 else 'are'} not installed",
        expected=f"the libraries of the extra `{extra}`",
        remedy=f"pip install 'attention-collapse[{extra}]' (in a clone: pip install '.[{extra}]', or "
        "`pip install -r requirements.txt` for all)",
    )


def require(extra: str) -> None:
    """Raise PipelineError, which names the extra, unless all that it brings is installed; nothing is imported."""
    if missing := [name for name in EXTRAS[extra] if find_spec(name) is None]:
        raise _error(missing, extra)


def missing(error: ImportError) -> AttentionCollapseError | None:
    """The error for a library that is not installed, if an extra brings it; None: it is none of theirs."""
    top = (error.name or "").split(".")[0]
    found = [extra for extra, modules in EXTRAS.items() if top in modules]
    return _error([top], found[0]) if found else None
