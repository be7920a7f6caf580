"""A model in no table: your own PyTorch module, and the lines that say what its tokens are.

attention-collapse diagnose --kind python --model examples.own_model:table --pairs FOLDER
"""

import torch
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from attention_collapse.models.declared import Declared

PATCHES, WORDS, WIDTH = 16, 20, 32


class JointEncoder(nn.Module):
    """Stands for your model: 16 image patches and up to 20 words in one transformer. Its weights are random."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, 8)
        self.words = nn.Embedding(1000, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, pixels: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        joint = torch.cat([self.patches(pixels).flatten(2).mT, self.words(words)], 1)
        padding = torch.cat([torch.zeros(len(words), PATCHES, dtype=torch.bool), words == 0], 1)
        return self.score(self.encoder(joint, src_key_padding_mask=padding)).mean((1, 2))


# -- the table: these lines are all that a new model needs ----------------------------------------------------------
def prepare(images, texts):
    pixels = torch.stack([resize(pil_to_tensor(image), [32, 32]) / 255 for image in images])
    ids = [[1 + sum(word.encode()) % 999 for word in text.split()][:WORDS] for text in texts]
    return {"pixels": pixels, "words": torch.tensor([row + [0] * (WORDS - len(row)) for row in ids])}


def groups(inputs):  # 0 other, 1 image, 2 text; one row of labels per item, one label per key
    labels = torch.cat([torch.ones(len(inputs["words"]), PATCHES), 2.0 * (inputs["words"] > 0)], 1).long()
    return {"vision": labels, "text": labels}


def rows(inputs):  # the queries to average over: the real words
    queries = groups(inputs)["text"] == 2
    return {"vision": queries, "text": queries}


def table():
    torch.manual_seed(0)  # your code loads its weights here
    sites = r"encoder\.layers\.\d+\.self_attn"
    return Declared(
        JointEncoder(), prepare, lambda module, inputs: module(**inputs), {"vision": sites, "text": sites}, groups, rows
    )
