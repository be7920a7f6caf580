"""Whether a tokenizer is the one that its model was trained with, as far as files, sizes and special tokens tell.

The transformers library reads a folder without tokenizer files as a tokenizer that it invents, of a few words, and
nothing after that looks wrong: ids are ids. What cannot be told here is a tokenizer of the same size and the same
special tokens that has other words at the same ids.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attention_collapse.errors import ModelError
from attention_collapse.models.interface import special_ids

FILES = (  # each a whole vocabulary
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("*.model",),
    ("*.tiktoken",),
    ("tekken.json",),
)
KNOWN = 0.75  # of the embedding's rows that a tokenizer must know, where the rest is no padding
MULTIPLES = (64, 128, 256)  # that embeddings are padded to
ROLES = ("bos", "eos", "pad", "cls", "sep", "mask")
TABLES = ("token_embedding", "word_embeddings", "embed_tokens")  # what the libraries call a text's embedding


def require_tokenizer_files(name: str, folder: Path) -> None:
    """ModelError for a folder that holds no vocabulary: the library would invent one."""
    if any(all(_holds(folder, pattern) for pattern in together) for together in FILES):
        return
    raise ModelError(
        f"{name}: no tokenizer files in {folder}",
        expected="tokenizer.json, or the vocabulary that the model was trained with (vocab.txt, vocab.json with "
        "merges.txt, or a SentencePiece .model file)",
        remedy="copy the tokenizer's files from the base model: without them the library invents a tokenizer of a "
        "few words",
    )


def _holds(folder: Path, pattern: str) -> bool:
    return any(found.is_file() and found.stat().st_size for found in folder.glob(pattern))


def embedding_rows(module: nn.Module) -> int | None:
    """Rows of the table that reads a caption's ids, and of one beside it for added tokens; None: not found."""
    for path, part in module.named_modules():
        if path.rpartition(".")[2] in TABLES and isinstance(part, nn.Embedding):
            added = getattr(part, "additional_embedding", None)
            return len(part.weight) + (len(added.weight) if isinstance(added, nn.Embedding) else 0)
    return None


def known_ids(tokenizer: Any) -> set[int]:
    """Every id that a tokenizer can give, whether of transformers or open_clip's own."""
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else tokenizer.encoder
    return set(vocabulary.values())


def require_vocabulary(name: str, where: object, tokenizer: Any, rows: int, unread: Collection[int] = ()) -> None:
    """ModelError if a tokenizer's size does not fit the embedding's.

    Embeddings have more rows than a tokenizer has tokens where they are padded to a multiple of 64, 128 or 256, and
    where rows were kept for tokens to come. A tokenizer that knows less than three quarters of the rows, beyond such
    padding, is another model's.

    Parameters
    ----------
    rows
        The number of rows of the embedding.
    unread
        Ids that the model replaces before it looks them up.
    """
    ids = known_ids(tokenizer) - set(unread)
    largest, known = max(ids, default=-1), len(ids)
    if largest >= rows:
        raise ModelError(
            f"{name}: the tokenizer in {where} has ids up to {largest}, the embedding {rows} rows",
            expected=f"ids from 0 to {rows - 1}",
            remedy="use the tokenizer that the model was trained with; if tokens were added to it, the weights must be "
            "those after `resize_token_embeddings`",
        )
    padded = {-(-known // multiple) * multiple for multiple in MULTIPLES}
    if known < KNOWN * rows and rows not in padded:
        raise ModelError(
            f"{name}: the tokenizer in {where} has {known} tokens, the embedding {rows} rows",
            expected=f"a token for {KNOWN:.0%} of the rows or more, or rows that are the tokens padded to a multiple "
            f"of {', '.join(map(str, MULTIPLES))}",
            remedy="copy the tokenizer's files from the base model; this one is another model's",
        )


def require_special_ids(name: str, where: object, stated: Mapping[str, Any], tokenizer: Any) -> None:
    """ModelError if a configuration names other special tokens than the tokenizer has.

    Parameters
    ----------
    stated
        Role ("bos", "eos", "pad" …) -> the id that the configuration says; None, or several, say nothing.
    """
    own = {role: getattr(tokenizer, f"{role}_token_id", None) for role in ROLES}
    wrong = {
        role: found
        for role, found in stated.items()
        if isinstance(found, int) and own.get(role) is not None and own[role] != found
    }
    if wrong:
        raise ModelError(
            f"{name}: {where}: the configuration says "
            + ", ".join(f"{role}_token_id {found}" for role, found in wrong.items()),
            expected=", ".join(f"{role}_token_id {own[role]}" for role in wrong) + ", as the tokenizer has it",
            remedy="copy the tokenizer's files from the base model; this one is another model's. If it is the right "
            "one, correct the configuration",
        )


def require_start(name: str, tokenizer: Any) -> None:
    """ModelError if captions do not begin with a control token, where a text encoder reads out."""
    first, *_ = tokenizer("a")["input_ids"]
    if first not in special_ids(tokenizer).tolist():
        raise ModelError(
            f"{name}: captions begin with the token {tokenizer.convert_ids_to_tokens(first)!r} (id {first})",
            expected="the class token, where the model reads out",
            remedy="copy the tokenizer's files from the base model: this tokenizer does not add its special tokens",
        )


def end_token(tokenizer: Any) -> int | None:
    """Id of the token that ends a caption; None where the tokenizer has none."""
    names = ("eot_token_id", "eos_token_id", "sep_token_id")  # open_clip's own, and those of transformers
    return next((int(found) for name in names if (found := getattr(tokenizer, name, None)) is not None), None)


def require_end(name: str, ids: Tensor, place: Tensor, end: int | None, texts: Sequence[str]) -> None:
    """ModelError if a text tower that reads out at the end token would read out elsewhere.

    Parameters
    ----------
    ids, place
        (text, token) ids, and (text,) positions where the model reads out.
    end
        The tokenizer's end token.
    """
    found = ids.gather(1, place[:, None])[:, 0].tolist()
    for text, token in zip(texts, found, strict=True):
        if token != end:
            raise ModelError(
                f"{name}: the text tower reads the caption {text[:40]!r} out at the token {token}, and not at the "
                f"tokenizer's end token ({'there is none' if end is None else end})",
                expected="an end token in every caption, where the text tower looks for it: at eos_token_id (eos_id in "
                "open_clip); where that is 2 (pool_type argmax in open_clip), at the largest id",
                remedy="correct that id in the text's configuration, or copy configuration and tokenizer from the base "
                "model; a token that was added above the end token must not stand in a caption",
            )
