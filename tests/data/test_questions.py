"""Questions as others publish them, and what is done with those that cannot be used."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from conftest import photograph

from attention_collapse.data.prior_shift import favoured_answers, with_prior
from attention_collapse.data.question_formats import easy_vqa_folder, read_questions
from attention_collapse.data.questions import (
    Asked,
    image_path,
    located,
    most_frequent,
    question_manifest,
    soft_credit,
    with_candidates,
)
from attention_collapse.errors import DataError


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def ten(*said):
    return [{"answer": answer, "answer_confidence": "yes", "answer_id": k} for k, answer in enumerate(said, start=1)]


def vqa(folder, questions, annotations, subtype="val2014"):
    """The two files of a split, with the keys that VQAv2 publishes."""
    shared = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": subtype}
    one = shared | {"task_type": "Open-Ended", "questions": questions}
    return (
        written(folder / "v2_OpenEnded_mscoco_val2014_questions.json", one),
        written(folder / "v2_mscoco_val2014_annotations.json", shared | {"annotations": annotations}),
    )


def question(number, text="What is it?", image=42):
    return {"image_id": image, "question": text, "question_id": number}


def annotation(number, said=("cat",) * 10, image=42, first="cat"):
    return {
        "question_id": number, "image_id": image, "question_type": "what is", "answer_type": "other",
        "multiple_choice_answer": first, "answers": ten(*said),
    }  # fmt: skip


def reasons(found):
    return {one.id: one.reason for one in found.skipped}


def test_vqa_credits_an_answer_by_how_many_of_ten_people_gave_it(tmp_path):
    said = ("cat", "Cat", "cat ", "cat", "dog", "dog", "dog", "kitten", "kitten", "pet")
    found = read_questions(*vqa(tmp_path, [question(1)], [annotation(1, said)]))
    (one,) = found.asked
    assert (found.layout, found.skipped) == ("VQAv2", ())
    assert (one.id, one.image, one.file_name) == ("1", "42", "COCO_val2014_000000000042.jpg")
    assert (one.right, one.group) == ("cat", "what is")
    assert [one.credit(answer) for answer in ("CAT", "dog", "kitten", "pet", "cow")] == pytest.approx(
        [1, 1, 2 / 3, 1 / 3, 0]
    )


def test_of_answers_said_equally_often_the_published_one_is_right():
    assert soft_credit(["a"] * 5 + ["b"] * 5, "b")[0][0] == "b"
    assert soft_credit(["a"] * 5 + ["b"] * 5)[0][0] == "a"
    assert soft_credit(["a"] * 6 + ["b"] * 4, "b")[0][0] == "a"


def test_what_vqa_files_leave_unclear_is_skipped_by_name(tmp_path):
    questions = [question(n) for n in (1, 2, 3, 4, 5, 5)] + [question(6, "  "), question(7, image="x"), []]
    annotations = [
        annotation(1), annotation(3, ("cat",) * 9), annotation(4, image=43), annotation(5), annotation(6),
        annotation(7), annotation(9),
    ]  # fmt: skip
    found = read_questions(*vqa(tmp_path, questions, annotations))
    assert [one.id for one in found.asked] == ["1"]
    said = reasons(found)
    assert said["2"] == "no annotation has its question_id"
    assert said["3"] == "9 answers: soft accuracy is of 10, exact match of one `answer`"
    assert said["4"] == "its annotation is of image 43, the question of 42"
    assert said["5"].startswith("duplicate question_id")
    assert said["6"].startswith("question is empty")
    assert said["7"] == "image_id 'x' is no whole number"
    assert said["9"] == "no question has its question_id"
    assert len(found.skipped) == 9  # the repeated one twice, and what is no object


def test_gqa_is_read_as_published_and_its_test_split_refused(tmp_path):
    item = {
        "imageId": "2370799", "question": "Is it red?", "answer": "no", "isBalanced": True, "semantic": [],
        "types": {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"},
    }  # fmt: skip
    odd = {key: value for key, value in item.items() if key != "answer"}
    good = {"201640614": item, "2": odd, "3": item | {"imageId": "../x"}, "4": item | {"answer": ["no"]}, "5": None}
    found = read_questions(written(tmp_path / "val_balanced_questions.json", good))
    assert found.asked == (Asked("201640614", "2370799", "2370799.jpg", "Is it red?", (("no", 1.0),), (), "verify"),)
    assert set(reasons(found)) == {"2", "3", "4", "5"}
    assert reasons(found)["2"] == "it has no answer"
    with pytest.raises(DataError, match=r"no question of 1 can be used.*(?s:.*)test splits have none"):
        read_questions(written(tmp_path / "test.json", {"2": odd}))


def test_easy_vqa_is_read_with_its_answers_as_candidates(tmp_path):
    (tmp_path / "answers.txt").write_text("yes\nno\nred\n")
    items = [["is it red?", "yes", 0], ["what color?", "mauve", 1], ["is it?", "no", "1"], ["two"], ["a?", "", 1]]
    written(tmp_path / "train" / "questions.json", items)
    found = read_questions(tmp_path / "train")
    assert found.asked == (Asked("0", "0", "0.png", "is it red?", (("yes", 1.0),), ("yes", "no", "red")),)
    assert reasons(found)["1"] == "its answer 'mauve' is none of its candidates"
    assert set(reasons(found)) == {"1", "2", "3", "4"}


def coco(folder, annotations, images=({"id": 1, "file_name": "a.png"},)):
    written(folder / "annotations" / "questions_val.json", {"images": list(images), "annotations": annotations})
    return folder


def ours(number, **other):
    return {"id": number, "image_id": 1, "question": "what?", "answer": "cat"} | other


def test_questions_in_a_coco_layout_folder(tmp_path):
    found = read_questions(coco(tmp_path, [
        ours(1), ours(2, candidates=["Cat", "dog"]), ours(3, answers=["cat"] * 9 + ["dog"]),
        ours(4, candidates=["dog", "cow"]), ours(5, candidates=["cat", "CAT "]), ours(6, candidates=["cat"]),
        ours(7, candidates="cat"), ours(8, image_id=2), ours(9, answer=None), ours(10), ours(10), ours(11, question=5),
        ours(12, answer="two\nlines"), {"id": 13, "image_id": 1, "caption": "a cat"},
    ]))  # fmt: skip
    assert [(one.id, one.candidates) for one in found.asked] == [("1", ()), ("2", ("Cat", "dog")), ("3", ())]
    assert found.asked[2].credit("dog") == pytest.approx(1 / 3)
    said = reasons(found)
    assert said["4"] == "its answer 'cat' is none of its candidates"
    assert said["5"] == "the same candidate twice"
    assert said["6"] == "1 candidates, 2 or more needed"
    assert said["7"] == "candidates is no list of answers"
    assert said["8"] == "its image 2 is not listed"
    assert said["9"] == "it has no answer"
    assert said["13"] == "it has no question"
    assert {"10", "11", "12"} < set(said)


@pytest.mark.parametrize("path", ["../a.png", "/a.png", "", 3, None])
def test_a_file_name_that_leaves_its_folder_is_refused(tmp_path, path):
    images = [{"id": 1, "file_name": path}, {"id": 2, "file_name": "b.png"}]
    found = read_questions(coco(tmp_path, [ours(1), ours(2, image_id=2)], images))
    assert [one.id for one in found.asked] == ["2"]
    assert "plain path" in reasons(found)["1"]


@pytest.mark.parametrize(
    "content", [[], [1, 2], {}, {"images": [], "annotations": [{"caption": "x"}]}, "text", None, {"a": {"b": 1}}]
)
def test_a_file_without_questions_is_refused_with_what_is_read(tmp_path, content):
    with pytest.raises(DataError, match=r"no known layout of questions(?s:.*)VQAv2, GQA or easy-VQA"):
        read_questions(written(tmp_path / "x.json", content))


def test_vqa_needs_its_second_file_and_no_other_takes_one(tmp_path):
    questions, annotations = vqa(tmp_path, [question(1)], [annotation(1)])
    with pytest.raises(DataError, match="VQAv2 questions without a file of annotations"):
        read_questions(questions)
    with pytest.raises(DataError, match="no list under 'annotations'"):
        read_questions(questions, questions)
    with pytest.raises(DataError, match="COCO layout questions with a file of annotations"):
        read_questions(coco(tmp_path / "ours", [ours(1)]), annotations)
    with pytest.raises(DataError, match="0 files of questions"):
        read_questions(tmp_path / "ours" / "annotations")


def asked(number, answer="cat", image="1", text="what?", candidates=()):
    answers = answer if isinstance(answer, tuple) else ((answer, 1.0),)
    return Asked(str(number), image, f"{image}.png", text, answers, candidates)


def test_the_most_frequent_answers_are_candidates_and_the_rest_is_named():
    some = [asked(n, answer) for n, answer in enumerate(["No", "yes", "yes", "no", "yes", "blue", "red", "red"])]
    assert [answer.lower() for answer in most_frequent(some, 3)] == ["yes", "no", "red"]
    assert len(most_frequent(some, 99)) == 4
    kept, skipped = with_candidates(some, ("yes", "no", "red"))
    assert len(kept) == 7
    assert [(one.id, one.reason) for one in skipped] == [("5", "'blue' is none of the 3 candidates")]
    with pytest.raises(DataError, match="1 different answers"):
        most_frequent(some[1:3], 10)


def test_a_soft_answer_among_the_candidates_is_the_right_one():
    one = asked(1, (("tabby", 1.0), ("cat", 2 / 3), ("pet", 1 / 3)))
    (kept,), skipped = with_candidates([one], ("cat", "pet"))
    assert (kept.right, kept.credit("cat"), kept.credit("tabby"), skipped) == ("cat", 2 / 3, 1.0, [])
    given = replace(one, candidates=("tabby", "dog"))
    assert with_candidates([given], ("cat", "pet"))[0] == [given]


def test_images_are_decoded_once_and_those_that_cannot_be_are_named(tmp_path):
    photograph(tmp_path / "1.png")
    (tmp_path / "2.png").write_text("no picture")
    photograph(tmp_path / "000000000042.jpg")
    name = "COCO_val2014_000000000042.jpg"
    some = [asked(1), asked(2), asked(3, image="2"), asked(4, image="3"), replace(asked(5, image="42"), file_name=name)]
    found, skipped = located(some, tmp_path)
    assert [one.asked.id for one in found] == ["1", "2", "5"]
    assert found[2].path == image_path(tmp_path, name) == tmp_path / "000000000042.jpg"
    assert {one.id for one in skipped} == {"2", "3"}


def test_a_manifest_pins_questions_and_tells_none(tmp_path):
    photograph(tmp_path / "1.png")
    file = written(tmp_path / "q.json", [])
    found, _ = located([asked(1, "a secret"), asked(2)], tmp_path)
    one = question_manifest("mine", {"q.json": file}, found, [])
    assert (one["n_images"], one["n_questions"], one["images"][0]["n_questions"]) == (1, 2, 2)
    assert "secret" not in json.dumps(one)
    assert "what?" not in json.dumps(one)
    for other in ({"answers": (("another", 1.0),)}, {"question": "who?"}, {"candidates": ("a", "b")}):
        changed = [replace(found[0], asked=replace(found[0].asked, **other)), found[1]]
        assert question_manifest("mine", {"q.json": file}, changed, []) != one


def shares(questions, kept, favoured):
    counted = defaultdict(Counter)
    for position in kept:
        counted[questions[position].question][questions[position].right == favoured[questions[position].question]] += 1
    return {text: counts[True] / counts.total() for text, counts in counted.items()}


@pytest.fixture
def many():
    answers = {"is it?": ["yes", "no"], "was it?": ["yes", "no"], "what?": ["red", "blue", "green"]}
    return [
        asked(f"{text}{k}", some[k % len(some)], str(k), text) for text, some in answers.items() for k in range(300)
    ]


@pytest.mark.parametrize("share", [0.9, 0.1, 0.5])
def test_a_shifted_prior_makes_the_favoured_answer_right_for_its_share(many, share):
    favoured = favoured_answers(many, 0)
    kept = with_prior(many, favoured, share, 0)
    assert kept == sorted(set(kept))
    assert shares(many, kept, favoured) == pytest.approx(dict.fromkeys(favoured, share), abs=0.01)
    assert kept == with_prior(many, favoured, share, 0) != with_prior(many, favoured, share, 1)


def test_wordings_with_the_same_answers_favour_them_in_turn(many):
    for seed in range(5):
        favoured = favoured_answers(many, seed)
        assert {favoured["is it?"], favoured["was it?"]} == {"yes", "no"}
    assert len({favoured_answers(many, seed)["what?"] for seed in range(20)}) == 3


def test_easy_vqa_has_the_counts_that_its_page_and_ours_give():
    pytest.importorskip("easy_vqa")
    found = {split: read_questions(easy_vqa_folder() / split) for split in ("train", "test")}
    assert {split: len(one.asked) for split, one in found.items()} == {"train": 38575, "test": 9673}
    assert {split: len({q.image for q in one.asked}) for split, one in found.items()} == {"train": 4000, "test": 1000}
    for split, share in (("train", 0.667), ("test", 0.678)):
        assert not found[split].skipped
        counted = defaultdict(Counter)
        for one in found[split].asked:
            counted[one.question][one.right] += 1
        best = sum(max(counts.values()) for counts in counted.values()) / len(found[split].asked)
        assert best == pytest.approx(share, abs=5e-4)
