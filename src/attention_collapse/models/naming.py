"""What a person's word for a model means: a name, a folder, a weights file, a hub id, or an adapter on one of these.

The word says where to look, the files there say what kind of model it is. What is on the disk here comes before the
hub, and the result says which it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from attention_collapse.errors import ModelError
from attention_collapse.models.catalogue import CATALOGUE, kind_of, named, near_names
from attention_collapse.models.spec import ModelSpec
from attention_collapse.registry import kinds

if TYPE_CHECKING:
    from attention_collapse.models.interface import Model

OPEN_CLIP, TRANSFORMERS, ADAPTER = "open_clip_config.json", "config.json", "adapter_config.json"
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
ELSEWHERE = (".gguf", ".onnx", ".h5", ".msgpack", ".npz", ".engine", ".tflite", ".zip", ".gz", ".tar")
HUB = re.compile(
    r"(?P<how>hf-hub:|hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)?(?P<repo>\w[\w.-]*/\w[\w.-]*)"
    r"(?:/(?:tree|blob|resolve)/(?P<branch>[^/@]+)(?:/.*)?)?/?(?:@(?P<revision>.+))?"
)


@dataclass(frozen=True)
class Asked:
    """What a user says of a model beside its name; None where nothing is said.

    Attributes
    ----------
    kind
        A kind by name, where it is not to be read from the files.
    architecture
        The architecture of a weights file: a name of open_clip's, or a folder with the configuration.
    revision
        The revision of a hub repository: a commit, or a name that the hub resolves to one.
    adapter
        A PEFT folder, or a hub id, to be merged into the model.

    Examples
    --------
    >>> resolve("examples.scorer:score", Asked(kind="scorer")).spec.weights
    'factory'
    """

    kind: str | None = None
    architecture: str | None = None
    revision: str | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Named:
    """A model's name, its description, and what a reader of the result must know of how the name was understood."""

    name: str
    spec: ModelSpec
    notes: tuple[str, ...] = ()

    def load(self, device: str) -> Model:
        """The model with exactly the weights that are asked for."""
        from attention_collapse.models import load

        model = load(self.name, self.spec, device)
        if self.notes:
            model.provenance["notes"] = (*model.provenance["notes"], *self.notes)
        return model


def resolve(word: str, asked: Asked | None = None) -> Named:
    """The model that a word names; ModelError with near names where it names none.

    In this order: a name of the catalogue, a folder, a file, a hub id. `hf-hub:organisation/name` and a page's address
    are the hub's whatever lies here, and so is a name with a revision. A folder with an adapter is the model that the
    adapter names, with the adapter.

    Examples
    --------
    >>> found = resolve("openclip-vit-b-32")
    >>> found.name, found.spec.kind, found.spec.architecture
    ('openclip-vit-b-32', 'openclip', 'ViT-B-32')
    """
    asked = asked or Asked()
    if not word.strip():
        raise ModelError(
            "no model was named: the name is empty",
            expected="a name of `attention-collapse models`, a folder, a weights file or a hub id",
            remedy="name the model",
        )
    given = asked.kind and kinds().get(asked.kind)
    if given and given.library == "user":
        return Named(word, _spec(word, kind=given.name, weights="factory", factory=word))
    hub = HUB.fullmatch(word)
    of_hub = hub is not None and (hub["how"] or hub["revision"] or asked.revision)
    if word in CATALOGUE:
        found = _of_catalogue(word, asked)
    elif hub is not None and (of_hub or not Path(word).exists()) and not word.endswith(WEIGHTS):
        found = _of_hub(word, hub, asked)
    elif asked.revision and Path(word).exists():
        raise _revision_of_files(word)
    elif Path(word).is_dir():
        found = _of_folder(Path(word), word, asked)
    else:
        found = _of_file(Path(word), word, asked)
    return _with_adapter(found, asked.adapter) if asked.adapter else found


def _revision_of_files(word: str, besides: str = "") -> ModelError:
    return ModelError(
        f"{word}: a revision was given, which does not go with a folder or a file, and this is one here{besides}",
        expected="a revision with a hub id alone: files here are as they are",
        remedy="leave the revision out to measure what lies here; for the hub's repository, correct its id or revision",
    )


