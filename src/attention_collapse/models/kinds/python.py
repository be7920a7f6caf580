"""Any PyTorch module, described by its user in a few lines (`declared.Declared`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from PIL import Image
from torch import Tensor

from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION, SINGLE_STREAM
from attention_collapse.models.declared import Declared, named_object
from attention_collapse.models.interface import Batch, KindOfModel, Provenance, Read, Without, even_weights
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.probe import IMAGE, TEXT

LABEL = "your own module"
LIBRARY = "user"
MODEL_TYPES = ()
CATALOGUE: dict[str, dict[str, object]] = {}


class DeclaredModel(KindOfModel):
    """A user's module as a `PairScorer`: the names of its inputs need not mean what they mean elsewhere."""

    ids = caption = pixels = picture = Without("the inputs are the user's own")
    image_encoder = Without("the modules are the user's own")
    image_inputs = Without("the inputs are the user's own")
    tokenizer = token_embedding = None
    is_likelihood = False  # unless the table says so
    mm_shap = Without("its tokens are not known")

    def __init__(self, name: str, declared: Declared, provenance: Provenance) -> None:
        if declared.family not in (SINGLE_STREAM, CROSS_ATTENTION):
            raise ModelError(
                f"{name}: family {declared.family!r}",
                expected=f"{SINGLE_STREAM!r} or {CROSS_ATTENTION!r}",
                remedy="say where the text meets the image",
            )
        self.name, self.provenance, self._declared = name, asdict(provenance), declared
        self.module, self.family, self.is_likelihood = declared.module, declared.family, declared.is_likelihood
        self.sites = {tower: matching_sites(name, self.module, declared.sites[tower]) for tower in ("vision", "text")}
        self.missing: Mapping[str, str] = {}

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs, as the user prepares them."""
        table, inputs = self._declared, self._declared.prepare(tuple(pictures), tuple(captions))
        labels, rows = table.groups(inputs), table.rows(inputs)
        readout = rows if table.readout is None else table.readout(inputs)
        own = table.family == SINGLE_STREAM
        reads = tuple(
            Read(
                tower,
                self.sites[tower],
                {"all": even_weights(rows[tower]), "readout": even_weights(readout[tower])},
                (labels[tower] == group).sum(-1).expand(len(captions)),
                group=group if own else None,
            )
            for tower, group in (("vision", IMAGE), ("text", TEXT))
        )
        groups = {site: labels[tower] for tower in ("vision", "text") for site in self.sites[tower]}
        return Batch(inputs, reads, groups, (False,) * len(captions))

    def score(self, batch: Batch) -> Tensor:
        """(batch,) the user's score."""
        return self._declared.score(self.module, batch.inputs)


def load(name: str, spec: ModelSpec, device: str = "cpu") -> DeclaredModel:  # noqa: ARG001 — the user's to choose
    """Call the user's factory."""
    declared = named_object(name, spec)()
    if not isinstance(declared, Declared):
        raise ModelError(
            f"{name}: {spec.factory} returned {type(declared).__name__}",
            expected="attention_collapse.models.declared.Declared",
            remedy="return the table that the README shows",
        )
    declared.module.eval()
    parameters = sum(parameter.numel() for parameter in declared.module.parameters())
    return DeclaredModel(name, declared, Provenance(spec.origin, None, None, None, parameters, untrained=False))
