"""The reference pages of the site, made from what they describe: parser, parameter schema, records, docstrings."""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import re
import textwrap
import tokenize
import typing
from importlib import import_module
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from attention_collapse.measures.record import Measure
from attention_collapse.models.spec import ModelSpec
from attention_collapse.options import command_parser
from attention_collapse.params import Params, measuring, training
from attention_collapse.params.section import Section
from attention_collapse.report.measures import WITH_LABELS

HOME = "attention_collapse"
# Page -> what it says first; a package, of which it shows what is exported; modules, of which it shows all.
ROOMS = {
    HOME: ("What `from attention_collapse import …` gives.", "", ""),
    "probe": ("Attention of any PyTorch model, seen without a change of it.", "probe", "rows"),
    "measures": (
        "One formula and one record per measure; what each means is [the contract's](../../measures.md).",
        "",
        "mcs null entropy mass reliance sobol matching hard shapley token_shapley answers usable_information "
        "predictors record",
    ),
    "stats": (
        "Intervals, tests, effect sizes, power and the decision ([sections 6 and 7](../../measures.md)).",
        "",
        "one_sample paired of_means partners effect_size power sample_shape permutation severity decision few_images "
        "few_models validity meta claims ties",
    ),
    "monitor": (
        "See collapse come while a model is in training: [the guide](../../monitor.md).",
        "monitor",
        "trainer lightning_callback",
    ),
    "prevention": (
        "Ways to train against collapse: [the guide](../../prevention.md).",
        "prevention",
        "trainer lightning_callback",
    ),
    "data": (
        "Pairs as people have them: [the guide](../../data.md).",
        "",
        "source convert coco foils images pairs fingerprint labelled question_formats questions scenes planted",
    ),
    "models": (
        "From a description to a model that says what its tokens are: [the guide](../../models.md).",
        "models",
        "spec naming declared interface",
    ),
    "errors": ("Every error has three parts: what was got, what was expected, what to do.", "", "."),
}


def modules(room: str) -> list[str]:
    """The modules that a room's page shows in full."""
    return [f"{HOME}.{room}" if name == "." else f"{HOME}.{room}.{name}" for name in ROOMS[room][2].split()]


def _cell(text: object) -> str:
    """One cell of a Markdown table."""
    return re.sub(r"\s+", " ", str(text)).replace("|", r"\|").replace("<", "&lt;").strip()


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


# -- the command line -------------------------------------------------------------------------------------------------


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Name of a command -> its line of help, and its parser."""
    found: dict[str, tuple[str, argparse.ArgumentParser]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            found |= {name: (helps.get(name, ""), child) for name, child in action.choices.items()}
    return found


def _option(action: argparse.Action) -> tuple[str, str, str]:
    """An option as it is written, what it takes, and its help."""
    values = action.choices if action.choices else [action.metavar or action.dest.upper()]
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    takes = "" if action.nargs == 0 else " or ".join(f"`{value}`" for value in values)
    return names, takes + (" (required)" if action.required and action.option_strings else ""), action.help or ""


def _command(name: str, about: str, parser: argparse.ArgumentParser, level: int) -> list[str]:
    parser.prog = f"attention-collapse {name}"
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: "))
    shown = textwrap.fill(usage, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    lines = [f"{'#' * level} `{name}`\n", f"{(about[:1].upper() + about[1:]).rstrip('.')}.\n" if about else ""]
    lines += [f"{parser.description}\n" if parser.description else "", f"```text\n{shown}\n```\n"]
    options = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    lines.append(_table(("option", "takes", "what it does"), [_option(action) for action in options]))
    for inner, (help_, child) in _subparsers(parser).items():
        lines += _command(f"{name} {inner}", help_, child, level + 1)
    return [line for line in lines if line]


def command_line() -> str:
    """Every command with its options, from the parser itself."""
    lines = ["# The command line\n", "Made from the parser of `attention-collapse` when the site is built.\n"]
    for name, (about, parser) in _subparsers(command_parser()).items():
        lines += _command(name, about, parser, 2)
    return "\n".join(lines)


# -- the parameters ---------------------------------------------------------------------------------------------------


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the comment beside its line, or above it, in the class's source."""
    source = textwrap.dedent(inspect.getsource(model))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    said = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    fields = [node for node in ast.parse(source).body[0].body if isinstance(node, ast.AnnAssign)]
    return {
        node.target.id: said.get(node.end_lineno, said.get(node.lineno - 1, ""))
        for node in fields
        if node.lineno - 1 not in {other.end_lineno for other in fields} or node.end_lineno in said
    }


TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "`null`"}


