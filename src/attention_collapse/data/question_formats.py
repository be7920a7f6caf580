"""Other people's questions, as they are published, and questions in a COCO-layout folder.

The layouts::

    VQAv2        {"questions": [{"question_id", "image_id", "question"}], "data_subtype": "val2014"}, and a second file
                 {"annotations": [{"question_id", "answers": [{"answer"} × 10], "multiple_choice_answer"}]}
    GQA          {"<question id>": {"imageId", "question", "answer", "types": {"structural"}}}
    easy-VQA     [["<question>", "<answer>", <image id>]], in a folder with images/; ../answers.txt holds the candidates
    COCO layout  annotations/questions_<split>.json: {"images": [{"id", "file_name"}], "annotations": [{"id",
                 "image_id", "question", "answer" or ten "answers", "candidates" where they are given}]}

Which of them a file is shows in its content. What cannot be used comes back as `Skipped` with its reason.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from attention_collapse.data.entries import Skipped, fault_of_file_name, safe_file_name
from attention_collapse.data.questions import (
    PEOPLE,
    Asked,
    QuestionSet,
    fault_of_candidates,
    is_line,
    soft_credit,
)
from attention_collapse.errors import DataError
from attention_collapse.files import read_json

EASY_VQA = "easy_vqa"  # the package on PyPI: easy-vqa 1.0, MIT
EXPECTED = (
    "questions as VQAv2, GQA or easy-VQA publish them, or annotations/questions_<split>.json of a COCO-layout folder "
    '({"images": […], "annotations": [{"id", "image_id", "question", "answer"}]})'
)
Answers = tuple[tuple[str, float], ...]


def read_questions(source: Path, annotations: Path | None = None) -> QuestionSet:
    """The questions of a file or a folder, in any known layout.

    Parameters
    ----------
    source
        A file of questions; or a folder with annotations/questions_<split>.json, or with questions.json (easy-VQA).
    annotations
        VQAv2's second file, which holds the answers.

    Raises
    ------
    DataError
        A file of another form, or one from which no question can be used.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "testdev.json")
    ...     _ = file.write_text('{"1": {"imageId": "7", "question": "Is it red?", "answer": "no"}}')
    ...     found = read_questions(file)
    >>> found.layout, found.asked[0].right
    ('GQA', 'no')
    """
    path = _file_in(source) if source.is_dir() else source
    data = read_json(path)
    layout = _layout(data)
    if layout is None:
        shown = f"an object with keys {', '.join(map(str, list(data)[:4]))}" if isinstance(data, dict) else (
            f"a list of {len(data)}" if isinstance(data, list) else type(data).__name__
        )  # fmt: skip
        raise DataError(
            f"{path}: {shown}, which is no known layout of questions",
            expected=EXPECTED,
            remedy="give the file as published",
        )
    if (annotations is not None) != (layout == "VQAv2"):
        raise DataError(
            f"{path}: {layout} questions {'without' if annotations is None else 'with'} a file of annotations",
            expected="a second file, v2_mscoco_<split>_annotations.json, for VQAv2 and for no other",
            remedy="give the annotations of the same split" if annotations is None else "leave it out",
        )
    skipped: list[Skipped] = []
    asked = list(READERS[layout](path, data, annotations, skipped))
    if not asked:
        first = f" ({skipped[0].kind} {skipped[0].id}: {skipped[0].reason})" if skipped else ""
        raise DataError(
            f"{path}: no question of {len(skipped)} can be used{first}",
            expected="questions with answers; published test splits have none", remedy="give a split with answers",
        )  # fmt: skip
    files = (path,) if annotations is None else (path, annotations)
    return QuestionSet(layout, files, tuple(asked), tuple(skipped))


def easy_vqa_folder() -> Path:
    """Where the package easy-vqa holds train/ and test/.

    Raises
    ------
    DataError
        It is not installed.
    """
    found = importlib.util.find_spec(EASY_VQA)
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "the package easy-vqa is not installed", expected="easy-vqa 1.0 (PyPI, MIT: 5,000 images and questions)",
            remedy="pip install easy-vqa==1.0",
        )  # fmt: skip
    return Path(next(iter(found.submodule_search_locations))) / "data"


def _file_in(folder: Path) -> Path:
    found = sorted((folder / "annotations").glob("questions_*.json")) or sorted(folder.glob("questions.json"))
    if len(found) != 1:
        raise DataError(
            f"{folder}: {len(found)} files of questions{': ' + ', '.join(p.name for p in found) if found else ''}",
            expected="one annotations/questions_<split>.json, or one questions.json",
            remedy="give the file itself",
        )
    return found[0]


def _layout(data: Any) -> str | None:
    if isinstance(data, list):
        return "easy-VQA" if any(isinstance(item, list) and len(item) == 3 for item in data) else None
    if not isinstance(data, Mapping):
        return None
    if isinstance(data.get("questions"), list):
        return "VQAv2"
    annotations = data.get("annotations")
    if isinstance(annotations, list) and isinstance(data.get("images"), list):
        return "COCO layout" if any(isinstance(a, Mapping) and "question" in a for a in annotations) else None
    some = any(isinstance(item, Mapping) and {"imageId", "question"} <= item.keys() for item in data.values())
    return "GQA" if some else None


def _fault(question: object, answers: Answers | str) -> str:
    """Why a question cannot be used, from its text and its answers (or why they are none)."""
    if not is_line(question):
        return "question is empty, not text, or of several lines"
    return answers if isinstance(answers, str) else ""


def _one_answer(answer: object) -> Answers | str:
    if answer is None:
        return "it has no answer"
    return ((str(answer).strip(), 1.0),) if is_line(answer) else "answer is empty, not text, or of several lines"


def _ten_answers(said: object, first: object) -> Answers | str:
    """Credits of a list of answers, each a text or an object with one; or why there are none."""
    if not isinstance(said, list):
        return "answers is no list"
    texts = [item.get("answer") if isinstance(item, Mapping) else item for item in said]
    if not all(map(is_line, texts)):
        return "one of its answers is empty, not text, or of several lines"
    if len(texts) != PEOPLE:
        return f"{len(texts)} answers: soft accuracy is of {PEOPLE}, exact match of one `answer`"
    return soft_credit([str(text) for text in texts], str(first or ""))


def _image_name(image: object) -> str:
    """An image's id as text; "" where it is none."""
    if isinstance(image, bool) or not isinstance(image, int | str):
        return ""
    return str(image) if isinstance(image, str) or image >= 0 else ""


