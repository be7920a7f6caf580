"""Methods that swap a modality for another pair's while they train."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attention_collapse.arguments import number, one_of, whole
from attention_collapse.errors import ParamsError
from attention_collapse.prevention.checks import check_answers, check_rows, matching
from attention_collapse.prevention.method import Drawing, Inputs, Score, finite, losses, take

Modality = Literal["image", "text"]
LOG = logging.getLogger("attention_collapse.prevention")


def _of_matching(logits: Tensor, method: str) -> Tensor:
    """The log-odds of a match; an error where the score is none."""
    if isinstance(logits, Tensor) and logits.ndim != 1:  # what else it may be, `losses` says
        raise ParamsError(
            f"a score of shape {tuple(logits.shape)} for {method}",
            expected="(pair,) log-odds of a match: with another image the answer is known to be no",
            remedy="use a method that does not swap, or score answers as pairs of an image and a text",
        )
    return logits


def _joined(one: Any, two: Any) -> Any:
    """Rows of both, one after the other."""
    if isinstance(one, Tensor):
        return torch.cat([one, two])
    return {name: _joined(v, two[name]) if isinstance(v, Tensor) else v for name, v in one.items()}


def token_counts(ids: Tensor, vocabulary: int, mask: Tensor | None = None) -> Tensor:
    """(pair, token of the vocabulary) how often each stands in (pair, position) ids.

    Parameters
    ----------
    mask
        (pair, position) which count, so that padding does not; None: all.

    Examples
    --------
    >>> token_counts(torch.tensor([[1, 1], [0, 2]]), 3).tolist()
    [[0.0, 2.0, 0.0], [1.0, 0.0, 1.0]]
    """
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise ParamsError(
            f"ids from {int(ids.min())} to {int(ids.max())}, and a vocabulary of {vocabulary}",
            expected="ids below it", remedy="give the length of the tokenizer, added tokens included",
        )  # fmt: skip
    counted = torch.ones_like(ids).float() if mask is None else mask.float()
    return torch.zeros(len(ids), vocabulary, device=ids.device).scatter_add_(1, ids.long(), counted)


def _nearest(features: Tensor, second: bool) -> Tensor:
    """(pair,) for each of (pair, feature) rows the position of the other whose direction is nearest, or second nearest
    where there are three rows."""
    if features.ndim != 2 or not torch.isfinite(features).all():
        raise ParamsError(
            f"alike gave {tuple(features.shape)}" + ", not all finite" * (features.ndim == 2),
            expected="(pair, feature) finite numbers of the texts", remedy="correct alike; token_counts makes such",
        )  # fmt: skip
    unit = F.normalize(features.detach().float(), dim=1)
    near = (unit @ unit.T).fill_diagonal_(-math.inf)
    first = near.argmax(1)
    if second and len(near) > 2:
        return near.scatter(1, first[:, None], -math.inf).argmax(1).cpu()
    return first.cpu()


class _Swapping(Drawing):
    """A method that swaps within the matching pairs of a batch."""

    _told = False

    def to_swap(self, image: Inputs, text: Inputs, target: Tensor) -> Tensor | None:
        """(match,) positions of the matching pairs; None where there are fewer than two, which is said once.

        Raises
        ------
        DataError
            A batch of one pair, labels other than 0 and 1, or image, text and labels that do not fit together.
        """
        check_rows(image, text, target)
        if len(target) == 1:
            self.others(1)
        true = matching(target)
        if len(true) > 1:
            return true
        if not self._told:
            said = "%s: a batch with %d matching pair(s) is trained on plainly, as are others"
            LOG.warning(said, self.name, len(true))
            self._told = True
        return None


class SwappedNegatives(_Swapping):
    """Matching pairs with another pair's image (or text) as further pairs that do not match.

    A cue of one modality goes with it unchanged, so that beside a swapped image it stands for "no match" as often as it
    stands for "match" beside the true one: it no longer pays. It adds labelled pairs, and so is the plain way that
    a cleverer method has to beat.

    Parameters
    ----------
    swap
        What is swapped. The cue is to be in the other modality; "both" swaps either in turn and needs no such
        knowledge.
    weight
        The weight of a swapped pair, where a pair of the batch has 1.
    alike
        Makes (pair, feature) numbers of the texts, as `token_counts` does of their ids. Where given, what is swapped in
        is that of the matching pair whose text is nearest (by the cosine; for "both" the text is that of the second
        nearest), in place of a random one: a torn pair then is told by little. **A text that describes two images of
        the batch becomes wrong labels**: of an image with several captions keep one per batch. Unlike a random one, a
        pair may lend more often than others, so that an image by itself tells a little of the label.

    Examples
    --------
    >>> pairs, target = torch.zeros(2, 1), torch.tensor([1, 1])
    >>> loss = SwappedNegatives("image").loss(lambda image, text: (image * text)[:, 0], pairs, pairs, target)
    >>> round(loss.exp().item(), 4)  # log-odds of 0 cost ln 2, swapped or not
    2.0
    """

    name = "swapped-negatives"
    source = (
        "negatives by permutation, as in image–text matching (e.g. UNITER, arXiv:1909.11740; ALBEF, 2107.07651); the "
        "nearest ones after NegCLIP (arXiv:2210.01936)"
    )
    needs = "a score that is the log-odds of a match"

    def __init__(
        self,
        swap: Modality | Literal["both"] = "image",
        *,
        weight: float = 1.0,
        alike: Callable[[Any], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.swap = one_of("swap", swap, ("image", "text", "both"))
        self.weight = number("weight", weight, least=0)
        self.alike = alike

    @property
    def passes(self) -> float:
        """One more for each matching pair and modality that is swapped."""
        return 1.0 if not self.weight else 2.0 if self.swap == "both" else 1.5

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The weighted mean cross-entropy over the batch and its swapped pairs, in one pass."""
        true = self.to_swap(image, text, target) if self.weight else None
        if true is None:
            return finite(losses(_of_matching(score(image, text), self.name), target).mean())
        images, texts, answers, weights = image, text, target, [torch.ones(len(target))]
        for again, modality in enumerate(("image", "text") if self.swap == "both" else (self.swap,)):
            other = true[self._lenders(take(text, true), len(true), second=again > 0)]
            images = _joined(images, take(image, other if modality == "image" else true))
            texts = _joined(texts, take(text, other if modality == "text" else true))
            answers = torch.cat([answers, torch.zeros_like(target[true.to(target.device)])])
            weights.append(torch.full((len(true),), self.weight))
        weight = torch.cat(weights).to(target.device)
        one = losses(_of_matching(score(images, texts), self.name), answers)
        return finite((one * weight).sum() / weight.sum())

    def _lenders(self, text: Inputs, n: int, *, second: bool) -> Tensor:
        """(n,) which matching pair lends each another modality."""
        return self.others(n) if self.alike is None else _nearest(self.alike(text), second)


