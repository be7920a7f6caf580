"""What a model can read of the captions, counted before anything is measured; and a refusal where it is too little."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attention_collapse.data.entries import normal
from attention_collapse.engine.seeing import require_told_apart
from attention_collapse.errors import DataError
from attention_collapse.models.caption_tokens import caption_tokens, control_tokens, has_content
from attention_collapse.models.interface import Model

if TYPE_CHECKING:
    from datasets import Dataset

WORDS_NAMED = 3
MAX_UNKNOWN = 0.5  # share of unknown tokens above which a model is refused, unless told otherwise


@dataclass(frozen=True)
class CaptionsRead:
    """What a model's tokenizer makes of the captions of a data set.

    Attributes
    ----------
    n
        Captions.
    n_different
        How many of them differ: in their tokens, or, where those are not known, in more than case and spaces.
    n_without_content
        Captions without a letter, a number or a picture sign, or without any token.
    n_with_control_tokens
        Captions that hold a control token of the model, such as its end token. None where they are not known.
    n_tokens, n_unknown
        Tokens of all captions, start and end left out, and those that the tokenizer does not know
        (`models.caption_tokens`). None where they are not known: the user's own code reads the captions.
    unknown_words
        The words of the latter, the first few of them.
    """

    n: int
    n_different: int
    n_without_content: int
    n_with_control_tokens: int | None
    n_tokens: int | None
    n_unknown: int | None
    unknown_words: tuple[str, ...] = ()

    @property
    def unknown_share(self) -> float | None:
        """Share of unknown tokens, 0 to 1; None where there are no tokens to know."""
        return self.n_unknown / self.n_tokens if self.n_tokens and self.n_unknown is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self) | {"unknown_share": self.unknown_share}


def read_captions(model: Model, pairs: Dataset, *, max_unknown: float = MAX_UNKNOWN) -> CaptionsRead:
    """Count what a model's tokenizer makes of every caption.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    max_unknown
        Share of unknown tokens, 0 to 1, above which the model is refused.

    Raises
    ------
    DataError
        If more of the tokens are unknown: what would be measured is not what the captions say.
    """
    captions = [caption for some in pairs["captions"] for caption in some]
    tokens, control = caption_tokens(model, captions), control_tokens(model)
    empty = [not has_content(caption, control) for caption in captions]
    if tokens is None:
        different = len({normal(caption) for caption in captions})
        return CaptionsRead(len(captions), different, sum(empty), None, None, None)
    found = CaptionsRead(
        n=len(captions),
        n_different=len({item.ids for item in tokens}),
        n_without_content=sum(blank or not item.ids for blank, item in zip(empty, tokens, strict=True)),
        n_with_control_tokens=sum(item.control > 0 for item in tokens),
        n_tokens=sum(len(item.ids) for item in tokens),
        n_unknown=sum(item.unknown for item in tokens),
        unknown_words=tuple(dict.fromkeys(word for item in tokens for word in item.unknown_words))[:WORDS_NAMED],
    )
    share = found.unknown_share
    if share is not None and share > max_unknown:
        raise DataError(
            f"{model.name}: {share:.1%} of the tokens of {len(captions)} captions are unknown to the model, or "
            f"spelled out letter by letter, such as those of {', '.join(map(repr, found.unknown_words))}",
            expected=f"at most {max_unknown:.0%}: words (and a language) that the model was trained on",
            remedy="use captions in its words, or a model that knows these; to measure all the same, say so: "
            "max_unknown (--max-unknown; a study's model: max_unknown) from 0 to 1",
        )
    return found


def examine_captions(model: Model, pairs: Dataset, *, max_unknown: float | None = None) -> dict[str, Any]:
    """`read_captions` and `seeing.require_told_apart`: what a result says of its captions, or an error.

    `max_unknown`: None is `MAX_UNKNOWN`.

    `ignored` lists what the score of a pair did not depend on, of the few that were tried.
    """
    limit = MAX_UNKNOWN if max_unknown is None else max_unknown
    found = read_captions(model, pairs, max_unknown=limit)
    return found.to_dict() | {"max_unknown": limit, "ignored": require_told_apart(model, pairs)}
