"""Questions about images with their answers: the records, their candidates, and a manifest that holds hashes alone.

How an answer is judged: where ten people answered, by VQA's soft accuracy min(n / 3, 1), n of them having said it
(Antol et al. 2015; the published evaluation averages this over all nine of the ten, which gives up to 0.1 less for n
from 1 to 3); else by exact match. Answers are compared without regard to case and to the width of spaces, and in no
other way: articles, punctuation and number words stay as they stand in the file.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from attention_collapse.data.entries import Skipped, fault_of_file_name, is_text, normal
from attention_collapse.data.images import MAX_PIXELS, UnusableImageError, load_rgb
from attention_collapse.errors import DataError
from attention_collapse.files import json_text, sha256_bytes, sha256_file

PEOPLE = 10  # whose answers VQA's soft accuracy is of
ENOUGH = 3  # of them make an answer right
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Asked:
    """One question about one image.

    Attributes
    ----------
    id, image
        Ids of the question and of its image, as its file gives them.
    file_name
        The image's file, below the folder of images.
    answers
        Each answer with its credit, 0 to 1, the best first; what is not among them has none.
    candidates
        The answers to choose among; empty where the file gives none.
    group
        The kind of question, as its file says; "" where it does not.

    Examples
    --------
    >>> asked = Asked("1", "7", "7.png", "What colour?", (("red", 1.0), ("dark red", 2 / 3)))
    >>> asked.right, asked.credit("Red"), asked.credit("blue")
    ('red', 1.0, 0.0)
    """

    id: str
    image: str
    file_name: str
    question: str
    answers: tuple[tuple[str, float], ...]
    candidates: tuple[str, ...] = ()
    group: str = ""

    @property
    def right(self) -> str:
        """The best answer."""
        return self.answers[0][0]

    def credit(self, answer: str) -> float:
        """What an answer is worth, 0 to 1."""
        return {normal(said): worth for said, worth in self.answers}.get(normal(answer), 0.0)


@dataclass(frozen=True)
class Located:
    """A question whose image could be read."""

    asked: Asked
    path: Path
    sha256: str
    bytes: int


@dataclass(frozen=True)
class QuestionSet:
    """What a reader found.

    Attributes
    ----------
    layout
        "VQAv2", "GQA", "easy-VQA" or "COCO layout".
    files
        The files that were read.
    """

    layout: str
    files: tuple[Path, ...]
    asked: tuple[Asked, ...]
    skipped: tuple[Skipped, ...]


def is_line(value: object) -> bool:
    """Whether it is text in one line: what a question and an answer must be.

    Examples
    --------
    >>> is_line("yes"), is_line(""), is_line("of two" + chr(10) + "lines")
    (True, False, False)
    """
    return isinstance(value, str) and is_text(value) and not CONTROL.search(value.strip())


def soft_credit(said: Sequence[str], first: str = "") -> tuple[tuple[str, float], ...]:
    """Credit of each of ten people's answers, min(n / 3, 1), the one most often said first.

    Parameters
    ----------
    said
        Ten answers.
    first
        Which of those that were said equally often is the best; else the one that was said first.

    Examples
    --------
    >>> soft_credit(["red"] * 2 + ["blue"] * 8) == (("blue", 1.0), ("red", 2 / 3))
    True
    """
    count, spelling = Counter(map(normal, said)), dict(zip(map(normal, reversed(said)), reversed(said), strict=True))
    ordered = sorted(count, key=lambda key: (-count[key], key != normal(first)))  # stable: first said first
    return tuple((spelling[key].strip(), min(count[key] / ENOUGH, 1.0)) for key in ordered)


def fault_of_candidates(candidates: object, right: str) -> str:
    """Why given candidates cannot be used; "" if they can.

    Examples
    --------
    >>> fault_of_candidates(["yes", "no"], "yes"), fault_of_candidates(["yes", "Yes"], "yes")
    ('', 'the same candidate twice')
    """
    if not isinstance(candidates, list | tuple) or not all(map(is_line, candidates)):
        return "candidates is no list of answers"
    known = [normal(str(candidate)) for candidate in candidates]
    if len(set(known)) < len(known):
        return "the same candidate twice"
    if len(known) < 2:
        return f"{len(known)} candidates, 2 or more needed"
    return "" if normal(right) in known else f"its answer {right!r} is none of its candidates"


def most_frequent(asked: Iterable[Asked], k: int) -> tuple[str, ...]:
    """The k answers that are right most often, the most frequent first; of equally frequent ones the first by name.

    Raises
    ------
    DataError
        There are fewer than two.

    Examples
    --------
    >>> asked = [Asked(str(i), "1", "1.png", "?", ((said, 1.0),)) for i, said in enumerate(["no", "yes", "yes", "red"])]
    >>> most_frequent(asked, 2)
    ('yes', 'no')
    """
    rights = [one.right for one in asked]
    counted, spelling = Counter(map(normal, rights)), dict(zip(map(normal, rights), rights, strict=True))
    ordered = sorted(counted, key=lambda answer: (-counted[answer], answer))
    found = tuple(spelling[answer] for answer in ordered[: max(k, 0)])
    if len(found) < 2:
        raise DataError(
            f"{len(counted)} different answers in the questions, {k} asked for as candidates",
            expected="2 candidates or more", remedy="give candidates, or questions that are not all answered alike",
        )  # fmt: skip
    return found


def with_candidates(asked: Sequence[Asked], candidates: Sequence[str]) -> tuple[list[Asked], list[Skipped]]:
    """Questions without candidates get these; one whose answer is not among them is left out and named.

    The best answer among the candidates is the right one, so that a question is kept if any answer with credit is one.

    Examples
    --------
    >>> asked = [Asked(str(i), "1", "1.png", "?", ((said, 1.0),)) for i, said in enumerate(["no", "red"])]
    >>> kept, skipped = with_candidates(asked, ["yes", "no"])
    >>> [one.id for one in kept], skipped[0].reason
    (['0'], "'red' is none of the 2 candidates")
    """
    kept, skipped = [], []
    known = {normal(candidate) for candidate in candidates}
    for one in asked:
        if one.candidates:
            kept.append(one)
            continue
        inside = [answer for answer in one.answers if normal(answer[0]) in known]
        if not inside:
            skipped.append(Skipped("question", one.id, f"{one.right!r} is none of the {len(candidates)} candidates"))
            continue
        outside = [answer for answer in one.answers if normal(answer[0]) not in known]
        kept.append(replace(one, candidates=tuple(candidates), answers=tuple(inside + outside)))
    return kept, skipped


def image_path(folder: Path, file_name: str) -> Path:
    """Where an image lies; COCO wrote `COCO_val2014_` before its names until 2014.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "000000000009.jpg").touch()
    ...     image_path(Path(folder), "COCO_val2014_000000000009.jpg").name
    '000000000009.jpg'
    """
    plain = re.sub(r"^COCO_(train|val|test)\d{4}_", "", PurePosixPath(file_name).name)
    named = folder / file_name
    return named if named.is_file() or not (folder / plain).is_file() else folder / plain


def located(
    asked: Iterable[Asked], folder: Path, *, max_pixels: int = MAX_PIXELS
) -> tuple[list[Located], list[Skipped]]:
    """Decode each image once; the questions about those that can be used, and the images that cannot.

    Examples
    --------
    >>> found, skipped = located([Asked("1", "7", "7.png", "?", (("no", 1.0),))], Path("no folder"))
    >>> found, skipped[0].reason
    ([], 'file is absent (1 questions)')
    """
    by_name: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        by_name[one.file_name].append(one)
    found: list[Located] = []
    skipped: list[Skipped] = []
    for name, questions in tqdm(by_name.items(), desc="checking images", unit="image", disable=None):
        if fault := fault_of_file_name(name):
            skipped.append(Skipped("image", questions[0].image, fault))
            continue
        path = image_path(folder, name)
        try:
            load_rgb(path, max_pixels)
        except UnusableImageError as error:
            skipped.append(Skipped("image", questions[0].image, f"{error.reason} ({len(questions)} questions)"))
            continue
        digest, size = sha256_file(path), path.stat().st_size
        found += [Located(one, path, digest, size) for one in questions]
    return found, skipped


def question_manifest(
    source: str, files: Mapping[str, Path], questions: Sequence[Located], skipped: Sequence[Skipped]
) -> dict[str, Any]:
    """What a set of questions is, in hashes: no question, answer or pixel stands in it.

    Parameters
    ----------
    files
        Their names -> the files that the questions were read from.
    """
    by_image: dict[str, list[Located]] = defaultdict(list)
    for one in questions:
        by_image[one.asked.image].append(one)
    return {
        "source": source,
        "files": {name: {"sha256": sha256_file(path), "bytes": path.stat().st_size} for name, path in files.items()},
        "n_images": len(by_image),
        "n_questions": len(questions),
        "n_skipped": len(skipped),
        "skipped": [asdict(item) for item in sorted(skipped, key=lambda item: (item.kind, item.id, item.reason))],
        "images": [
            {
                "id": image,
                "file_name": some[0].asked.file_name,
                "sha256": some[0].sha256,
                "bytes": some[0].bytes,
                "n_questions": len(some),
                "questions_sha256": sha256_bytes(json_text([asdict(one.asked) for one in some]).encode("utf-8")),
            }
            for image, some in by_image.items()
        ],
    }