class _Choosing(_Swapping):
    """A method that chooses the true pair among itself and others.

    Parameters
    ----------
    weight
        The weight of the choice, or choices, where the plain loss has 1.
    candidates
        Others for each pair and choice.
    """

    def __init__(self, weight: float = 1.0, *, candidates: int = 1, seed: int = 0) -> None:
        super().__init__(seed)
        self.weight = number("weight", weight, least=0)
        self.candidates = whole("candidates", candidates, least=1)

    @property
    def passes(self) -> float:
        """One more for each candidate: two choices of the matching half of the pairs, or one of all pairs."""
        return 1.0 + self.candidates if self.weight else 1.0


class Choice(_Choosing):
    """Choose the right image for a text, and the right text for an image, beside the plain loss.

    Both candidates of a choice between images stand beside the same text, so that whatever a text says by itself,
    cue or prior, falls out of the difference of their scores: it can be learned from the images alone. The same holds
    of texts. Which modality holds a cue need not be known.

    Parameters
    ----------
    weight
        The weight of the two choices, where the plain loss has 1.
    candidates
        Others for each matching pair and choice.
    """

    name = "choice"
    source = "ours; the choice is noise-contrastive (InfoNCE, arXiv:1807.03748) over whole pairs"
    needs = "a score that is the log-odds of a match"

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The mean cross-entropy, plus `weight` times that of the two choices, in one pass."""
        true = self.to_swap(image, text, target) if self.weight else None
        if true is None:
            return finite(losses(_of_matching(score(image, text), self.name), target).mean())
        images, texts = image, text
        for modality in ("image", "text"):
            for _ in range(self.candidates):
                other = true[self.others(len(true))]
                images = _joined(images, take(image, other if modality == "image" else true))
                texts = _joined(texts, take(text, other if modality == "text" else true))
        logits = _of_matching(score(images, texts), self.name)
        check_answers(logits, torch.cat([target, target.new_ones(2 * self.candidates * len(true))]))
        own, swapped = logits[: len(target)], logits[len(target) :].view(2, self.candidates, len(true))
        right = own[true.to(own.device)].expand(2, 1, -1)
        choices = -F.log_softmax(torch.cat([right, swapped], 1), 1)[:, 0]  # (image or text, pair)
        return finite(losses(own, target).mean() + self.weight * choices.mean())


class ImageChoice(_Choosing):
    """Choose the right image for a question and its answer, beside the plain loss: `Choice` for logits of answers.

    Both images stand beside the same question and the same answer, so that whatever the question says of the answer by
    itself falls out of the difference of its log-odds. The other image is that of another pair of the batch, for which
    the answer may happen to be right too.

    Parameters
    ----------
    weight
        The weight of the choice, where the plain loss has 1.
    candidates
        Other images for each pair.
    """

    name = "image-choice"
    source = "ours, as of `Choice`"
    needs = "logits of answers"

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The mean cross-entropy, plus `weight` times that of the choice, in one pass."""
        if not self.weight:
            return finite(losses(score(image, text), target).mean())
        check_rows(image, text, target)
        n, images, texts = len(target), image, text
        for _ in range(self.candidates):
            images, texts = _joined(images, take(image, self.others(n))), _joined(texts, text)
        logits = score(images, texts)
        if isinstance(logits, Tensor) and logits.ndim != 2:
            raise ParamsError(
                f"a score of shape {tuple(logits.shape)} for {self.name}", expected="(pair, answer) logits",
                remedy="use `Choice`, which takes the log-odds of a match",
            )  # fmt: skip
        check_answers(logits, target.repeat(1 + self.candidates))
        right = F.one_hot(target.repeat(1 + self.candidates), logits.shape[1]).bool()
        odds = logits[right] - logits.masked_fill(right, -torch.inf).logsumexp(1)  # of the pair's right answer
        choice = -F.log_softmax(odds.view(1 + self.candidates, n), 0)[0]  # among its own image and the others
        return finite(losses(logits[:n], target).mean() + self.weight * choice.mean())