def _repeated(ids: Iterable[object]) -> set[str]:
    return {key for key, count in Counter(map(str, ids)).items() if count > 1}


def _known(answers: Answers | str) -> Answers:
    return () if isinstance(answers, str) else answers


def _take(asked: Asked, fault: str, skipped: list[Skipped]) -> Iterable[Asked]:
    if fault:
        skipped.append(Skipped("question", asked.id, fault))
        return ()
    return (asked,)


def _vqa(_path: Path, data: Any, annotations: Path | None, skipped: list[Skipped]) -> Iterable[Asked]:
    given = read_json(annotations) if annotations else {}
    records = given.get("annotations") if isinstance(given, dict) else None
    if not isinstance(records, list):
        raise DataError(
            f"{annotations}: no list under 'annotations'", expected="VQAv2's v2_mscoco_<split>_annotations.json",
            remedy="give the second file that VQAv2 publishes for the split",
        )  # fmt: skip
    split = str(data.get("data_subtype") or given.get("data_subtype") or "")
    by_id = {str(record.get("question_id")): record for record in records if isinstance(record, Mapping)}
    twice = _repeated(r.get("question_id") for r in data["questions"] if isinstance(r, Mapping)) | _repeated(
        record.get("question_id") for record in records if isinstance(record, Mapping)
    )
    asked_ids = set()
    for record in data["questions"]:
        if not isinstance(record, Mapping):
            skipped.append(Skipped("question", str(record)[:40], "it is no object"))
            continue
        key, image = str(record.get("question_id")), record.get("image_id")
        asked_ids.add(key)
        about = by_id.get(key)
        answers: Answers | str = "no annotation has its question_id"
        if about is not None:
            answers = _ten_answers(about.get("answers"), about.get("multiple_choice_answer"))
        fault = _fault(record.get("question"), answers)
        if key in twice:
            fault = "duplicate question_id; which one is meant is unknown"
        elif not isinstance(image, int) or isinstance(image, bool) or image < 0:
            fault = f"image_id {image!r} is no whole number"
        elif about is not None and about.get("image_id") != image:
            fault = f"its annotation is of image {about.get('image_id')!r}, the question of {image}"
        name = f"{image:012d}.jpg" if isinstance(image, int) else ""
        name = f"COCO_{split}_{name}" if split else name
        group = str(about.get("question_type") or "") if about else ""
        asked = Asked(key, str(image), name, str(record.get("question")).strip(), _known(answers), (), group)
        yield from _take(asked, fault, skipped)
    skipped += [
        Skipped("annotation", key, "no question has its question_id") for key in sorted(by_id.keys() - asked_ids)
    ]


