"""What may be written after `attention-collapse`: every command with its options, and nothing of what it does."""

from __future__ import annotations

import argparse
from pathlib import Path

MODEL = (
    "a name from `attention-collapse models`, a checkpoint folder, a weights file, a PEFT folder, or a hub id "
    "(organisation/name, hf-hub:organisation/name)"
)


def _whole(text: str, least: int) -> int:
    """A whole number for argparse, which would otherwise name our function."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is {'negative' if least == 0 else f'not {least} or more'}")
    return value


def _positive(text: str) -> int:
    return _whole(text, 1)


def _not_negative(text: str) -> int:
    return _whole(text, 0)


def _imbalance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0.5 <= value < 1:
        raise argparse.ArgumentTypeError(f"{value} is no imbalance: 0.5 (balanced) to below 1")
    return value


def _path(text: str) -> Path:
    """A path; an empty one would be the working folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path")
    return Path(text)


def _own_path(text: str) -> Path:
    """A path that means the same wherever the command works."""
    return _path(text).absolute()


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `command` names the one, `in_repository` says whether it works on a repository."""
    parser = argparse.ArgumentParser(prog="attention-collapse", description="Modality use of vision-language models.")
    parser.set_defaults(in_repository=False)
    commands = parser.add_subparsers(required=True, dest="command", metavar="command")
    _add_diagnose(commands.add_parser("diagnose", help="measure one model on your pairs"))
    _add_questions(commands.add_parser("questions", help="measure what a model answers, and what that depends on"))
    _add_information(commands.add_parser(
        "information",
        help="measure what image and text tell of a label",
        description="What the image tells of a label beyond the text, and the text beyond the image, in nats: the "
        "log-loss that it saves a predictor, on images that the predictor was not trained on. The features are a dual "
        "encoder's embeddings (--model and --pairs) or your own (--features).",
    ))  # fmt: skip
    _add_pairs(commands.add_parser(
        "pairs",
        help="say what a source of pairs is, or convert it",
        description="Pairs of image and caption as people have them: COCO, CSV, TSV, JSON, JSON Lines, an imagefolder, "
        "saved datasets, Parquet, webdataset tars, Flickr30k, Karpathy's splits, SugarCrepe, VALSE (docs/data.md).",
    ))  # fmt: skip
    _add_explore(
        commands.add_parser("explore", help="write a page to look with, of a study or of a model on your pairs")
    )
    _add_plan(commands.add_parser(
        "plan",
        help="say what a study costs before it runs",
        description="How often each model of a study runs, step by step, and how long that takes on the machines where "
        "a few pairs were timed (--calibrate). Without --calibrate nothing is loaded, and nothing is ever downloaded.",
    ))  # fmt: skip
    commands.add_parser("models", help="list the models there are")
    known = commands.add_parser("measures", help="list the measures there are, and what each means")
    known.add_argument("name", nargs="?", help="only those with this in their name, such as reliance")
    known.add_argument("--write", action="store_true", help="write their table into this repository's docs instead")
    gate = commands.add_parser(
        "check",
        help="exit 1 if a model of a study is severe",
        description="Exit 1 if a model under test is severe, 0 if none is; a model without a verdict is named, and if "
        "no model has one, nothing was checked, and the exit status is 1. At the bound that the study tests "
        "(stats.severe), severe means that its one-sided test, corrected over the models under test, rejects; at any "
        "other, that the lower bound of the mean's confidence interval lies above it. Controls are never judged.",
    )
    gate.add_argument(
        "--max-imbalance", type=_imbalance, help="mean of max(s, 1 - s) (default: the study's stats.severe)"
    )
    gate.add_argument("--study", default="embedded", help="a study whose statistics are here (default: embedded)")
    gate.add_argument("--measure", help="the share s (default: the study's decision.measure)")
    gate.set_defaults(in_repository=True)
    commands.add_parser("verify", help="re-run the embedded study and compare every number").set_defaults(
        in_repository=True
    )
    current = commands.add_parser("status", help="exit 1 if a committed result is out of date")
    current.set_defaults(in_repository=True)
    evidence = commands.add_parser(
        "evidence", help="exit 1 unless every printed number leads to its line in the metrics"
    )
    evidence.add_argument("action", choices=("check",))
    evidence.set_defaults(in_repository=True)
    diff = commands.add_parser("diff", help="metrics and decisions of two git revisions, as Markdown")
    diff.add_argument("old", metavar="REV", help="branch, tag or commit")
    diff.add_argument("new", metavar="REV", nargs="?", help="the other one (default: the working tree)")
    diff.add_argument("--all", action="store_true", help="list every value that changed")
    diff.set_defaults(in_repository=True)
    lines = commands.add_parser("pipeline", help="exit 1 unless every study's dvc.yaml is the one described")
    lines.add_argument("--write", action="store_true", help="write them instead")
    lines.set_defaults(in_repository=True)
    track = commands.add_parser("track", help="mirror the results into MLflow")
    track.add_argument(
        "--uri",
        help="tracking server (default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db); a relative path begins at the "
        "repository's root",
    )
    track.set_defaults(in_repository=True)
    return parser


def _add_of_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind",
        help="kind of the checkpoint, in place of what its files say; with python or scorer, --model is a "
        "package.module:function",
    )
    parser.add_argument(
        "--architecture",
        help="what a weights file is of: open_clip's name (ViT-B-32), or a folder with the configuration",
    )
    parser.add_argument("--revision", help="the commit of a hub id, 40 hex digits (also as organisation/name@commit)")
    parser.add_argument("--adapter", help="a PEFT folder or hub id with a LoRA, merged into the model")


def _add_diagnose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=MODEL)
    _add_of_model(parser)
    parser.add_argument("--pairs", required=True, type=_path, help="pairs in any format that docs/data.md lists")
    _add_source(parser)
    _add_foils(parser)
    parser.add_argument("--n", type=_positive, help="number of images, a seeded subset (default: all)")
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of the subset (default: 0)")
    parser.add_argument(
        "--rows", choices=("all", "readout"), default="all", help="query rows to average over (default: all)"
    )
    _add_device(parser)
    parser.add_argument(
        "--partners",
        type=_not_negative,
        default=8,
        help="ablation partners of the causal measures (default: 8; 0: none)",
    )
    parser.add_argument(
        "--t-shap-protocol",
        choices=("native", "mm-shap"),
        help="also explain single tokens and image cells, T-SHAP: native (the model's own mask token and score) or "
        "mm-shap (as the published code of MM-SHAP does); default: no T-SHAP",
    )
    parser.add_argument("--t-shap-images", type=_positive, default=16, help="images that T-SHAP explains (default: 16)")
    parser.add_argument("--strict", action="store_true", help="fail on an unusable image or caption")
    _add_max_unknown(parser)
    parser.add_argument("--out", type=_path, help="also write the result as JSON")
    parser.add_argument(
        "--per-pair", type=_path, metavar="FILE", help="also write every pair's values, as .csv or .parquet by its name"
    )
    parser.add_argument(
        "--plots", type=_path, metavar="DIR", help="also draw the figures into a folder, as PNG and PDF"
    )
    parser.add_argument(
        "--work", type=_path, metavar="DIR", help="keep finished batches there, so that an interrupted run goes on"
    )
    parser.add_argument("--quiet", action="store_true", help="tell nothing of the progress on standard error")
    _add_engine(parser)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine", "who runs it; no number depends on it (docs/cluster.md)")
    group.add_argument("--engine", choices=("local", "ray"), default="local", help="this process, or actors of Ray")
    group.add_argument("--actors", type=_positive, help="with ray: how many, each with a model of its own (default: 1)")
    group.add_argument("--gpus", type=float, help="with ray: GPUs of an actor, may be a part of one (default: 0)")
    group.add_argument("--address", help="with ray: host:port, auto, or local (default: auto)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:1 …, or auto: what this machine has (default: cpu)"
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=32, help="images, captions or pairs per pass (default: 32)"
    )


def _add_max_unknown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-unknown", type=float, metavar="SHARE", help="share of the captions' tokens that may be unknown to the "
        "model, 0 to 1; with more it is refused (default: 0.5)",
    )  # fmt: skip


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split", metavar="NAME", help="the split to read, of a source that has several, such as val2017"
    )
    parser.add_argument(
        "--columns", metavar="ROLE=NAME,…", help="the columns or keys, where they are not known: image=…,caption=…"
    )
    parser.add_argument("--images", type=_path, metavar="DIR", help="the folder in which the names of images begin")


def _add_foils(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--foils",
        action="append",
        metavar="PATH",
        help="hard foils: a file of SugarCrepe or VALSE, or a folder of them",
    )


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="say what a source is recognised as, how much it lists, and its first items")
    convert = actions.add_parser("convert", help="write a source as a folder in COCO's layout, its images copied")
    for action in (show, convert):
        action.add_argument("source", metavar="SOURCE", help="a file, a folder, a pattern of shards, or a hub id")
        _add_source(action)
        _add_foils(action)
    convert.add_argument("out", metavar="OUT", type=_path, help="the folder to write, which is not there yet")
    convert.add_argument("--n", type=_positive, help="number of images, a seeded subset (default: all)")
    convert.add_argument("--seed", type=_not_negative, default=0, help="seed of the subset (default: 0)")
    convert.add_argument("--strict", action="store_true", help="fail if anything is skipped")
    convert.add_argument("--overwrite", action="store_true", help="replace OUT, if it holds COCO's layout alone")


def _add_questions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=MODEL)
    _add_of_model(parser)
    parser.add_argument("--questions", required=True, type=_path, help="VQAv2, GQA, easy-VQA or a COCO-layout folder")
    parser.add_argument("--annotations", type=_path, help="VQAv2's second file, with the answers")
    parser.add_argument("--images", type=_path, help="folder of the images (default: beside the questions)")
    parser.add_argument(
        "--candidates",
        type=_positive,
        help="how many of the most frequent answers are candidates, where the questions name none",
    )
    parser.add_argument("--n", type=_positive, help="number of images, a seeded subset (default: all)")
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of subset and partners (default: 0)")
    parser.add_argument(
        "--partners", type=_positive, default=8, help="other pairs that lend image and question (default: 8)"
    )
    _add_device(parser)
    parser.add_argument("--strict", action="store_true", help="fail on a question that cannot be used")
    parser.add_argument("--out", type=_path, help="also write the result as JSON")


def _add_explore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", help="a study that has run (embedded): its overview and training views")
    parser.add_argument("--model", help=f"instead: {MODEL}")
    _add_of_model(parser)
    parser.add_argument("--pairs", type=_path, help="with --model: pairs in any format that docs/data.md lists")
    parser.add_argument(
        "--split", metavar="NAME", help="the split to read, of a source that has several, such as val2017"
    )
    parser.add_argument("--columns", metavar="ROLE=NAME,…", help="the columns or keys: image=…,caption=…")
    parser.add_argument("--images", type=_path, metavar="DIR", help="the folder in which the names of images begin")
    parser.add_argument("--n", type=_positive, help="images that are scored, a seeded subset (default: at most 100)")
    parser.add_argument("--show", type=_positive, default=4, help="pairs on the page, chosen by a rule (default: 4)")
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of the subset and of partners (default: 0)")
    _add_device(parser)
    parser.add_argument("--no-twin", action="store_true", help="leave out the untrained twin (a large model twice)")
    _add_max_unknown(parser)
    parser.add_argument(
        "--t-shap", action="store_true", help="also show what each word and image cell adds to the score"
    )
    parser.add_argument("--strict", action="store_true", help="fail on an unusable image or caption")
    parser.add_argument("--out", type=_path, help="the HTML file to write")
    live = parser.add_argument_group("live", "instead of a file: a page that takes a picture and a caption of yours")
    live.add_argument(
        "--serve", action="store_true", help="serve such a page; --pairs, where given, are what is swapped in"
    )
    live.add_argument("--host", default="127.0.0.1", help="the address that is listened on (default: 127.0.0.1)")
    live.add_argument("--port", type=_positive, default=7860, help="its port (default: 7860)")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", help="a study of params.yaml or studies/*/params.yaml: embedded, coco"
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="first time a few pairs of each model whose weights are here"
    )
    parser.add_argument(
        "--calibration", type=_own_path, action="append", metavar="FILE",
        help="measurements of a machine, several times for several machines; --calibrate writes the first (default: "
        "build/calibration-STUDY.json)",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="with --calibrate: measure this model of the study alone"
    )
    parser.add_argument(
        "--pairs", type=_own_path, metavar="SOURCE", help="with --calibrate: time pairs of this source (docs/data.md), "
        "where the study's own are not fetched",
    )  # fmt: skip
    parser.add_argument("--device", help="with --calibrate: measure on this device in place of the study's")
    parser.add_argument("--out", type=_own_path, metavar="FILE", help="also write the plan as JSON")
    parser.set_defaults(in_repository=True)


def _add_information(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", required=True, type=_path, help="CSV (image_id,label) or JSON (image id -> label)")
    parser.add_argument("--model", help=f"a dual encoder: {MODEL}")
    _add_of_model(parser)
    parser.add_argument("--pairs", type=_path, help="pairs in any format that docs/data.md lists")
    _add_source(parser)
    parser.add_argument(
        "--features",
        type=_path,
        help="in place of a model: .npz with image_id (n,), image (n, width) and text (n, width)",
    )
    parser.add_argument("--folds", type=_positive, default=5, help="folds of the cross-fitting (default: 5)")
    parser.add_argument(
        "--components", type=_positive, default=16, help="principal components kept of each modality (default: 16)"
    )
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of the folds (default: 0)")
    _add_device(parser)
    parser.add_argument("--strict", action="store_true", help="fail on an image or a label without the other")
    parser.add_argument("--out", type=_path, help="also write the result as JSON")