class SwapConsistency(Drawing):
    """Push the score of pairs with another pair's image to the prior. **A warning, not a remedy.**

    It teaches a model to tell *that* an image was swapped, and so looks like a cure by every measure that swaps images,
    while the answer still comes from the cue (docs/measures.md, section 5).

    Parameters
    ----------
    weight
        The weight of the penalty, where the plain loss has 1.
    prior
        The probability of a match that a torn pair should get.
    """

    name = "swap-consistency"
    source = "ours, to show how a measure that becomes a target stops measuring"
    needs = "a score that is the log-odds of a match"

    def __init__(self, swap: Modality = "image", *, weight: float = 1.0, prior: float = 0.5, seed: int = 0) -> None:
        super().__init__(seed)
        self.swap = one_of("swap", swap, ("image", "text"))
        self.weight, self.prior = number("weight", weight, least=0), number("prior", prior, least=0, most=1)

    @property
    def passes(self) -> float:
        """Every pair once more."""
        return 2.0 if self.weight else 1.0

    def loss(self, score: Score, image: Inputs, text: Inputs, target: Tensor, group: Tensor | None = None) -> Tensor:
        """The mean cross-entropy plus the weighted one of the swapped pairs against the prior."""
        plain = losses(_of_matching(score(image, text), self.name), target).mean()
        if not self.weight:
            return finite(plain)
        check_rows(image, text, target)
        other = self.others(len(target))
        torn = score(take(image, other), text) if self.swap == "image" else score(image, take(text, other))
        return finite(plain + self.weight * losses(torn, torch.full_like(torn, self.prior)).mean())
