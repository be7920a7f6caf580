"""The in-house fusion models, in plain PyTorch: V2 (cross-attention and a joint encoder) and V1 (additive)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

WIDTHS = {"image": 512, "text": 384, "metadata": 64}
WIDTH, HEADS, LAYERS, FEED_FORWARD = 256, 8, 4, 1024


@dataclass(frozen=True)
class Sizes:
    """Sizes of a fusion module; the defaults are the in-house models'. Features of an image and of a text token."""

    width: int = WIDTH
    heads: int = HEADS
    layers: int = LAYERS
    feed_forward: int = FEED_FORWARD
    image: int = WIDTHS["image"]
    text: int = WIDTHS["text"]
    answers: int = 0  # of an answer head

    @property
    def features(self) -> dict[str, int]:
        """Width of each group's features."""
        return {"image": self.image, "text": self.text, "metadata": WIDTHS["metadata"]}


IN_HOUSE = Sizes()


class FusionV2(nn.Module):
    """Three groups of features, each projected to 256; text queries cross-attend to the image; a joint encoder.

    8-head cross-attention, then 4 transformer encoder layers (width 256, 8 heads, feed-forward 1024) over image,
    text and metadata tokens; the mean of the text's tokens gives the score.
    """

    def __init__(self, sizes: Sizes = IN_HOUSE) -> None:
        super().__init__()
        width, heads = sizes.width, sizes.heads
        self.project = nn.ModuleDict({name: nn.Linear(size, width) for name, size in sizes.features.items()})
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(
            width, heads, sizes.feed_forward, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)
        self.score = nn.Linear(width, 1)

    def pooled(self, image: Tensor, text: Tensor, metadata: Tensor, words: Tensor) -> Tensor:
        """The mean of the text's tokens after the joint encoder.

        Parameters
        ----------
        image, text, metadata
            (batch, token, 512), (batch, token, 384), (batch, token, 64) features.
        words
            (batch, text token), False for padding.

        Returns
        -------
        Tensor
            (batch, 256)
        """
        image, text, metadata = (
            self.project[name](part) for name, part in zip(WIDTHS, (image, text, metadata), strict=True)
        )  # each (batch, token, 256)
        seen, _ = self.cross_attention(text, image, image, need_weights=False)
        joint = torch.cat([image, self.norm(text + seen), metadata], 1)
        padding = torch.cat([words.new_zeros(image.shape[:2]), ~words, words.new_zeros(metadata.shape[:2])], 1)
        joint = self.encoder(joint, src_key_padding_mask=padding)  # (batch, token, 256)
        own = joint[:, image.shape[1] : image.shape[1] + text.shape[1]] * words[..., None]
        mean: Tensor = own.sum(1) / words.sum(1, keepdim=True)
        return mean

    def forward(self, image: Tensor, text: Tensor, metadata: Tensor, words: Tensor) -> Tensor:
        """Matching score (batch,); arguments as of `pooled`."""
        score: Tensor = self.score(self.pooled(image, text, metadata, words))
        return score[:, 0]


class FusionV2Answers(FusionV2):
    """V2 with an answer head in the place of its matching head: one logit for each of `Sizes.answers` answers."""

    def __init__(self, sizes: Sizes = IN_HOUSE) -> None:
        super().__init__(sizes)
        self.score = nn.Linear(sizes.width, sizes.answers)

    def forward(self, image: Tensor, text: Tensor, metadata: Tensor, words: Tensor) -> Tensor:
        """Logits (batch, answer); arguments as of `pooled`."""
        logits: Tensor = self.score(self.pooled(image, text, metadata, words))
        return logits


class FusionV1(nn.Module):
    """A light additive scorer on the same features: the sum of one small network a group. It has no interaction."""

    def __init__(self, sizes: Sizes = IN_HOUSE) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(size, sizes.width), nn.GELU(), nn.Linear(sizes.width, 1))
                for name, size in sizes.features.items()
            }
        )

    def forward(self, image: Tensor, text: Tensor, metadata: Tensor, words: Tensor) -> Tensor:
        """Matching score (batch,) of the groups' mean features; arguments as of `FusionV2.pooled`."""
        mean = (text * words[..., None]).sum(1) / words.sum(1, keepdim=True)
        features = {"image": image.mean(1), "text": mean, "metadata": metadata.mean(1)}
        score: Tensor = torch.stack([self.parts[name](features[name]) for name in WIDTHS]).sum(0)
        return score[:, 0]


def picture_metadata(sizes: list[tuple[int, int]]) -> Tensor:
    """(batch, 1, 64) Fourier features of ln width, ln height, ln area and ln aspect ratio of pictures in pixels."""
    size = torch.tensor(sizes, dtype=torch.float64).log()  # (batch, 2)
    facts = torch.stack([size[:, 0], size[:, 1], size.sum(1), size[:, 0] - size[:, 1]], 1)  # (batch, 4)
    angles = facts[..., None] * 2.0 ** torch.arange(-3, 5, dtype=torch.float64)  # (batch, 4, 8)
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1)[:, None].float()
