"""Examples in docstrings: each gives the answer that stands beneath it, and what people call has one."""

import doctest
import inspect
from importlib import import_module

import pytest
from imports import PACKAGE, SRC

ROOMS = ("measures", "stats")  # of these every module; of the others what the package exports
EXPORTED = (
    "attention_collapse",
    "attention_collapse.probe",
    "attention_collapse.monitor",
    "attention_collapse.prevention",
)
# Public, and without an example: name -> why.
WITHOUT = {
    **dict.fromkeys(
        ("diagnose", "explore", "usable_information", "Diagnosis", "Information", "Estimate"),
        "takes a model and pairs, or is what such a call gives: docs/tutorial.md runs it",
    ),
    "AttentionCollapseError": "the base of errors, which tests of every error show",
    "SiteStats": "what the probe gives: the example of AttentionProbe reads one",
    **dict.fromkeys(
        ("ProductOfExperts", "GradientModulation", "Choice", "ImageChoice", "SwapConsistency"),
        "used as SwappedNegatives is; docs/prevention.md shows the loop",
    ),
    "ContrastiveDecoding": "docs/prevention.md shows the call",
}
# Modules of `measures` and `stats` whose functions are parts of a study's machinery, or take its records.
PARTS = {
    "measures.record": "records, from which the tables are made",
    "measures.catalogue": "names of columns",
    "measures.entropy": "each gives the column of its name back, as the tables need a formula for each",
    "measures.answers": "take the scores of every candidate of many questions: docs/questions.md",
    "measures.predictors": "train predictors on folds",
    "measures.token_shapley": "play a game against a model",
    "stats.decision": "the table of the decision, which takes a study's models",
    "stats.severity": "a study's tests of severity",
    "stats.meta": "takes the means of several models",
}
# In other modules: a part of what stands beside it, and reached through that.
BESIDE = {
    "score", "share_slack", "squared_slack", "tie_slack", "flip_image_slack", "flip_text_slack", "accuracy_hard",
    "blind_accuracy", "group_score", "additive_projection", "additive_without_own", "perceptual_score_image",
    "perceptual_score_text", "emap_gap", "label_entropy", "label_entropy_given_image", "label_entropy_given_text",
    "label_entropy_given_both", "usable_information_text", "usable_information_image_alone",
    "usable_information_text_alone", "usable_information_both", "bootstrap_columns", "describe_columns",
    "one_sample_columns", "paired_columns", "simulated_power", "withheld", "Separation", "tell_apart", "Bootstrap",
    "bootstrap", "describe_of_means", "rank_correlation", "Reported", "implied", "n_consistent", "of_means",
}  # fmt: skip


def modules():
    """The modules whose examples are run: all that hold one."""
    files = sorted((SRC / PACKAGE).rglob("*.py"))
    held = [file for file in files if ">>>" in file.read_text("utf-8")]
    return [".".join(file.relative_to(SRC).with_suffix("").parts) for file in held]


def public():
    """(module or package, name, what it is) of what people call."""
    for package in EXPORTED:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or (inspect.isclass(value) and value.__module__.startswith(PACKAGE)):
                yield package, name, value
    for room in ROOMS:
        for file in sorted((SRC / PACKAGE / room).glob("*.py")):
            short = f"{room}.{file.stem}"
            module = import_module(f"{PACKAGE}.{short}")
            if short in PARTS:
                continue
            for name, value in vars(module).items():
                if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__ and (
                    inspect.isfunction(value) or inspect.isclass(value)
                ):  # fmt: skip
                    yield module.__name__, name, value


@pytest.mark.parametrize("name", modules())
def test_every_example_gives_what_stands_beneath_it(name):
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed


def test_what_people_call_has_an_example():
    found = list(public())
    lacking = {name for _, name, value in found if ">>>" not in (value.__doc__ or "")}
    assert lacking == {name for _, name, _ in found} & (WITHOUT.keys() | BESIDE)  # a reason, or an example
    assert WITHOUT.keys() | BESIDE <= {name for _, name, _ in found}  # and none for what is gone


def test_examples_are_short():
    for _, name, value in public():
        lines = [example.source.count("\n") for example in doctest.DocTestParser().get_examples(value.__doc__ or "")]
        assert sum(lines) <= 5, name
