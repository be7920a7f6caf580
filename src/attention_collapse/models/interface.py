"""What the pipeline needs of a model, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.models.boundary import guard


@dataclass(frozen=True)
class Read:
    """Which attention stands for one modality.

    Attributes
    ----------
    tower
        "vision" or "text": whose entropy it is.
    sites
        Attention modules by name, shallow to deep.
    rows
        "all" and "readout" -> (batch, query) weights that add to 1 over the queries to average over. Padding never
        counts; "readout" is the query whose output feeds the score (where all do, as in mean pooling: all).
    lengths
        (batch,) number of tokens of this modality, its special tokens included.
    group
        Take the entropy within this group of keys; None takes it over all keys.

    Examples
    --------
    >>> Read("text", ("layer.0",), {"all": even_weights(torch.tensor([[True, True]]))}, torch.tensor([2])).rows["all"]
    tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """

    tower: str
    sites: tuple[str, ...]
    rows: Mapping[str, Tensor]
    lengths: Tensor
    group: int | None = None


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass, and what to read from it.

    Attributes
    ----------
    inputs
        What the model's own forward takes.
    reads
        What its attention stands for.
    groups
        site -> (batch or 1, key) group numbers.
    truncated
        One flag per item: a caption was longer than the model's context and was cut.

    Examples
    --------
    >>> Batch({"pixels": torch.zeros(1, 3, 8, 8)}, reads=(), groups={}, truncated=(False,)).inputs["pixels"].shape
    torch.Size([1, 3, 8, 8])
    """

    inputs: Any
    reads: tuple[Read, ...]
    groups: Mapping[str, Tensor]
    truncated: tuple[bool, ...]


@dataclass(frozen=True)
class Embedded:
    """What a dual encoder makes of images or captions.

    Attributes
    ----------
    embedding
        (batch, width) L2-normalised.
    patches
        (batch, patch, width) L2-normalised patches of images in the shared space, where the model projects them there.

    Examples
    --------
    >>> Embedded(unit_length(torch.tensor([[3.0, 4.0]]))).embedding
    tensor([[0.6000, 0.8000]])
    """

    embedding: Tensor
    patches: Tensor | None = None


@dataclass(frozen=True)
class Without:
    """Stands for what a kind does not have, and says why.

    Examples
    --------
    >>> Without("a scoring function shows no inputs").why
    'a scoring function shows no inputs'
    """

    why: str


class Described(Protocol):
    """What every model says of itself. `KindOfModel` explains the names of its inputs."""

    name: str
    family: str  # one of `families.FAMILIES`
    module: Any  # a torch.nn.Module, or None: a scoring function without weights
    provenance: dict[str, Any]  # weights, their hash and revision, number of parameters, untrained or not
    sites: Mapping[str, tuple[str, ...]]  # tower -> attention modules
    missing: Mapping[str, str]  # see `families.undefined_measures`
    ids: str | Without
    caption: str | Without
    pixels: str | Without
    picture: str | Without

    @property
    def mm_shap(self) -> str | Without:
        """Whose script of MM-SHAP's code its tokens are played by; see `models.mm_shap`."""

    @property
    def tokenizer(self) -> Any:
        """A tokenizer in the manner of transformers; None where the tokens are not known."""


@runtime_checkable
class DualEncoder(Described, Protocol):
    """Encodes images and captions apart: its score is logit_scale · cosine + logit_bias."""

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine."""

    @property
    def logit_bias(self) -> float:
        """Term beside the scaled cosine."""

    def images(self, pictures: Sequence[Image.Image]) -> Batch:
        """Inputs of images."""

    def texts(self, captions: Sequence[str]) -> Batch:
        """Inputs of captions."""

    def embed(self, batch: Batch) -> Embedded:
        """One forward pass of images or of captions."""


@runtime_checkable
class PairScorer(Described, Protocol):
    """Scores each image with its caption."""

    image_encoder: str | Without
    image_inputs: tuple[str, ...] | Without
    is_likelihood: bool  # see `KindOfModel`

    @property
    def token_embedding(self) -> Any:
        """The module that reads the caption's ids where the score is their likelihood; None where it is not."""

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs, as many captions as pictures."""

    def score(self, batch: Batch) -> Tensor:
        """(batch,) its own matching score: an ITM logit, or the caption's mean log-likelihood in nats per token."""


@runtime_checkable
class Truncating(Protocol):
    """A model that says of captions alone whether it cuts them; others say it of a batch."""

    def truncated(self, captions: Sequence[str]) -> tuple[bool, ...]:
        """A flag per caption: it is longer than the model's context."""


Model: TypeAlias = DualEncoder | PairScorer


def is_likelihood(model: Model) -> bool:
    """Whether a model's score is the caption's mean log-likelihood; a dual encoder's is a cosine."""
    return isinstance(model, PairScorer) and model.is_likelihood