def _spec(word: str, **fields: Any) -> ModelSpec:
    """The description, with what does not go together said as an error of the model's."""
    try:
        return ModelSpec(**{key: value for key, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{word}: {what and f'{what}: '}{first['msg'].removeprefix('Value error, ')}",
            expected="arguments that go with a model of this kind and these weights",
            remedy="correct the arguments; docs/your_model.md shows what goes with what",
        ) from None


def _of_catalogue(word: str, asked: Asked) -> Named:
    spec = CATALOGUE[word]
    if asked.kind not in (None, spec.kind) or asked.architecture:
        raise ModelError(
            f"{word}: {'--kind' if asked.kind else '--architecture'} with a name of the list (of kind {spec.kind})",
            expected="that option with a folder, a file or a hub id alone",
            remedy=f"leave it out, or write ./{word} for a folder here",
        )
    if asked.revision:
        spec = _spec(word, **spec.model_dump() | {"revision": asked.revision})
    shadowed = (f"the model of this name in the list was measured, not ./{word} here",) if Path(word).exists() else ()
    return Named(word, spec, shadowed)


def _of_hub(word: str, hub: re.Match[str], asked: Asked) -> Named:
    """A hub repository, its kind and its exact revision read from its configuration."""
    from attention_collapse.models.hub import hub_file, known_repositories, snapshot_revision

    said = {value for value in (hub["revision"], hub["branch"], asked.revision) if value}
    if len(said) > 1:
        raise ModelError(
            f"{word}: {len(said)} revisions, {', '.join(sorted(said))}", expected="one", remedy="name one of them"
        )
    repo, revision = hub["repo"], next(iter(said), None)
    wanted = [OPEN_CLIP] if hub["how"] == "hf-hub:" else [OPEN_CLIP, TRANSFORMERS, ADAPTER]
    try:
        file = hub_file(word, repo, wanted, revision)
    except ModelError as error:
        near = near_names(repo, known_repositories())
        if not hub["how"] and Path(repo).exists():
            raise _revision_of_files(repo, f"; of the hub, {error.got.removeprefix(f'{word}: ')}") from None
        here = f"; {word} is no folder or file here either" if not hub["how"] else ""
        raise ModelError(
            f"{error.got}{here}",
            expected=error.expected,
            remedy=f"did you mean {near}? If not, {error.remedy}" if near and repr(repo) not in near else error.remedy,
        ) from None
    commit = snapshot_revision(file) or revision
    notes = (f"the hub's {repo} was measured, not the folder of that name here",) if Path(repo).exists() else ()
    if file.name == ADAPTER:
        return _adapted(f"{repo}@{commit}", file.parent, word, asked)
    kind = asked.kind or kind_of(file.parent)
    return Named(word, _spec(word, kind=kind, weights="hub", repo=repo, revision=commit,
        architecture=asked.architecture), notes)  # fmt: skip


def _of_folder(folder: Path, word: str, asked: Asked) -> Named:
    from attention_collapse.models.trainers import require_weights_of_one

    described = [name for name in (OPEN_CLIP, TRANSFORMERS) if (folder / name).is_file()]
    if (folder / ADAPTER).is_file() and not described:
        return _adapted(word, folder, word, asked)
    require_weights_of_one(folder)
    kind = asked.kind or kind_of(folder)
    return Named(word, _spec(word, kind=kind, weights="checkpoint", path=word, architecture=asked.architecture))


def _of_file(path: Path, word: str, asked: Asked) -> Named:
    if not path.is_file():
        if path.suffix in WEIGHTS or len(path.parts) > 2 or word.startswith((".", "~", "/")):
            raise ModelError(f"{word}: no such file or folder", expected="a checkpoint", remedy="check the path")
        named(word)  # raises, with near names
    if path.suffix in ELSEWHERE or path.suffix not in WEIGHTS:
        raise ModelError(
            f"{word}: a {path.suffix or 'suffixless'} file holds no model that is read here",
            expected=f"a folder, or a weights file ({', '.join(WEIGHTS)}) with its architecture",
            remedy="convert it to safetensors; a model behind a runtime of its own goes with --kind scorer",
        )
    if asked.architecture:
        kind = asked.kind or "openclip"
        return Named(word, _spec(word, kind=kind, weights="checkpoint", path=word, architecture=asked.architecture))
    if any((path.parent / name).is_file() for name in (OPEN_CLIP, TRANSFORMERS, ADAPTER)):
        raise ModelError(
            f"{word}: this is one file of a checkpoint folder",
            expected="the folder, whose other files say what the model is",
            remedy=f"use {path.parent}",
        )
    from attention_collapse.models.architectures import without_architecture

    raise without_architecture(path)


def _adapted(adapter: str, folder: Path, word: str, asked: Asked) -> Named:
    """The model that an adapter's configuration names, with the adapter."""
    from attention_collapse.models.adapter import base_of

    if asked.adapter or asked.architecture:
        raise ModelError(
            f"{word}: this is an adapter, given with {'another adapter' if asked.adapter else 'an architecture'}",
            expected="a model with one adapter",
            remedy="name the base with --model and the adapter with --adapter",
        )
    base, revision = base_of(folder)
    try:
        found = resolve(base, Asked(kind=asked.kind, revision=revision))
    except ModelError as error:
        raise ModelError(
            f"{word}: an adapter of {base!r}, as its {ADAPTER} says; {error.got}",
            expected=error.expected,
            remedy=f"name the base yourself: --model BASE --adapter {adapter}; or: {error.remedy}",
        ) from None
    return _with_adapter(Named(word, found.spec, found.notes), adapter)


def _with_adapter(found: Named, adapter: str) -> Named:
    fields = found.spec.model_dump() | {"adapter": adapter}
    return Named(found.name, _spec(found.name, **fields), found.notes)
