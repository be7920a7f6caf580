"""What a reader must know of the captions that a model was measured on, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def caption_notes(captions: Mapping[str, Any], n_cut: int) -> list[str]:
    """Lines about unknown tokens, cut captions, and captions that say nothing.

    Parameters
    ----------
    captions
        What `engine.captions.examine_captions` found.
    n_cut
        Captions that were longer than the model's context.
    """
    n, control = captions["n"], captions["n_with_control_tokens"]
    lines = [_unknown(captions)]
    if n_cut:
        lines.append(f"{n_cut} of {n} captions were longer than the context and were cut")
    if captions["n_different"] == 1 < n:
        lines.append(f"NOTE: all {n} captions are the same to the model, so nothing here is about what they say")
    if captions["n_without_content"]:
        lines.append(
            f"NOTE: {captions['n_without_content']} of {n} captions hold no word: marks or control tokens only"
        )
    if control:
        lines.append(f"NOTE: {control} of {n} captions hold a control token of the model, such as its end token")
    for what in captions["ignored"]:
        lines.append(f"NOTE: the score was the same with every {what} that was tried: it may not depend on the {what}")
    return lines


def _unknown(captions: Mapping[str, Any]) -> str:
    share, n = captions["unknown_share"], captions["n_tokens"]
    if share is None:
        return "the share of unknown tokens is not known: " + ("no caption has a token" if n == 0 else "no tokenizer")
    said = "none" if not captions["n_unknown"] else "less than 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
    words = captions["unknown_words"]
    such = f", such as those of {', '.join(map(repr, words))}" if words else ""
    return f"{said} of the {n:,} caption tokens {'is' if said == 'none' else 'are'} unknown to the model{such}"
