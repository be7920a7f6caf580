"""A loaded model that makes the page of any picture and caption: all that the live page does, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from attention_collapse import arguments
from attention_collapse.data.entries import Entry, is_text
from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import Pair, check_images, table
from attention_collapse.errors import AttentionCollapseError, DataError, ModelError
from attention_collapse.inputs import named_of
from attention_collapse.page_parts import about_model, heads_of, sampled_pairs, shown_pair, twin_of, usable_pairs
from attention_collapse.report.explorer.page import Page

if TYPE_CHECKING:
    from attention_collapse.models.interface import Model
    from attention_collapse.models.naming import Named
    from attention_collapse.models.spec import ModelSpec

LARGEST = 10 * 2**20  # bytes of a picture's file
LONGEST = 2_000  # characters of a caption: what is longer is no caption of any model here
GIVEN = -1  # the image's id: no source of pairs has it


@dataclass(frozen=True)
class Looker:
    """A model in memory, its untrained twin, and the pairs that may be swapped in; `Looker.of` makes one.

    Attributes
    ----------
    twin_why
        Why there is no twin, "" where there is one.
    others, skipped, where, n_listed
        Pairs that may be swapped in, none where none were named; what was left out of them; the name of the folder or
        file that they come from (not its whole path, which concerns no reader), and how many images are listed there.
    mean
        The mean of their pictures; None where there are none.
    max_unknown
        Share of a caption's tokens that may be unknown to the model.
    """

    model: Model
    spec: ModelSpec
    twin: Model | None
    twin_why: str
    others: tuple[Pair, ...]
    skipped: tuple[dict[str, str], ...]
    where: str
    n_listed: int
    mean: Image.Image | None
    seed: int
    batch_size: int
    max_unknown: float | None

    @classmethod
    def of(
        cls, model: str | PathLike[str] | Mapping[str, Any], pairs: Any = None, *, split: str | None = None,
        columns: Any = None, images: str | PathLike[str] | None = None, n: int | None = None, seed: int = 0,
        device: str = "cpu", batch_size: int = 32, twin: bool = True, strict: bool = False,
        max_unknown: float | None = None,
    ) -> Looker:  # fmt: skip
        """Load a model once.

        Parameters
        ----------
        model, split, columns, images, n, seed, device, batch_size, twin, strict, max_unknown
            As of `attention_collapse.explore`.
        pairs
            A source of pairs whose images and captions are swapped in; None: there are none, and the page says so.

        Raises
        ------
        AttentionCollapseError
            For anything wrong with the model, the pairs or an argument; a model that answers questions alone.
        """
        n, seed = arguments.optional_whole("n", n, least=1), arguments.seed(seed)
        batch_size, device = arguments.whole("batch_size", batch_size, least=1), arguments.device(device)
        strict, twin = arguments.flag("strict", strict), arguments.flag("twin", twin)
        max_unknown = arguments.optional_number("max_unknown", max_unknown, least=0, most=1)
        named = named_of(model)
        limit = named.spec.max_unknown if max_unknown is None else max_unknown
        how = {"split": split, "columns": columns, "images": images}
        read = None if pairs is None else sampled_pairs(pairs, how, n=n, seed=seed, strict=strict)
        loaded = _loaded(named, device)
        others: list[Pair] = []
        skipped: list[dict[str, str]] = []
        if read is not None:
            others, _, skipped = usable_pairs(loaded, read, strict=strict, max_unknown=limit)
        other, why = twin_of(named.name, named.spec, device) if twin else (None, "it was not asked for")
        return cls(
            model=loaded, spec=named.spec, twin=other, twin_why=why, others=tuple(others), skipped=tuple(skipped),
            where="" if read is None else Path(str(read.where)).name, n_listed=0 if read is None else read.n_listed,
            mean=_mean(others), seed=seed, batch_size=batch_size, max_unknown=limit,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """What the page calls the model: of a folder or a file its name alone, for its path concerns no reader."""
        path = Path(self.model.name)
        return path.name if path.is_absolute() or path.exists() else self.model.name

    def _told(self, text: str) -> str:
        return text.replace(self.model.name, self.name)

    def page(self, picture: str | PathLike[str] | None, caption: str, *, t_shap: bool = False) -> Page:
        """The page of one pair.

        Parameters
        ----------
        picture
            A file with a picture; None: there is none yet, which is an error that says so.
        caption
            Its caption.
        t_shap
            Also show what each word and image cell adds to the score: some hundred passes.

        Raises
        ------
        AttentionCollapseError
            For a picture or a caption that cannot be used, in words that a reader of the page can act on.
        """
        from attention_collapse.engine.chosen_pairs import Chosen, swapped_alone

        pair = self._checked(picture, caption)
        pairs = [pair, *self.others]
        listed = table(pairs, "given")
        with TemporaryDirectory(prefix="attention-collapse-") as scratch:
            mean, file = self.mean or _even(load_rgb(pair.path)[0]), Path(scratch) / "mean.png"
            mean.save(file)
            scores = swapped_alone(self.model, listed, file, seed=self.seed, batch_size=self.batch_size)
        shown = shown_pair(
            self.model, self.twin, pairs, Chosen(0, ("as it was given",), scores), t_shap=t_shap, seed=self.seed,
            batch_size=self.batch_size,
        )  # fmt: skip
        return self._page(pair, shown, mean, t_shap=t_shap)

    def _page(self, pair: Pair, shown: Any, mean: Image.Image, *, t_shap: bool) -> Page:
        import numpy as np

        from attention_collapse.report.explorer.model_page import model_page

        about = about_model(
            self.model, self.spec, [pair], where=self.where, there=self.n_listed, skipped=list(self.skipped),
            twin=self.twin, twin_why=self.twin_why, t_shap=t_shap,
        )  # fmt: skip
        about = replace(
            about, model=self.name, given=True, n_scored=len(self.others), mean=mean,
            weights=self._told(about.weights), twin_is=self._told(about.twin_is),
            mean_is="mean image of these pairs" if self.others else "the picture’s own mean colour",
            pictures="the one that was given" + (", and the others as they lie there" if self.others else ""),
            tokens_why="" if t_shap else "What single words and cells add to the score (T-SHAP) was not asked for.",
        )  # fmt: skip
        alone = table([pair], "given")
        heads = heads_of(self.model, alone, self.batch_size) or []
        scores = np.array([shown.scores.own])
        return Page(model_page(about, [shown], scores, heads, heads_of(self.twin, alone, self.batch_size)))

    def _checked(self, picture: str | PathLike[str] | None, caption: str) -> Pair:
        """The pair, if the model can take it; what refuses a pair of a folder refuses it too."""
        from attention_collapse.engine.captions import MAX_UNKNOWN, read_captions
        from attention_collapse.engine.takeable import takeable

        said = _caption(caption)
        pair = _pair(picture, said)
        listed = table([pair], "given")
        takeable(self.model, listed)
        read = read_captions(
            self.model, listed, max_unknown=MAX_UNKNOWN if self.max_unknown is None else self.max_unknown
        )
        if read.n_without_content:
            raise DataError(
                "the caption has no letter, number or picture sign that the model reads",
                expected="a caption that says something",
                remedy="write what the picture might show",
            )
        if self._is_cut(pair, said):
            tokens = f", of {read.n_tokens} tokens," if read.n_tokens is not None else ""
            raise DataError(
                f"the caption{tokens} is longer than the model's context, and would be cut",
                expected="a caption that the model reads to its end",
                remedy="shorten the caption",
            )
        return pair

    def _is_cut(self, pair: Pair, caption: str) -> bool:
        from attention_collapse.models.interface import DualEncoder

        if isinstance(self.model, DualEncoder):
            return self.model.texts([caption]).truncated[0]
        return self.model.pairs([load_rgb(pair.path)[0]], [caption]).truncated[0]


def _loaded(named: Named, device: str) -> Model:
    """The model; one that answers questions alone is refused as such."""
    from attention_collapse.models.answering import load_answering

    try:
        return named.load(device)
    except ModelError as error:
        try:
            load_answering(named.name, named.spec, device)
        except AttentionCollapseError:
            raise error from None
        raise ModelError(
            f"{named.name} answers questions and gives no score to a picture with a caption",
            expected="a model that scores captions; this page shows no answers",
            remedy="measure its answers with `attention-collapse questions`, or serve another model",
        ) from None


def _mean(pairs: list[Pair]) -> Image.Image | None:
    from attention_collapse.engine.scoring import mean_picture

    return mean_picture([pair.path for pair in pairs]) if pairs else None


def _even(picture: Image.Image) -> Image.Image:
    """A picture of the same shape, of the mean colour alone."""
    return picture.resize((1, 1), Image.Resampling.BOX).resize(picture.size)


def _caption(caption: str) -> str:
    """What may stand as a caption, on one line."""
    if not is_text(caption):
        raise DataError(
            "there is no caption", expected="a sentence about the picture", remedy="type one above, then press again"
        )
    said = " ".join(caption.split())
    if len(said) > LONGEST:
        raise DataError(
            f"the caption has {len(said):,} characters",
            expected=f"at most {LONGEST:,}",
            remedy="shorten the caption",
        )
    return said


def _pair(picture: str | PathLike[str] | None, caption: str) -> Pair:
    """The picture's file, checked by the rules of `data.images`, with its caption."""
    if picture is None:
        raise DataError(
            "there is no picture", expected="a file with one still picture", remedy="choose one above, then press again"
        )
    path = arguments.path("picture", picture)
    if path.is_file() and path.stat().st_size > LARGEST:
        raise DataError(
            f"the picture's file has {path.stat().st_size / 2**20:.1f} MiB",
            expected=f"at most {LARGEST / 2**20:.0f} MiB",
            remedy="give a smaller file",
        )
    entry = Entry(GIVEN, path.name, None, None, (0,), (caption,))
    usable, refused = check_images([entry], lambda _: path)
    if not usable:
        raise DataError(
            f"{path.name}: {refused[0].reason}", expected="one readable still picture", remedy="give another file"
        )
    return usable[0]
