"""Models by name, with what is published about them. Importing this imports no model library."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from attention_collapse.errors import ModelError
from attention_collapse.models.definition import is_there, read_object
from attention_collapse.models.spec import ModelSpec
from attention_collapse.registry import kinds


@dataclass(frozen=True)
class Entry:
    """A model and its facts.

    Attributes
    ----------
    licence
        The licence of the weights, as far as it is known; the model's page is what counts.
    millions
        Parameters in millions, rounded; None where a file here tells exactly.

    Examples
    --------
    >>> ENTRIES["openclip-vit-b-32"].spec.architecture
    'ViT-B-32'
    """

    spec: ModelSpec
    licence: str
    millions: int | None


ENTRIES = {
    name: Entry(
        ModelSpec(kind=kind.name, **{key: value for key, value in facts.items() if key not in ("licence", "millions")}),
        facts["licence"],
        facts["millions"],
    )
    for kind in kinds().values()
    for name, facts in kind.catalogue.items()
}
CATALOGUE = {name: entry.spec for name, entry in ENTRIES.items()}
KIND_OF_TYPE = {found: kind.name for kind in kinds().values() for found in kind.model_types}


def kind_of(folder: Path) -> str:
    """The kind of a checkpoint folder, from its configuration.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text('{"model_type": "clip"}')
    ...     kind_of(Path(folder))
    'clip'
    """
    if is_there(folder / "open_clip_config.json"):
        return "openclip"
    if not is_there(folder / "config.json"):
        raise ModelError(
            f"{folder}: open_clip_config.json is absent, and so is config.json",
            expected="a checkpoint folder in the hub's layout",
            remedy="check the path; `openclip-scenes` needs the repository's root as the working folder",
        )
    found = read_object(folder / "config.json").get("model_type")
    if found not in [*KIND_OF_TYPE]:  # a list: what the file holds may have no hash
        raise ModelError(
            f"{folder}: model_type {found!r}",
            expected=f"one of {', '.join(KIND_OF_TYPE)}",
            remedy="describe the model with kind: python (docs/adding.md, “A model in no table”)",
        )
    return KIND_OF_TYPE[found]


def named(name: str) -> ModelSpec:
    """The catalogue's entry, or for a path a checkpoint folder; ModelError with near matches otherwise.

    Examples
    --------
    >>> named("openclip-vit-b-32").kind
    'openclip'
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if Path(name).is_dir():
        return ModelSpec(kind=kind_of(Path(name)), weights="checkpoint", path=name)
    near = near_names(name)
    raise ModelError(
        f"unknown model {name!r}",
        expected=f"one of {', '.join(CATALOGUE)}, a checkpoint folder or file, or a hub id (organisation/name)",
        remedy=f"did you mean {near}?" if near else "run `attention-collapse models` for the list",
    )


def near_names(name: str, others: Iterable[str] = ()) -> str:
    """The catalogue's names, its hub ids and other names that resemble one, most alike first, as a message lists them.

    A hub id resembles by its name alone too, for people leave the organisation out.

    Examples
    --------
    >>> near_names("openclip-vit-b-23").split(" or ")[0]
    "'openclip-vit-b-32'"
    """
    known = {*CATALOGUE, *others, *(spec.repo for spec in CATALOGUE.values() if spec.repo)}
    short = {one.rpartition("/")[2].lower(): one for one in known} | {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), short, n=3, cutoff=0.75)
    return " or ".join(dict.fromkeys(repr(short[one]) for one in near))