def _gqa(_path: Path, data: Any, _annotations: Path | None, skipped: list[Skipped]) -> Iterable[Asked]:
    for key, record in data.items():
        if not isinstance(record, Mapping):
            skipped.append(Skipped("question", str(key), "it is no object"))
            continue
        answers = _one_answer(record.get("answer"))
        image = _image_name(record.get("imageId"))
        fault = _fault(record.get("question"), answers)
        if not image or not safe_file_name(f"{image}.jpg"):
            fault = f"imageId {record.get('imageId')!r} is no name of an image"
        types = record.get("types")
        group = str(types.get("structural") or "") if isinstance(types, Mapping) else ""
        question = str(record.get("question")).strip()
        yield from _take(Asked(str(key), image, f"{image}.jpg", question, _known(answers), (), group), fault, skipped)


def _easy_vqa(path: Path, data: Any, _annotations: Path | None, skipped: list[Skipped]) -> Iterable[Asked]:
    listed = path.parent.parent / "answers.txt"
    lines = listed.read_text("utf-8").split("\n") if listed.is_file() else []
    candidates = tuple(line.strip() for line in lines if line.strip())
    for number, item in enumerate(data):
        question, answer, image = item if isinstance(item, list) and len(item) == 3 else (None, None, None)
        answers = _one_answer(answer)
        fault = _fault(question, answers)
        if not isinstance(item, list) or len(item) != 3:
            fault = "it is no [question, answer, image id]"
        elif not fault and (not isinstance(image, int) or isinstance(image, bool) or image < 0):
            fault = f"image id {image!r} is no whole number"
        elif not fault and candidates:
            fault = fault_of_candidates(candidates, str(answer))
        asked = Asked(
            str(number), str(image), f"{image}.png", str(question).strip(), _known(answers), candidates
        )  # fmt: skip
        yield from _take(asked, fault, skipped)


def _coco(_path: Path, data: Any, _annotations: Path | None, skipped: list[Skipped]) -> Iterable[Asked]:
    images = [record for record in data["images"] if isinstance(record, Mapping)]
    names = {str(record.get("id")): record.get("file_name") for record in images}
    twice_image = _repeated(record.get("id") for record in images)
    records = [record for record in data["annotations"] if isinstance(record, Mapping)]
    twice = _repeated(record.get("id") for record in records)
    lost = len(data["annotations"]) - len(records)
    skipped += [Skipped("question", "?", "it is no object")] * lost
    for record in records:
        key, image, given = record.get("id"), _image_name(record.get("image_id")), record.get("candidates")
        ten = record.get("answers")
        answers = _one_answer(record.get("answer")) if ten is None else _ten_answers(ten, record.get("answer"))
        fault = _fault(record.get("question"), answers)
        if "question" not in record:
            fault = "it has no question"
        elif key is None or str(key) in twice:
            fault = "its id is absent, or another's too"
        elif not image or image not in names:
            fault = f"its image {record.get('image_id')!r} is not listed"
        elif image in twice_image:
            fault = f"its image {image} is listed twice; which one is meant is unknown"
        elif unsafe := fault_of_file_name(names[image]):
            fault = f"of its image, the {unsafe}"
        elif not fault and given is not None and not isinstance(answers, str):
            fault = fault_of_candidates(given, answers[0][0])
        candidates = tuple(str(one).strip() for one in given) if isinstance(given, list) else ()
        question, group = str(record.get("question")).strip(), str(record.get("question_type") or "")
        yield from _take(
            Asked(str(key), image, str(names.get(image)), question, _known(answers), candidates, group), fault, skipped
        )


READERS: Mapping[str, Callable[[Path, Any, Path | None, list[Skipped]], Iterable[Asked]]] = {
    "VQAv2": _vqa, "GQA": _gqa, "easy-VQA": _easy_vqa, "COCO layout": _coco,
}  # fmt: skip
