"""Where the queries of one image–caption pair look, layer by layer and head by head; weights of chosen rows alone.

Attention is not contribution: a bright patch was read from, which does not say that the score depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from attention_collapse.families import NO_ATTENTION
from attention_collapse.models.interface import Batch, DualEncoder, Model, Read, special_ids
from attention_collapse.models.pictures import patch_keys
from attention_collapse.probe import GROUPS, IMAGE, TEXT, AttentionProbe, SiteStats
from attention_collapse.probe.rows import needed_rows

Floats = NDArray[np.float32]
MOST_WORDS = 24  # word queries that are kept of a caption, the first ones


@dataclass(frozen=True)
class Looked:
    """Attention of one pair's words, and of its readout, in the layers that are read for one or both modalities.

    Attributes
    ----------
    towers
        What these layers are read for: "vision", "text" or both.
    words
        The queries that are words, as text; none where the image alone is seen.
    weights
        (layer, head, word + 1, key) shares, 0 to 1: the words, then the readout (the mean over its queries). Keys: the
        patches row by row, then those of `others`.
    support
        (word + 1,) keys that each query sees.
    side
        Patches a side of the picture, 0 where they cannot be placed.
    others
        (text, group) of each key that is no patch; keys that nobody sees are left out. Image tokens that cannot be
        placed are one key together.
    image_tokens
        Number of keys that hold the image.
    why
        Why the patches cannot be placed, "" where they can or where there are none.
    n_words
        Words of the caption; more than `words` holds where some were left out.
    """

    towers: tuple[str, ...]
    words: tuple[str, ...]
    weights: Floats
    support: NDArray[np.float64]
    side: int
    others: tuple[tuple[str, str], ...]
    image_tokens: int
    why: str
    n_words: int


def pair_attention(model: Model, picture: Image.Image, caption: str) -> list[Looked]:
    """Every group of layers that is read for a modality; none for a model without attention."""
    if model.family == NO_ATTENTION:
        return []
    if isinstance(model, DualEncoder):
        passes: list[tuple[Batch, Callable[[Batch], Any]]] = [
            (model.images([picture]), model.embed), (model.texts([caption]), model.embed),
        ]  # fmt: skip
    else:
        passes = [(model.pairs([picture], [caption]), model.score)]
    return [
        looked
        for index, (batch, forward) in enumerate(passes)
        for looked in _looked(model, batch, forward, words=not (isinstance(model, DualEncoder) and index == 0))
    ]


def _looked(model: Model, batch: Batch, forward: Callable[[Batch], Any], *, words: bool) -> list[Looked]:
    """One pass, and what its reads come to; reads of the same layers are one."""
    if not batch.reads:
        return []  # a convolutional tower
    reads = {read.sites: read for read in reversed(batch.reads)}
    chosen = {sites: _Rows.of(read, words=words) for sites, read in reads.items()}
    rows_of = {site: rows for sites, rows in chosen.items() for site in sites}
    nothing = torch.empty(0, dtype=torch.long)
    kept: dict[str, Floats] = {}
    support: dict[str, NDArray[np.float64]] = {}

    def keep(stats: SiteStats) -> None:
        rows = rows_of[stats.site]
        pattern = cast("Tensor", stats.weights)[0].float().cpu().nan_to_num()  # (head, row, key)
        kept[stats.site] = torch.cat([pattern[:, rows.words], (pattern * rows.readout).sum(1, keepdim=True)], 1).numpy()
        seen = stats.support.double().expand(1, pattern.shape[0], -1)[0, 0].cpu()  # (row,)
        support[stats.site] = torch.cat([seen[rows.words], (seen * rows.readout[:, 0]).sum()[None]]).numpy()

    probe = AttentionProbe(
        model.module, on_stats=keep, weights=True,
        rows=lambda site, *_: rows_of[site].wanted if site in rows_of else nothing,
    )  # fmt: skip
    with probe, torch.inference_mode():
        forward(batch)
    found = []
    for sites, read in reads.items():
        there = [site for site in sites if kept[site].shape[2] == kept[sites[-1]].shape[2]]  # of the same keys
        towers = tuple(dict.fromkeys(other.tower for other in batch.reads if other.sites == sites))
        weights = np.stack([kept[site] for site in there])
        named = _Named.of(model, batch, read)
        found.append(_placed(named, chosen[sites], towers=towers, weights=weights, support=support[there[-1]]))
    return found[::-1]


@dataclass(frozen=True)
class _Rows:
    """Which queries are reduced.

    Attributes
    ----------
    wanted
        (row,) positions of queries.
    words
        (word,) places among `wanted`.
    positions
        (word,) positions of queries.
    readout
        (row, 1) weights that add to 1.
    n_words
        Words before any were left out.
    """

    wanted: Tensor
    words: Tensor
    positions: Tensor
    readout: Tensor
    n_words: int

    @classmethod
    def of(cls, read: Read, *, words: bool) -> _Rows:
        """Of a read; without `words` its readout alone."""
        every = read.rows["all"][0].nonzero()[:, 0].cpu() if words else torch.empty(0, dtype=torch.long)
        positions, weights = every[:MOST_WORDS], read.rows["readout"].cpu()
        wanted = torch.cat([positions, needed_rows({"readout": weights}).cpu()]).unique()
        readout = weights[0, wanted].float()[:, None]
        return cls(wanted, torch.searchsorted(wanted, positions), positions, readout, len(every))


@dataclass(frozen=True)
class _Named:
    """The keys of a group of layers.

    Attributes
    ----------
    group
        (key,) numbers of `GROUPS`.
    patches
        (patch,) key positions, row by row; none where they cannot be placed.
    why
        Why they cannot.
    query, key
        A position among queries, or keys -> its token as text, None where it is no token of the text or is not known.
    """

    group: Tensor
    patches: NDArray[np.int64]
    why: str
    query: Callable[[int], str | None]
    key: Callable[[int], str | None]

    @classmethod
    def of(cls, model: Model, batch: Batch, read: Read) -> _Named:
        """Of the sites that are read; labels and tokens are the batch's."""
        group = batch.groups[read.sites[-1]][0].cpu()
        placed = patch_keys(model.picture, batch, read) if bool((group == IMAGE).any()) else ""
        why, patches = (placed, np.empty(0, np.int64)) if isinstance(placed, str) else ("", placed[1][0].cpu().numpy())
        name = _names(model, batch, read, group)
        alone = not bool((group == TEXT).any())  # the keys are the image's, whatever the queries are
        return cls(group, patches, why, name, (lambda _: None) if alone else name)


