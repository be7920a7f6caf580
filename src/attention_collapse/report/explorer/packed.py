"""Attention packed so that a page stays small: one byte a weight, and heads averaged where there are too many.

A byte holds the logarithm of a weight over six decades: 0 is below 1e-6 or not visible, 255 is 1, and a step is 5.6 %,
so that a weight is within 2.8 % of its value, a small one as a large one. Linear bytes would show nothing beside a sink
that draws nearly everything.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_collapse.engine.pair_attention import Looked

DECADES, STEPS = 6, 254
BUDGET = 3_300_000  # bytes of weights on a page, before base64 adds a third


def quantised(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Shares, 0 to 1, as bytes."""
    with np.errstate(divide="ignore"):
        level = 1 + np.round(STEPS * (1 + np.log10(weights) / DECADES))
    return np.where(weights < 10.0**-DECADES, 0, np.clip(level, 1, STEPS + 1)).astype(np.uint8)


def restored(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Bytes as shares; the page's script does the same."""
    values = 10.0 ** (DECADES * ((levels.astype(float) - 1) / STEPS - 1))
    return np.where(levels == 0, 0.0, values)


@dataclass(frozen=True)
class Detail:
    """How much of a pair's attention is kept.

    Attributes
    ----------
    readout, words
        Whether every head is kept of the readout query, and of the words; else their mean.
    twin_readout, twin_words
        The same of the untrained twin; None: nothing is kept.
    words_kept
        How many words at most.
    """

    readout: bool
    words: bool
    twin_readout: bool
    twin_words: bool | None
    words_kept: int = 10**9

    @property
    def note(self) -> str:
        """What was left out, in a sentence; "" if nothing."""
        lost = []
        if not self.readout:
            lost.append("the readout is averaged over the heads of a layer")
        if not self.words:
            lost.append("words are averaged over the heads of a layer")
        if self.twin_words is None:
            lost.append("the untrained twin has its readout alone")
        elif self.readout and not self.twin_readout:
            lost.append("the untrained twin is averaged over heads")
        if self.words_kept < 10**9:
            lost.append(f"at most the first {self.words_kept} words are kept")
        return f"So that the page stays small, {'; '.join(lost)}." if lost else ""


DETAILS = (
    Detail(True, True, True, True),
    Detail(True, False, True, False),
    Detail(True, False, False, False),
    Detail(True, False, False, None),
    Detail(False, False, False, None),
    Detail(False, False, False, None, 4),
    Detail(False, False, False, None, 0),
)


def detail_for(pairs: Sequence[Sequence[Looked]], *, twin: bool, budget: int = BUDGET) -> Detail:
    """The most detail with which all pairs stay within the budget; the least there is, where none does."""
    return next((one for one in DETAILS if sum(_size(looks, one, twin=twin) for looks in pairs) <= budget), DETAILS[-1])


def _size(looks: Sequence[Looked], detail: Detail, *, twin: bool) -> int:
    total = 0
    for look in looks:
        layers, heads, rows, keys = look.weights.shape
        words = min(rows - 1, detail.words_kept)
        parts = [(1, detail.readout), (words, detail.words)]
        if twin:
            parts += [(1, detail.twin_readout), *([] if detail.twin_words is None else [(words, detail.twin_words)])]
        total += sum(layers * keys * count * (heads if every else 1) for count, every in parts)
    return total


def packed(look: Looked, twin: Looked | None, detail: Detail) -> dict[str, Any]:
    """One group of layers of one pair, as the script reads it.

    Each of readout, words, twin_readout and twin_words is {"heads": kept heads, 1 for their mean; "rows"; "bytes":
    base64 of (layer, head, row, key)}, or None.
    """
    layers, heads, rows, keys = look.weights.shape
    words = min(rows - 1, detail.words_kept)

    def part(source: Looked | None, some: slice, every: bool | None) -> dict[str, Any] | None:
        chosen = None if source is None or every is None else source.weights[:, :, some]
        if chosen is None or not chosen.shape[2]:
            return None
        chosen = chosen if every else chosen.mean(1, keepdims=True)
        data = b64encode(quantised(chosen).tobytes()).decode("ascii")
        return {"heads": chosen.shape[1], "rows": chosen.shape[2], "bytes": data}

    last, first = slice(rows - 1, rows), slice(0, words)
    return {
        "towers": list(look.towers), "layers": layers, "heads": heads, "keys": keys, "side": look.side,
        "image_tokens": look.image_tokens, "why": look.why, "words": list(look.words[:words]), "n_words": look.n_words,
        "others": [list(other) for other in look.others],
        "support": [round(float(n), 2) for n in [*look.support[:words], look.support[-1]]],
        "readout": part(look, last, detail.readout), "word_rows": part(look, first, detail.words),
        "twin_readout": part(twin, last, detail.twin_readout), "twin_words": part(twin, first, detail.twin_words),
    }  # fmt: skip
