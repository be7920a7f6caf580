"""Pieces that this process makes: whole, once, and told of."""

import pytest
from ray_pieces import Numbers

from attention_collapse.engine.pieces import here
from attention_collapse.errors import DataError, PipelineError
from attention_collapse.progress import told


def made(folder):
    return sorted(int(file.stem) for file in folder.glob("*.json"))


def test_a_full_disk_is_said_and_the_next_run_makes_the_rest_and_says_so(tmp_path, capsys):
    folder, trace = tmp_path / "work", tmp_path / "trace"
    with pytest.raises(PipelineError, match=r"3\.json: cannot be written \(No space left on device\)(.|\n)*make room"):
        here(Numbers(6, folder, trace, {3: "full"}), None)
    assert made(folder) == [0, 1, 2] and not list(folder.glob(".*.tmp"))
    assert "earlier run" not in capsys.readouterr().err
    trace.unlink()
    pieces = Numbers(6, folder, trace)
    here(pieces, None)
    assert "numbers: 3 of 6 are there from an earlier run, 3 are made now" in capsys.readouterr().err
    assert [line.split()[0] for line in trace.read_text().splitlines()] == ["3", "4", "5"]
    assert [pieces[piece]["square"] for piece in range(6)] == [0, 1, 4, 9, 16, 25]
    (folder / "2.json").unlink()
    with told(False):
        here(pieces, None)
    assert made(folder) == list(range(6)) and capsys.readouterr().err == ""


def test_a_poisoned_piece_ends_the_run_and_what_was_made_stays(tmp_path):
    with pytest.raises(DataError, match="piece 2 is poisoned"):
        here(Numbers(6, tmp_path / "work", tmp_path / "trace", {2: "poisoned"}), None)
    assert made(tmp_path / "work") == [0, 1]


def test_pieces_of_something_else_are_removed_and_those_in_memory_need_no_folder(tmp_path):
    folder = tmp_path / "work"
    here(Numbers(3, folder, tmp_path / "trace"), None)
    (folder / "identity.txt").write_text("y\n")
    assert Numbers(3, folder, tmp_path / "trace").missing(Numbers(3, None, tmp_path / "t").rounds[0]) == [0, 1, 2]
    pieces = Numbers(3, None, tmp_path / "trace")
    here(pieces, None)
    assert [pieces[piece]["square"] for piece in range(3)] == [0, 1, 4]


def test_a_piece_that_another_needs_is_made_where_it_is_missing(tmp_path):
    pieces = Numbers(3, tmp_path / "work", tmp_path / "trace")
    with pieces.making(None) as make:
        assert pieces.made(1, make)["square"] == 1 and pieces.made(1, make)["square"] == 1
    assert made(tmp_path / "work") == [1] and len((tmp_path / "trace").read_text().splitlines()) == 1