def _placed(
    keys: _Named, rows: _Rows, *, towers: tuple[str, ...], weights: Floats, support: NDArray[np.float64]
) -> Looked:
    """The keys put in order: patches first, then those that somebody sees."""
    image = (keys.group[: weights.shape[-1]] == IMAGE).nonzero()[:, 0].numpy()
    patches = keys.patches
    rest = [key for key in range(weights.shape[-1]) if key not in set(image) and weights[..., key].max() > 0]
    first = patches[0] if len(patches) else 0  # special tokens stand before the patches
    others = [
        (keys.key(key) or ("class token" if key < first else "another token"), GROUPS[int(keys.group[key])])
        for key in rest
    ]
    parts = [weights[..., patches], weights[..., rest]]
    if len(image) and not len(patches):
        parts.append(weights[..., image].sum(-1, keepdims=True))
        others.append((f"the image ({len(image)} tokens)", GROUPS[IMAGE]))
    return Looked(
        towers=towers, words=tuple(keys.query(int(p)) or f"query {int(p) + 1}" for p in rows.positions),
        weights=np.concatenate(parts, -1), support=support, side=round(len(patches) ** 0.5), others=tuple(others),
        image_tokens=len(image), why=keys.why, n_words=rows.n_words,
    )  # fmt: skip


def _names(model: Model, batch: Batch, read: Read, group: Tensor) -> Callable[[int], str | None]:
    ids = batch.inputs.get(model.ids) if isinstance(model.ids, str) and isinstance(batch.inputs, dict) else None
    if ids is None or model.tokenizer is None:
        return lambda _: None
    own, queries = ids[0].cpu(), read.rows["all"].shape[1]
    offset = 0
    if queries != len(own) and not bool((group == TEXT).any()):
        return lambda _: None  # the queries are no tokens of the text
    if queries != len(own) and queries == len(group):  # image tokens stand before those of the text
        words = ~torch.isin(own, special_ids(model.tokenizer))
        offset = int((group == TEXT).int().argmax()) - int(words.int().argmax())

    def name(position: int) -> str | None:
        place = position - offset
        return token_text(model.tokenizer, int(own[place])) if 0 <= place < len(own) else None

    return name


def token_text(tokenizer: Any, token: int) -> str:
    """One token as people read it; a space alone is shown as an open box."""
    return str(tokenizer.decode([token])).strip() or "␣"


def picture_seen(model: Model, batch: Batch) -> Image.Image | None:
    """The picture as the model received it: its crop and shape, in colours stretched from the least to the greatest.

    None where the model's inputs hold no such picture.
    """
    pixels = batch.inputs.get(model.picture) if isinstance(model.picture, str) else None
    if pixels is None:
        return None
    values = pixels[0].float().cpu().numpy().transpose(1, 2, 0)  # (height, width, 3)
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(((values - low) / max(high - low, 1e-6) * 255).round().astype(np.uint8))


def same_shape(own: Sequence[Looked], twin: Sequence[Looked]) -> bool:
    """Whether two models of one architecture looked at the same keys with the same queries."""
    return len(own) == len(twin) and all(a.weights.shape == b.weights.shape for a, b in zip(own, twin, strict=True))
