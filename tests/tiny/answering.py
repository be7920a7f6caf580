"""Tiny checkpoints that answer questions: those of `encoders` and `inhouse` with the heads that answer."""

import json
from pathlib import Path

from attention_collapse.models.small import write_answering
from tiny.encoders import _build, write_blip, write_vilt

ANSWERS = ("yes", "no", "red", "two")


def _with_head(folder: Path, class_name: str, **settings: object) -> None:
    """Replace the weights by those of another class of the library with the same configuration."""
    import transformers

    cls = getattr(transformers, class_name)
    config = cls.config_class.from_pretrained(folder)
    config.architectures = [class_name]
    for key, value in settings.items():
        setattr(config, key, value)
    _build(cls, config).save_pretrained(folder)


def write_vilt_vqa(folder: Path) -> None:
    """ViltForQuestionAnswering with four answers."""
    write_vilt(folder)
    labels = dict(enumerate(ANSWERS))
    _with_head(
        folder, "ViltForQuestionAnswering", id2label=labels, label2id={answer: i for i, answer in labels.items()}
    )


def write_blip_vqa(folder: Path) -> None:
    """BlipForQuestionAnswering."""
    write_blip(folder)
    _with_head(folder, "BlipForQuestionAnswering")


def write_v2_answers(folder: Path) -> None:
    """The in-house V2 with a head of four answers."""
    write_answering("fusion-v2", folder, ("a", "cat", "is", "it", "there", "what", *ANSWERS), ANSWERS, 0)


def change(folder: Path, **settings: object) -> None:
    """Other values in config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), "utf-8")
