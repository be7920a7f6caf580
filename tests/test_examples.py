"""Examples in docstrings: each gives the answer that stands beneath it, and what people call has one."""

import doctest
import inspect
from importlib import import_module

import pytest
from imports import PACKAGE, SRC

ROOMS = ("measures", "stats", "data", "models")  # of these every module; of the others what the package exports
MODULES = ("diagnosis", "report.diagnosis", "report.estimate")  # and these, of rooms that are machinery otherwise
EXPORTED = (
    "attention_collapse",
    "attention_collapse.probe",
    "attention_collapse.monitor",
    "attention_collapse.prevention",
)
# Public, and without an example: name -> why.
WITHOUT = {
    **dict.fromkeys(
        ("explore", "usable_information", "Information"),
        "takes a model and pairs, or is what such a call gives: docs/tutorial.md runs it",
    ),
    "Diagnosis": "what `diagnose` gives: its example reads one",
    "AttentionCollapseError": "the base of errors, which tests of every error show",
    "Rows": "what a grid is that has not all its rows in memory: tests/measures/test_matching.py has one",
    "SiteStats": "what the probe gives: the example of AttentionProbe reads one",
    **dict.fromkeys(
        ("ProductOfExperts", "GradientModulation", "Choice", "ImageChoice", "SwapConsistency"),
        "used as SwappedNegatives is; docs/prevention.md shows the loop",
    ),
    "ContrastiveDecoding": "docs/prevention.md shows the call",
    "easy_vqa_folder": "finds a package that need not be installed",
    **dict.fromkeys(
        ("Described", "DualEncoder", "PairScorer", "Truncating", "Result"),
        "a protocol: what a class of the user's has, and nothing to call",
    ),
    "Declared": "docs/adding.md runs examples/own_model.py, which gives one",
}
# fmt: off
# Modules, and packages of modules, whose functions are parts of machinery that another call of the user's runs.
PARTS = {
    **dict.fromkeys(("data.copies", "data.formats"), "`read_pairs` takes what they find"),
    "data.download": "needs a network: the stage fetch_coco calls it",
    "models.kinds": "one module per kind: `models.load` calls its `load`",
    **dict.fromkeys(
        ("models.activation", "models.agreement", "models.caption_tokens", "models.picture_fit",
         "models.vocabulary"),
        "checks of a checkpoint or of captions, which loading and `diagnose` make: they take a loaded model's parts",
    ),
    **dict.fromkeys(
        ("models.adapter", "models.architectures", "models.device", "models.given", "models.hub",
         "models.objects", "models.openclip", "models.openclip_model", "models.pretrained", "models.towers",
         "models.trainers"),
        "steps of loading: they take files of weights, a machine's devices or a library's objects",
    ),
    **dict.fromkeys(
        ("models.anyres", "models.decoder", "models.dual_encoder", "models.fusion", "models.fusion_encoder",
         "models.inhouse", "models.protocols"),
        "classes that kinds share",
    ),
    "models.answering": "`attention-collapse questions` loads these",
    "models.boundary": "puts the errors of libraries into three parts: `KindOfModel` does it for every kind",
    **dict.fromkeys(
        ("models.image_once", "models.masking", "models.mm_shap", "models.pictures", "models.recombined",
         "models.specification", "models.twin"),
        "what the causal measures and the pages do with a loaded model",
    ),
    **dict.fromkeys(("models.scenes", "models.small"), "small models that a study trains"),
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
    "score", "share_slack", "squared_slack", "term_slack", "tie_slack", "flip_image_slack", "flip_text_slack",
    "accuracy_hard", "blind_accuracy", "group_score", "additive_without_own", "perceptual_score_image",
    "perceptual_score_text", "emap_gap", "label_entropy", "label_entropy_given_image", "label_entropy_given_text",
    "label_entropy_given_both", "usable_information_text", "usable_information_image_alone",
    "usable_information_text_alone", "usable_information_both", "bootstrap_columns", "describe_columns",
    "one_sample_columns", "paired_columns", "simulated_power", "withheld", "Separation", "tell_apart", "Bootstrap",
    "bootstrap", "describe_of_means", "rank_correlation", "Reported", "implied", "n_consistent", "of_means", "Format",
    "Features", "Pair", "check_images", "with_each_picture_once", "require_usable", "write_study", "manifest",
    "read_study", "Located", "QuestionSet", "question_manifest", "Pairs", "Named", "users_code", "is_likelihood",
    "Found",
}
# fmt: on


def modules():
    """The modules whose examples are run: all that hold one."""
    files = sorted((SRC / PACKAGE).rglob("*.py"))
    held = [file for file in files if ">>>" in file.read_text("utf-8")]
    parts = [file.relative_to(SRC).with_suffix("").parts for file in held]
    return [".".join(part for part in some if part != "__init__") for some in parts]


def is_part(short):
    """Whether a module, or the package that it is in, is one of `PARTS`."""
    return any(short == part or short.startswith(f"{part}.") for part in PARTS)


def searched():
    """Names of the modules of which everything public counts, without the package's own: "stats.paired", "models"."""
    files = [file for room in ROOMS for file in sorted((SRC / PACKAGE / room).rglob("*.py"))]
    parts = [file.relative_to(SRC / PACKAGE).with_suffix("").parts for file in files]
    names = [".".join(part for part in some if part != "__init__") for some in parts]
    return [name for name in (*names, *MODULES) if not is_part(name)]


def public():
    """(module or package, name, what it is) of what people call."""
    for package in EXPORTED:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or (inspect.isclass(value) and value.__module__.startswith(PACKAGE)):
                yield package, name, value
    for short in searched():
        module = import_module(f"{PACKAGE}.{short}")
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


def test_what_is_machinery_is_there():
    there = {".".join(file.relative_to(SRC / PACKAGE).with_suffix("").parts) for file in (SRC / PACKAGE).rglob("*.py")}
    there |= {".".join(folder.relative_to(SRC / PACKAGE).parts) for folder in (SRC / PACKAGE).rglob("*/")}
    assert PARTS.keys() <= there


def test_examples_are_short():
    for _, name, value in public():
        lines = [example.source.count("\n") for example in doctest.DocTestParser().get_examples(value.__doc__ or "")]
        assert sum(lines) <= 6, name
