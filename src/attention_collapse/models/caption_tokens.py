"""What a model's tokenizer makes of captions: their tokens, and which of them it does not know.

A token is unknown if it is the tokenizer's unknown token, if it stands for one byte of a letter that the vocabulary has
no piece for, or if it is part of a word that is spelled out: a word of several pieces, more than half of them single
letters (of an alphabet with capitals; single bytes, where the vocabulary is one of bytes). Tokenizers of bytes have no
unknown token, and fall back to spelling: their share of spelled-out words is the same thing by another name. CLIP's own
vocabulary spells out none of COCO's words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from attention_collapse.models.interface import Described, special_ids

BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # SentencePiece's fallback
STARTS, ENDS, INSIDE = ("▁", "Ġ"), "</w>", "##"  # marks of where a word starts, ends, and goes on


@dataclass(frozen=True)
class CaptionTokens:
    """Tokens of one caption, without those that a tokenizer puts before and after it.

    Attributes
    ----------
    ids
        All of them, also beyond the model's context.
    unknown
        How many of them the tokenizer does not know.
    unknown_words
        The words that these are of, as the caption has them once it is cleaned.
    control
        How many are control tokens, which stand in no caption of plain words.
    """

    ids: tuple[int, ...]
    unknown: int
    unknown_words: tuple[str, ...]
    control: int


def has_content(caption: str, control: Sequence[str] = ()) -> bool:
    """Whether a caption says anything: a letter, a number or a picture sign, beside control tokens."""
    for token in control:
        caption = caption.replace(token, " ")
    return any(unicodedata.category(sign)[0] in "LN" or unicodedata.category(sign) == "So" for sign in caption)


def control_tokens(model: Described) -> list[str]:
    """A tokenizer's control tokens as they are written, the longest first; none where the tokens are not known."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        return []
    pieces = _pieces(tokenizer, special_ids(tokenizer).tolist())
    return sorted(pieces, key=len, reverse=True)


def caption_tokens(model: Described, captions: Sequence[str]) -> list[CaptionTokens] | None:
    """The tokens of each caption, as the model's tokenizer cleans and cuts it up; None where they are not known."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        return None
    clean = getattr(model, "cleaned", None)
    texts = [str(text) for text in (clean(captions) if clean else captions)]
    if hasattr(tokenizer, "all_special_tokens"):
        encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False)
        ids, places = encoded["input_ids"], encoded.get("offset_mapping", [None] * len(texts))
        words = [encoded.word_ids(row) if encoded.is_fast else None for row in range(len(texts))]
    else:  # open_clip's own
        ids, words, places = [tokenizer.encode(text) for text in texts], [None] * len(texts), [None] * len(texts)
    control = set(special_ids(tokenizer).tolist())
    unknown = getattr(tokenizer, "unk_token_id", None)
    bytes_ = _is_of_bytes(tokenizer)
    found = []
    for row, own, text, place in zip(ids, words, texts, places, strict=True):
        not_known, names, end = 0, list[str](), 0
        for word in _words(_pieces(tokenizer, row), own):
            start, end = end, end + len(word)
            tokens = row[start:end]
            flags = [
                token == unknown or flag or bool(BYTE.fullmatch(piece))
                for token, piece, flag in zip(tokens, word, _is_spelled_out(word, bytes_=bytes_), strict=True)
            ]
            not_known += sum(flags)
            if any(flags):
                name = tokenizer.decode(tokens) if place is None else text[place[start][0] : place[end - 1][1]]
                names.append(name.strip())
        found.append(CaptionTokens(tuple(row), not_known, tuple(names), sum(token in control for token in row)))
    return found


def _pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        return [str(piece) for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    return [tokenizer.decoder[token] for token in ids]


def _is_of_bytes(tokenizer: Any) -> bool:
    """Whether every byte is a token, written as GPT-2 and CLIP write it."""
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else tokenizer.encoder
    return {"Ā", "Ġ", "ł"} <= set(vocabulary)


def _words(pieces: Sequence[str], numbers: Sequence[int | None] | None) -> Iterator[list[str]]:
    """The pieces of each word: a new word begins where the tokenizer numbers another one, or at a mark."""
    word: list[str] = []
    for place, piece in enumerate(pieces):
        other = numbers is not None and place > 0 and numbers[place] != numbers[place - 1]
        if word and (other or piece.startswith(STARTS) or word[-1].endswith(ENDS)):
            yield word
            word = []
        word.append(piece)
    if word:
        yield word


def _is_spelled_out(word: Sequence[str], *, bytes_: bool) -> list[bool]:
    """A flag per piece of one word, all the same."""
    letters = [_letter(piece) for piece in word]
    pieces = sum(bool(letter) for letter in letters)  # a mark alone is no piece
    single = sum(len(letter) == 1 and (bytes_ or letter.lower() != letter.upper()) for letter in letters)
    return [pieces > 1 and 2 * single > pieces] * len(word)


def _letter(piece: str) -> str:
    for mark in STARTS:
        piece = piece.removeprefix(mark)
    return piece.removesuffix(ENDS).removeprefix(INSIDE)
