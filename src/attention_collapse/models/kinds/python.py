"""Any PyTorch module, described by its user in a few lines (`declared.Declared`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image
from torch import Tensor, nn

from attention_collapse.errors import ModelError
from attention_collapse.families import CROSS_ATTENTION, SINGLE_STREAM
from attention_collapse.models.declared import Declared, named_object, users_code
from attention_collapse.models.interface import Batch, KindOfModel, Provenance, Read, Without, even_weights
from attention_collapse.models.sites import matching_sites
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.user_scores import described, one_number_per_pair
from attention_collapse.probe import IMAGE, TEXT

LABEL = "your own module"
LIBRARY = "user"
MODEL_TYPES = ()
CATALOGUE: dict[str, dict[str, object]] = {}
TOWERS = ("vision", "text")


class DeclaredModel(KindOfModel):
    """A user's module as a `PairScorer`: the names of its inputs need not mean what they mean elsewhere."""

    ids = caption = pixels = picture = Without("the inputs are the user's own")
    image_encoder = Without("the modules are the user's own")
    image_inputs = Without("the inputs are the user's own")
    tokenizer = token_embedding = None
    is_likelihood = False  # unless the table says so
    users_code = True
    mm_shap = Without("its tokens are not known")

    def __init__(self, name: str, declared: Declared, provenance: Provenance) -> None:
        if declared.family not in (SINGLE_STREAM, CROSS_ATTENTION):
            raise ModelError(
                f"{name}: family {declared.family!r}",
                expected=f"{SINGLE_STREAM!r} or {CROSS_ATTENTION!r}",
                remedy="say where the text meets the image",
            )
        sites = declared.sites if isinstance(declared.sites, Mapping) else {}
        if not isinstance(declared.module, nn.Module) or not all(isinstance(sites.get(t), str) for t in TOWERS):
            raise ModelError(
                f"{name}: a table with {described(declared.module)} as its module and {described(declared.sites)} as "
                "its sites",
                expected='a torch.nn.Module, and {"vision": …, "text": …} of regular expressions',
                remedy="see examples/own_model.py",
            )
        self.name, self.provenance, self._declared = name, asdict(provenance), declared
        self.module, self.family, self.is_likelihood = declared.module, declared.family, declared.is_likelihood
        self.sites = {tower: matching_sites(name, self.module, declared.sites[tower]) for tower in TOWERS}
        self.missing: Mapping[str, str] = {}

    def pairs(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Batch:
        """Inputs of image–caption pairs, as the user prepares them."""
        table = self._declared
        given = tuple(picture.copy() for picture in pictures)  # prepare may draw in them, and they are used again
        with users_code(self.name, "prepare"):
            inputs = table.prepare(given, tuple(captions))
        labels, rows = self._marked("groups", inputs), self._marked("rows", inputs)
        readout = rows if table.readout is None else self._marked("readout", inputs)
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

    def _marked(self, part: str, inputs: Any) -> Mapping[str, Tensor]:
        """What the table's `groups`, `rows` or `readout` says of both towers, (batch or 1, token)."""
        with users_code(self.name, part):
            found = getattr(self._declared, part)(inputs)
        whole = isinstance(found, Mapping) and all(
            isinstance(found.get(tower), Tensor) and found[tower].ndim == 2 for tower in TOWERS
        )
        if not whole:
            raise ModelError(
                f"{self.name}: {part} gave {described(found)}",
                expected='{"vision": …, "text": …}, tensors of (batch, token)',
                remedy="see examples/own_model.py",
            )
        marks: Mapping[str, Tensor] = found
        return marks

    def score(self, batch: Batch) -> Tensor:
        """(batch,) the user's score."""
        given = dict(batch.inputs) if isinstance(batch.inputs, Mapping) else batch.inputs  # the function may take out
        with users_code(self.name, "score"):
            found = self._declared.score(self.module, given)
            return one_number_per_pair(found, len(batch.truncated), where=f"{self.name}: score")


def load(name: str, spec: ModelSpec, device: str = "cpu") -> DeclaredModel:  # noqa: ARG001 — the user's to choose
    """Call the user's factory."""
    factory = named_object(name, spec)
    with users_code(name, f"{spec.factory}()"):
        declared = factory()
    if not isinstance(declared, Declared):
        raise ModelError(
            f"{name}: {spec.factory} returned {type(declared).__name__}",
            expected="attention_collapse.models.declared.Declared",
            remedy="return the table that docs/adding.md shows",
        )
    declared.module.eval()
    parameters = sum(parameter.numel() for parameter in declared.module.parameters())
    return DeclaredModel(name, declared, Provenance(spec.origin, None, None, None, parameters, untrained=False))