def _type(annotation: Any) -> str:
    """A type in words of YAML."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (tuple, dict):
        return f"list of {_type(inner[0])}" if origin is tuple else f"mapping to {_type(inner[1])}"
    if inner:
        return " or ".join(_type(one) for one in (inner[:1] if origin is typing.Annotated else inner))
    return TYPES.get(annotation) or f"[{annotation.__name__}](#{annotation.__name__.lower()})"


def _range(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "items or signs: ≥", "pattern": "matches"}
    found = [f"{signs[name]} `{value}`" for rule in field.metadata for name in signs
             if (value := getattr(rule, name, None)) is not None]  # fmt: skip
    return ", ".join(found)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return f"`{field.get_default(call_default_factory=True)}`"
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "its own defaults"
    return f"`{'null' if field.default is None else field.default}`"


def parameters() -> str:
    """Every section of `params.yaml`, from its schema."""
    known = [value for part in (measuring, training) for value in vars(part).values()]
    parts = [one for one in known if isinstance(one, type) and issubclass(one, Section) and one is not Section]
    sections: list[type[BaseModel]] = [Params, *parts, ModelSpec]
    lines = [
        "# The parameters\n",
        "Made from the schema of `params.yaml` when the site is built; an unknown key is an error that names the "
        "nearest one. [Adding things](../adding.md#the-parameters) says what each section is for.\n",
    ]
    for model in sections:
        about = inspect.cleandoc(model.__doc__ or "")
        if model is ModelSpec:  # its words on the ways to get weights are a list
            about = re.sub(r"(?m)^weights: (\w+)\n((?:    .+\n)+)", r"- weights: `\1`\n\2", about)
        comments = _comments(model)
        rows = [
            (f"`{name}`", _type(field.annotation), _default(field), _range(field), comments.get(name, ""))
            for name, field in model.model_fields.items()
        ]
        head = ("key", "type", "default", "range", "what it is")
        if not any(comments.values()):
            head, rows = head[:-1], [row[:-1] for row in rows]
        lines += [f"## {model.__name__}\n", f"{about}\n", _table(head, rows)]
    return "\n".join(lines)


# -- the measures -----------------------------------------------------------------------------------------------------


LEVELS = {
    "pair": "of each pair", "layer": "of each layer", "image": "of each image, its captions averaged",
    "means": "means over images", "token": "of a game of tokens",
}  # fmt: skip


def _measure(name: str, measure: Measure) -> str:
    """The record of one measure, as a table of two columns."""
    formula = measure.formula
    is_public = formula is not None and not formula.__name__.startswith("_")
    null = f"{measure.null:g}" if isinstance(measure.null, float) else measure.null
    tests = [f"`{one.value:g}` ({one.alternative}, `{one.name}`)" for one in measure.hypotheses]
    rows = [
        ("what it is", measure.definition),
        ("unit", measure.unit),
        ("range", f"{measure.low:g} to {measure.high:g}"),
        ("null", f"`{null}`" if null is not None else "–"),
        ("about", measure.about),
        ("made of", f"{', '.join(f'`{column}`' for column in measure.inputs) or '–'} ({LEVELS[measure.level]})"),
        ("formula", f"`{formula.__module__}.{formula.__name__}`" if formula is not None and is_public else "–"),
        ("tested against", ", ".join(tests) or "–"),
        ("may be absent because", measure.absent or "–"),
        *((f"not defined for: {family}", reason) for family, reason in measure.undefined.items()),
    ]
    return f"## {measure.label}, `{name}`\n\n" + _table(("", ""), rows)


def measures() -> str:
    """Every measure, from its record."""
    lines = ["# The measures, one by one\n", "Made from the records beside the formulas when the site is built. What "
             "they mean is in [the contract](../measures.md).\n"]  # fmt: skip
    return "\n".join([*lines, *(_measure(name, measure) for name, measure in WITH_LABELS.items())])


# -- the interface from Python ----------------------------------------------------------------------------------------


def _exported(package: str) -> str:
    """reStructuredText of the classes and functions that a package exports."""
    module = import_module(package)
    lines = [f".. currentmodule:: {package}\n"]
    for name in getattr(module, "__all__", ["load"]):
        value = getattr(module, name)
        if package == HOME and name in (
            "AttentionProbe",
            "AttentionCollapseError",
        ):  # these stand on their rooms' pages
            continue
        if inspect.isclass(value):
            lines.append(f".. autoclass:: {name}\n   :members:\n")
        elif inspect.isfunction(value):
            lines.append(f".. autofunction:: {name}\n")
    return "\n".join(lines)


def interface() -> dict[str, str]:
    """Page of a room -> its text."""
    pages = {}
    for room, (about, package, _) in ROOMS.items():
        parts = [f"# `{room}`\n", f"{about}\n"]
        if package or room == HOME:
            home = f"{HOME}.{package}".rstrip(".")
            parts.append(f"```{{eval-rst}}\n{_exported(home)}```\n")
        for module in modules(room):
            parts.append(f"## `{module.removeprefix(f'{HOME}.')}`\n")
            parts.append(f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n")
        pages[f"api/{room}.md"] = "\n".join(parts)
    return pages


def pages() -> dict[str, str]:
    """Every page of the reference -> its text; paths are relative to `reference/`."""
    made = {"command_line.md": command_line(), "parameters.md": parameters(), "measures.md": measures()}
    return made | interface()
