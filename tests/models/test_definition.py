"""Files of a checkpoint folder that are no JSON objects: which file, and where in it."""

import json
import shutil

import pytest
from tiny.encoders import write_clip
from tiny.inhouse import write_fusion_v2

from attention_collapse.cli import main
from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.catalogue import named
from attention_collapse.models.definition import OBJECTS, read_object
from attention_collapse.models.spec import ModelSpec


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    write_clip(root / "clip")
    write_fusion_v2(root / "fusion-v2")
    return root


@pytest.fixture
def clip(originals, tmp_path):
    return shutil.copytree(originals / "clip", tmp_path / "clip")


def text(content):
    return lambda file: file.write_bytes(content)


def folder_of_that_name(file):
    file.unlink(missing_ok=True)
    file.mkdir()


def link_to_nothing(file):
    file.unlink(missing_ok=True)
    file.symlink_to(file.with_name("gone"))


# how a file is spoilt -> what is said of it, worked out by hand
SPOILT = {
    "cut short": (text(b'{\n  "a": 1,\n  "b": '), "not JSON: Expecting value at line 3, column 8"),
    "a comma too many": (text(b'{"a": 1,\n}'), "not JSON: .* at line (1, column 8|2, column 1)"),
    "single quotes": (text(b"{'a': 1}"), "not JSON: .* at line 1, column 2"),
    "a page of HTML": (text(b"<!DOCTYPE html>"), "not JSON: Expecting value at line 1, column 1"),
    "a pointer of Git LFS": (text(b"version https://git-lfs.github.com/spec/v1\n"), "not JSON: .* line 1, column 1"),
    "empty": (text(b""), "empty"),
    "spaces": (text(b" \n"), "empty"),
    "a list": (text(b'[{"model_type": "clip"}]'), "JSON, but a list in place of an object"),
    "a string": (text(b'"clip"'), "JSON, but a string in place"),
    "null": (text(b"null"), "JSON, but null in place"),
    "UTF-16": (lambda file: file.write_text("{}", "utf-16"), "in UTF-16"),
    "a byte order mark": (lambda file: file.write_text("{}", "utf-8-sig"), "in UTF-8 with a byte order mark"),
    "Latin-1": (text('{\n"a": "é"}'.encode("latin-1")), "not UTF-8: byte 0xe9 in line 2"),
    "nested deep": (text(b"[" * 100_000), "not JSON that can be read: nested too deep"),
    "a folder": (folder_of_that_name, "a folder, not a file"),
    "a link to nothing": (link_to_nothing, "a link to a file that is not there"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_file_is_named_with_the_place_and_never_called_absent(spoil, tmp_path):
    damage, said = SPOILT[spoil]
    damage(tmp_path / "config.json")
    with pytest.raises(ModelError, match=f"config.json is {said}"):
        read_object(tmp_path / "config.json")
    with pytest.raises(ModelError, match=f"config.json is {said}"):
        named(str(tmp_path))


def test_an_absent_file_is_called_absent(tmp_path):
    with pytest.raises(ModelError, match="config.json is absent"):
        read_object(tmp_path / "config.json")
    with pytest.raises(ModelError, match="open_clip_config.json is absent, and so is config.json"):
        named(str(tmp_path))


def test_a_model_type_that_is_no_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": ["clip"]}')
    with pytest.raises(ModelError, match=r"model_type \['clip'\]"):
        named(str(tmp_path))


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("spoil", ["cut short", "a list", "empty", "a folder"])
def test_every_file_that_the_libraries_read_is_checked_before_they_read_it(name, spoil, clip):
    damage, said = SPOILT[spoil]
    (clip / name).unlink(missing_ok=True)
    damage(clip / name)
    with pytest.raises(ModelError, match=f"{name} is {said}"):
        load("m", ModelSpec(kind="clip", weights="checkpoint", path=str(clip)))


@pytest.mark.parametrize("spoil", ["cut short", "a list", "UTF-16", "a folder"])
def test_open_clips_configuration_too(spoil, tiny_openclip, tmp_path):
    folder = shutil.copytree(tiny_openclip, tmp_path / "model")
    damage, said = SPOILT[spoil]
    (folder / "open_clip_config.json").unlink()
    damage(folder / "open_clip_config.json")
    assert named(str(folder)).kind == "openclip"
    with pytest.raises(ModelError, match=f"open_clip_config.json is {said}"):
        load("m", named(str(folder)))


@pytest.mark.parametrize("config", [{}, {"model_cfg": []}, {"model_cfg": {}, "preprocess_cfg": 3}])
def test_an_openclip_configuration_without_its_parts(config, tiny_openclip, tmp_path):
    folder = shutil.copytree(tiny_openclip, tmp_path / "model")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="(model_cfg|preprocess_cfg) is absent or no object"):
        load("m", named(str(folder)))


@pytest.mark.parametrize("file", ["config.json", "text_encoder/config.json", "image_encoder/open_clip_config.json"])
def test_the_in_house_folders_parts_too(file, originals, tmp_path):
    folder = shutil.copytree(originals / "fusion-v2", tmp_path / "fusion-v2")
    (folder / file).write_text("{")
    with pytest.raises(ModelError, match=f"{file} is not JSON: .* at line 1, column 2"):
        load("m", ModelSpec(kind="fusion-v2", weights="checkpoint", path=str(folder)))


def test_on_the_command_line(clip, capsys):
    (clip / "config.json").write_text("{")
    assert main(["diagnose", "--model", str(clip), "--pairs", str(clip)]) == 1
    printed = capsys.readouterr().err
    assert "config.json is not JSON" in printed and "absent" not in printed and "Traceback" not in printed


@pytest.mark.parametrize(
    "changes",
    [
        {"vision_config": 3},
        {"projection_dim": "wide"},
        {"text_config": {"num_attention_heads": 0}},
        {"vision_config": {"hidden_size": -1}},
        {"vision_config": {"patch_size": 0}},
        {"text_config": {"hidden_act": "no such function"}},
        {"torch_dtype": "float99"},
    ],
)
def test_a_configuration_of_json_that_describes_no_model_is_one_clear_error(changes, clip):
    config = json.loads((clip / "config.json").read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (clip / "config.json").write_text(json.dumps(config))
    for weights in ({"weights": "checkpoint", "path": str(clip)},
                    {"weights": "untrained", "architecture": str(clip), "seed": 0}):  # fmt: skip
        try:
            load("m", ModelSpec(kind="clip", **weights))
        except ModelError as error:
            assert "cannot be used" in error.got or "cannot be loaded" in error.got
        else:
            assert changes == {"torch_dtype": "float99"}  # what dtype the file was in does not matter
