"""The command line: one subcommand per job; `attention-collapse --help` lists them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

from attention_collapse.errors import AttentionCollapseError, ParamsError, PipelineError
from attention_collapse.explain import explained
from attention_collapse.repository.root import find_root
from attention_collapse.streams import readable_streams

MODEL = (
    "a name from `attention-collapse models`, a checkpoint folder, a weights file, a PEFT folder, or a hub id "
    "(organisation/name, hf-hub:organisation/name)"
)


def _model(arguments: argparse.Namespace) -> Any:
    """What `--model` names together with what is said of it beside; None where no model is asked for."""
    from attention_collapse.models.naming import Asked, resolve

    if not arguments.model:
        return None
    said = Asked(arguments.kind, arguments.architecture, arguments.revision, arguments.adapter)
    return resolve(arguments.model, said)


def _diagnose(arguments: argparse.Namespace) -> int:
    if arguments.quiet or not sys.stderr.isatty():  # the hub's bars would fill a log; read when its library is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from attention_collapse.diagnosis import diagnose
    from attention_collapse.report.diagnosis import Outputs

    outputs = Outputs.of(arguments.out, arguments.per_pair, arguments.plots)  # checked before anything is computed
    result = diagnose(
        _model(arguments), arguments.pairs, n=arguments.n, seed=arguments.seed, rows=arguments.rows,
        device=arguments.device, batch_size=arguments.batch_size, partners=arguments.partners,
        t_shap_protocol=arguments.t_shap_protocol, t_shap_images=arguments.t_shap_images,
        strict=arguments.strict, max_unknown=arguments.max_unknown, work=arguments.work,
        progress=not arguments.quiet, **_of_source(arguments),
    )  # fmt: skip
    _print_then_write(result.text(), lambda: result.save(outputs))
    return 0


def _of_source(arguments: argparse.Namespace) -> dict[str, Any]:
    """How a source of pairs is read."""
    return {name: getattr(arguments, name) for name in ("split", "columns", "images", "foils")}


def _pairs(arguments: argparse.Namespace) -> int:
    from attention_collapse.data.convert import convert_pairs
    from attention_collapse.data.source import recognise
    from attention_collapse.progress import told
    from attention_collapse.report.pairs import converted, shown

    wanted = _of_source(arguments)
    with told(True):
        if arguments.action == "show":
            del wanted["foils"]
            print(shown(recognise(arguments.source, **wanted)))
            return 0
        pairs = convert_pairs(
            arguments.source, arguments.out, overwrite=arguments.overwrite, n=arguments.n, seed=arguments.seed,
            strict=arguments.strict, **wanted,
        )  # fmt: skip
    print(converted(pairs, arguments.out))
    return 0


def _print_then_write(text: str, write: Callable[[], Sequence[Path]]) -> None:
    """Neither a full disk nor a closed output loses what the other would have kept."""
    try:
        print(text, flush=True)
    finally:
        written = write()
    if written:
        print("", *(f"written to {file}" for file in written), sep="\n")


def _information(arguments: argparse.Namespace) -> int:
    from attention_collapse.arguments import output_file
    from attention_collapse.information import usable_information
    from attention_collapse.progress import told

    file = output_file("out", arguments.out)
    with told(True):
        result = usable_information(
            arguments.labels, model=_model(arguments), pairs=arguments.pairs, features=arguments.features,
            folds=arguments.folds, components=arguments.components, seed=arguments.seed, device=arguments.device,
            batch_size=arguments.batch_size, strict=arguments.strict,
        )  # fmt: skip
    _print_then_write(result.text(), lambda: result.save(file))
    return 0


def _questions(arguments: argparse.Namespace) -> int:
    from attention_collapse.arguments import output_file
    from attention_collapse.progress import told
    from attention_collapse.questions import answer_questions

    file = output_file("out", arguments.out)
    with told(True):
        result = answer_questions(
            _model(arguments), arguments.questions, annotations=arguments.annotations, images=arguments.images,
            candidates=arguments.candidates, n=arguments.n, seed=arguments.seed, partners=arguments.partners,
            device=arguments.device, batch_size=arguments.batch_size, strict=arguments.strict,
        )  # fmt: skip
    _print_then_write(result.text(), lambda: result.save(file))
    return 0


def _explore(arguments: argparse.Namespace) -> int:
    from attention_collapse.exploration import explore, explore_study

    if bool(arguments.study) == bool(arguments.model) or (arguments.study and arguments.pairs):
        raise ParamsError(
            "--study, or --model with --pairs, is asked for",
            expected="one of the two",
            remedy="explore a study (--study embedded), or a model on your pairs (--model NAME --pairs FOLDER)",
        )
    if arguments.study:
        page = explore_study(arguments.study, find_root(), arguments.out)
    else:
        page = explore(
            _model(arguments), arguments.pairs, split=arguments.split, columns=arguments.columns,
            images=arguments.images, n=arguments.n, show=arguments.show, seed=arguments.seed,
            device=arguments.device, batch_size=arguments.batch_size, twin=not arguments.no_twin,
            t_shap=arguments.t_shap, strict=arguments.strict, max_unknown=arguments.max_unknown, out=arguments.out,
        )  # fmt: skip
    print(f"{arguments.out}: {len(page.html.encode('utf-8')) / 2**20:.1f} MiB; open it in a browser")
    return 0


def _models(_: argparse.Namespace) -> int:
    from attention_collapse.inventory import listing

    rows = listing()
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nLicences are noted as far as known: the model's page is what counts. Memory is that of the weights.")
    print("A hub id, a folder, a weights file or a LoRA may stand in place of a name: docs/your_model.md. A study pins")
    print("each hub revision at its first run and insists on it from then on.")
    return 0


def _measures(arguments: argparse.Namespace) -> int:
    from attention_collapse.report.measures import listing, write_tables

    if not arguments.write:
        print(listing())
        return 0
    for file in write_tables(find_root()):
        print(f"{file}: written")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from attention_collapse.repository.check import check

    verdict = check(arguments.study, arguments.max_imbalance, arguments.measure)
    print("\n".join(verdict.lines))
    if not verdict.judged:
        raise PipelineError(
            f"no model of the study {arguments.study!r} has a verdict, so nothing was checked",
            expected="a model under test (no control) that has a test of the measure",
            remedy="name another --measure, or add a model under `models` and run `dvc repro`",
        )
    return 1 if verdict.severe else 0


def _verify(_: argparse.Namespace) -> int:
    from attention_collapse.repository.verify import verification_text, verify

    found = verify()
    print(verification_text(found))
    _say_departures()
    return 1 if found.mismatches else 0


def _say_departures() -> None:
    """What of the environment is not what requirements.txt pins: a note, for numbers may follow it."""
    from attention_collapse.identity.environment import departures

    for departure in departures(Path()):
        print(f"note: {departure}")


def _status(_: argparse.Namespace) -> int:
    from attention_collapse.repository.status import stale

    problems, absent = stale()
    for study in absent:
        print(f"{study}: has not run; no result of it is claimed")
    for problem in problems:
        print(problem)
    plural = "s" * (len(problems) != 1)
    print("everything committed is current" if not problems else f"{len(problems)} difference{plural}; run `dvc repro`")
    _say_departures()
    return 1 if problems else 0


def _evidence(_: argparse.Namespace) -> int:
    from attention_collapse.report.evidence_check import Check

    check = Check(Path()).run()
    for failure in check.failures:
        print(failure)
    if check.failures:
        print(f"{len(check.failures)} failures")
        return 1
    print(f"{check.citations} citations in {check.files} files resolve; no number is typed by hand")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from attention_collapse.report.difference import LIMIT
    from attention_collapse.repository.difference import difference

    print(difference(arguments.old, arguments.new, limit=None if arguments.all else LIMIT), end="")
    return 0


def _track(arguments: argparse.Namespace) -> int:
    from attention_collapse.report.tracking import mirror
    from attention_collapse.study.results import all_results

    results = all_results()
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    added, present = mirror(results, revision or "unknown", arguments.uri)
    print(f"{added} results added, {present} already there")
    return 0


def _pipeline(arguments: argparse.Namespace) -> int:
    from attention_collapse.files import write_text
    from attention_collapse.repository.pipeline import pipeline, studies

    stale = []
    for file, params in studies(Path()).items():
        text = pipeline(params)
        if not file.is_file() or file.read_text("utf-8") != text:
            stale.append(file)
            if arguments.write:
                write_text(file, text)
    for file in stale:
        print(f"{file}: {'written' if arguments.write else 'is not what repository/pipeline.py says'}")
    if not stale:
        print("every dvc.yaml is what repository/pipeline.py says")
    return 1 if stale and not arguments.write else 0


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attention-collapse", description="Modality use of vision-language models.")
    parser.set_defaults(in_repository=False)
    commands = parser.add_subparsers(required=True, metavar="command")
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
    commands.add_parser("models", help="list the models there are").set_defaults(run=_models)
    known = commands.add_parser("measures", help="list the measures there are, and what each means")
    known.add_argument("--write", action="store_true", help="write their table into this repository's docs instead")
    known.set_defaults(run=_measures)
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
    gate.set_defaults(run=_check, in_repository=True)
    commands.add_parser("verify", help="re-run the embedded study and compare every number").set_defaults(
        run=_verify, in_repository=True
    )
    current = commands.add_parser("status", help="exit 1 if a committed result is out of date")
    current.set_defaults(run=_status, in_repository=True)
    evidence = commands.add_parser("evidence", help="exit 1 unless every printed number resolves to its metrics line")
    evidence.add_argument("action", choices=("check",))
    evidence.set_defaults(run=_evidence, in_repository=True)
    diff = commands.add_parser("diff", help="metrics and decisions of two git revisions, as Markdown")
    diff.add_argument("old", metavar="REV", help="branch, tag or commit")
    diff.add_argument("new", metavar="REV", nargs="?", help="the other one (default: the working tree)")
    diff.add_argument("--all", action="store_true", help="list every value that changed")
    diff.set_defaults(run=_diff, in_repository=True)
    lines = commands.add_parser("pipeline", help="exit 1 unless every study's dvc.yaml is the one described")
    lines.add_argument("--write", action="store_true", help="write them instead")
    lines.set_defaults(run=_pipeline, in_repository=True)
    track = commands.add_parser("track", help="mirror the results into MLflow")
    track.add_argument(
        "--uri",
        help="tracking server (default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db); a relative path begins at the "
        "repository's root",
    )
    track.set_defaults(run=_track, in_repository=True)
    return parser


def _add_of_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind",
        help="kind of the checkpoint, where its files are not to say it; python or scorer: package.module:function",
    )
    parser.add_argument(
        "--architecture", help="of a weights file: open_clip's name (ViT-B-32), or a folder with its config"
    )
    parser.add_argument("--revision", help="of a hub id: the commit, 40 hex digits (also as organisation/name@commit)")
    parser.add_argument("--adapter", help="a PEFT folder or hub id with a LoRA, merged into the model")


def _add_diagnose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=MODEL)
    _add_of_model(parser)
    parser.add_argument("--pairs", required=True, type=_path, help="pairs in any format that docs/data.md lists")
    _add_source(parser)
    parser.add_argument("--n", type=_positive, help="number of images, a seeded subset (default: all)")
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of the subset (default: 0)")
    parser.add_argument("--rows", choices=("all", "readout"), default="all", help="query rows of the headline")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …, or auto: what there is (default: cpu)")
    parser.add_argument("--batch-size", type=_positive, default=32)
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
    parser.set_defaults(run=_diagnose)


def _add_max_unknown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-unknown", type=float, metavar="SHARE", help="share of the captions' tokens that may be unknown to the "
        "model, 0 to 1; with more it is refused (default: 0.5)",
    )  # fmt: skip


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", metavar="NAME", help="which split of a source that has several, such as val2017")
    parser.add_argument(
        "--columns", metavar="ROLE=NAME,…", help="the columns or keys, where they are not known: image=…,caption=…"
    )
    parser.add_argument("--images", type=_path, metavar="DIR", help="the folder in which the names of images begin")
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
        action.set_defaults(run=_pairs)
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
        "--candidates", type=_positive, help="so many of the most frequent answers are candidates, where none are given"
    )
    parser.add_argument("--n", type=_positive, help="number of images, a seeded subset (default: all)")
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of subset and partners (default: 0)")
    parser.add_argument(
        "--partners", type=_positive, default=8, help="others that lend image and question (default: 8)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …, or auto: what there is (default: cpu)")
    parser.add_argument("--batch-size", type=_positive, default=32)
    parser.add_argument("--strict", action="store_true", help="fail on a question that cannot be used")
    parser.add_argument("--out", type=_path, help="also write the result as JSON")
    parser.set_defaults(run=_questions)


def _add_explore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", help="a study that has run (embedded): its overview and training views")
    parser.add_argument("--model", help=f"instead: {MODEL}")
    _add_of_model(parser)
    parser.add_argument("--pairs", type=_path, help="with --model: pairs in any format that docs/data.md lists")
    parser.add_argument("--split", metavar="NAME", help="which split of a source that has several, such as val2017")
    parser.add_argument("--columns", metavar="ROLE=NAME,…", help="the columns or keys: image=…,caption=…")
    parser.add_argument("--images", type=_path, metavar="DIR", help="the folder in which the names of images begin")
    parser.add_argument("--n", type=_positive, help="images that are scored, a seeded subset (default: at most 100)")
    parser.add_argument("--show", type=_positive, default=4, help="pairs on the page, chosen by a rule (default: 4)")
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of the subset and of partners (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …, or auto: what there is (default: cpu)")
    parser.add_argument("--batch-size", type=_positive, default=32)
    parser.add_argument("--no-twin", action="store_true", help="leave out the untrained twin (a large model twice)")
    _add_max_unknown(parser)
    parser.add_argument("--t-shap", action="store_true", help="also what each word and image cell adds to the score")
    parser.add_argument("--strict", action="store_true", help="fail on an unusable image or caption")
    parser.add_argument("--out", type=_path, required=True, help="the HTML file to write")
    parser.set_defaults(run=_explore)


def _add_information(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", required=True, type=_path, help="CSV (image_id,label) or JSON (image id -> label)")
    parser.add_argument("--model", help=f"a dual encoder: {MODEL}")
    _add_of_model(parser)
    parser.add_argument("--pairs", type=_path, help="folder with annotations/captions_<split>.json")
    parser.add_argument(
        "--features", type=_path, help="instead: .npz with image_id (n,), image (n, width) and text (n, width)"
    )
    parser.add_argument("--folds", type=_positive, default=5, help="of the cross-fitting (default: 5)")
    parser.add_argument(
        "--components", type=_positive, default=16, help="principal components kept of each modality (default: 16)"
    )
    parser.add_argument("--seed", type=_not_negative, default=0, help="seed of the folds (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …, or auto: what there is (default: cpu)")
    parser.add_argument("--batch-size", type=_positive, default=32)
    parser.add_argument("--strict", action="store_true", help="fail on an image or a label without the other")
    parser.add_argument("--out", type=_path, help="also write the result as JSON")
    parser.set_defaults(run=_information)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    # What works on a repository runs at its root, wherever in it the user stands.
    with chdir(find_root()) if arguments.in_repository else nullcontext():
        status: int = arguments.run(arguments)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; what a user can cause or mend is a message, never a traceback.

    0: done, and a gate is passed. 1: a gate is not passed, or had nothing to judge, or an error in three parts is on
    standard error. 2: the arguments are wrong. 130: interrupted. 141: the reader of the output has closed it.
    """
    try:
        with explained(), readable_streams():
            return _run(argv)
    except AttentionCollapseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    sys.exit(main())