class KindOfModel:
    """Base of the classes of all kinds. Each says in its own body what would be slow or wrong if it were forgotten.

    Attributes
    ----------
    ids
        The input that holds the caption's token ids, (batch, token).
    mask
        The input that marks which tokens are no padding, (batch, token); where it is needed.
    caption
        The input that marks which tokens are the caption's, (batch, token); control tokens may be among them. Without
        one they are those that the batch's groups label as text.
    pixels
        The input that holds one picture per item, (batch, channel, height, width).
    picture
        The same, where its patches are the image's keys, row by row from the top left.
    image_encoder
        The submodule that takes and gives one row per image.
    image_inputs
        The inputs that are made of the image alone, all others being made of the caption alone, one row per pair each.
    is_likelihood
        For a kind that scores pairs: whether its score is the caption's mean log-likelihood, which carries the
        caption's own probability. Kinds may share the answer of their common class.
    users_code
        Whether a user's own code prepares and scores its pairs: it may refuse a picture for what it shows. A library's
        processor refuses a picture for its size alone.

    Examples
    --------
    >>> class Mine(KindOfModel):
    ...     pixels = picture = "pixels"
    ...     image_encoder, image_inputs = Without("not separate"), ("pixels",)
    >>> Mine.users_code
    False
    """

    users_code: ClassVar[bool] = False

    own: ClassVar[tuple[str, ...]] = ("pixels", "picture", "image_encoder", "image_inputs")

    @property
    def mm_shap(self) -> str | Without:
        """Whose script of MM-SHAP's code its tokens are played by (`models.mm_shap`), or why by none."""
        return Without("its score is neither a similarity of two towers nor that of a matching head of two classes")

    def __init_subclass__(cls, *, base: bool = False, **options: Any) -> None:
        """`base` marks a class that kinds share: it need not say what each of them must.

        What a library or a user's function raises while a batch is prepared or run becomes a ModelError (`boundary`).
        """
        super().__init_subclass__(**options)
        forgotten = [name for name in cls.own if name not in vars(cls)]
        if hasattr(cls, "pairs") and not hasattr(cls, "is_likelihood"):
            forgotten.append("is_likelihood")
        if not base and forgotten:
            raise ModelError(
                f"class {cls.__name__} of {cls.__module__} does not say {', '.join(forgotten)}",
                expected=f"{', '.join(cls.own)} in the class of every kind, and is_likelihood of one that scores pairs",
                remedy="name the input or submodule, or say Without(reason): see interface.KindOfModel",
            )
        guard(cls)


@dataclass(frozen=True)
class Provenance:
    """Where a model's weights came from; written into every result.

    Examples
    --------
    >>> Provenance("factory mine:table", None, None, None, 7, untrained=False).parameters
    7
    """

    weights: str
    sha256: str | None  # of the weights file
    definition_sha256: str | None  # of configuration and tokenizer, where they lie beside the weights
    revision: str | None
    parameters: int
    untrained: bool
    notes: tuple[str, ...] = field(default=())
    image_processor: str | None = None  # its class: fast and slow ones of one model differ in their pixels


def named_class(found: object) -> str:
    """A class as provenance names it: its library and its name.

    Examples
    --------
    >>> named_class(torch.nn.Linear(1, 1))
    'torch.Linear'
    """
    return f"{type(found).__module__.split('.')[0]}.{type(found).__name__}"


def unit_length(vectors: Tensor) -> Tensor:
    """(batch, …, width) of length 1, in float32 whatever the dtype: in half precision the length itself is rounded.

    Examples
    --------
    >>> unit_length(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def even_weights(chosen: Tensor) -> Tensor:
    """(batch, query) booleans -> float64 weights that add to 1 over each item's chosen queries.

    Examples
    --------
    >>> even_weights(torch.tensor([[True, False, True], [False, False, False]])).tolist()
    [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]
    """
    return chosen.double() / chosen.sum(-1, keepdim=True).clamp_min(1)


def one_row(position: Tensor, queries: int) -> Tensor:
    """(batch,) query positions -> (batch, query) weights of 1 there.

    Examples
    --------
    >>> one_row(torch.tensor([2, 0]), queries=3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return torch.nn.functional.one_hot(position, queries).double()


def special_ids(tokenizer: Any) -> Tensor:
    """Ids of a tokenizer's control tokens. An unknown word is a word, though its token is called special.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> special_ids(SimpleNamespace(all_special_ids=[0, 1, 2], bos_token_id=0, eos_token_id=2, unk_token_id=1)).tolist()
    [0, 2]
    """
    ids, unknown = set(tokenizer.all_special_ids), getattr(tokenizer, "unk_token_id", None)
    roles = {getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "pad", "cls", "sep", "mask")}
    return torch.tensor(sorted(ids - ({unknown} - roles)))
